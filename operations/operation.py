"""An operation of the API: its path, its parameters, its result and its function."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from inspect import getdoc, signature
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Concatenate,
    Final,
    Generic,
    Literal,
    TypeVar,
    get_origin,
    get_type_hints,
)

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from flowhook.errors import InvalidError
from flowhook.model.audit import MAX_AUDIT_REASON, audit_reason

if TYPE_CHECKING:
    from flowhook.client import AsyncClient
    from operations.tools import Tools

PLACEHOLDER: Final = re.compile(r"\{(\w+)\}")  # a parameter in a path
PageSize = Annotated[int, Field(ge=1, le=1000)]


class ParameterError(InvalidError):
    """Parameters are not acceptable (`PARAMETER_INVALID`).

    Attributes:
        fields: what is wrong, by name of the parameter.
    """

    def __init__(self, message: str, fields: Mapping[str, str]) -> None:
        super().__init__(message, reason="PARAMETER_INVALID")
        self.fields = fields


class Parameters(BaseModel):
    """Base class of the parameters of operations: immutable, and no others than those that are declared."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class NoParameters(Parameters):
    """Parameters of operations that take none."""


class PageParameters(Parameters):
    """Parameters of operations that list something page by page."""

    page_size: PageSize = 50
    """Items on the page at most; before the last page there may be fewer."""
    page_token: str = ""
    """`next_page_token` of the page before, with the same conditions; empty: the first page."""


def is_of_page(name: str) -> bool:
    """Whether a parameter is about pages: such ones are described last."""
    return name in PageParameters.model_fields


P = TypeVar("P", bound=Parameters)


class Reason(Parameters):
    """What operations take that change something."""

    reason: Annotated[str, Field(max_length=MAX_AUDIT_REASON)] = ""
    """Why; stands in the audit log."""


@dataclass(frozen=True, slots=True)
class Download:
    """A result that is streamed, and the name of its file, whatever characters it has."""

    name: str
    chunks: AsyncGenerator[bytes]


async def whole(content: bytes) -> AsyncGenerator[bytes]:
    """Yield content that is there already."""
    yield content


@cache
def _with_reason(parameters: type[P]) -> type[P]:
    if "reason" in parameters.model_fields:
        return parameters
    return create_model(parameters.__name__, __base__=(parameters, Reason), __doc__=parameters.__doc__)  # type: ignore[arg-type] # both are bases


@cache
def _signature(run: Callable[..., Any]) -> tuple[Any, Any, bool]:
    """Return the types of an operation's parameters and result, and whether it takes `Tools`."""
    names = [*signature(run).parameters]
    hints = get_type_hints(run, localns={"AsyncClient": Any, "Tools": Any})  # imported for type checkers alone
    result = hints["return"]
    return hints[names[1]], bytes if result in (AsyncIterator[bytes], Download) else result, len(names) > 2  # noqa: PLR2004


@dataclass(frozen=True, slots=True)
class Operation(Generic[P]):
    """A function, and how it is reached."""

    method: Literal["GET", "POST"]  # `GET` for one that reads, `POST` for one that writes
    path: str  # path below `/api`, with `{name}` for parameters that it contains
    run: Callable[Concatenate[AsyncClient, P, ...], Awaitable[Any]]  # given a client, parameters and maybe `Tools`
    # of one whose result is streamed, and is no `Download`: name of the file, with `{name}` for parameters of the path
    download: str = ""
    items: str = ""  # of one that lists something page by page: the field of its result that has what it lists

    @property
    def name(self) -> str:
        return self.run.__name__

    @property
    def summary(self) -> str:
        return (getdoc(self.run) or "").partition("\n")[0]

    @property
    def parameters(self) -> type[P]:
        """Parameters in the path; and those of the query (`GET`) or of the JSON body (`POST`)."""
        kind: type[P] = _signature(self.run)[0]
        return kind

    @property
    def result(self) -> Any:
        """Type of the result, from which OpenAPI's schema is made; `bytes` for a body that is streamed."""
        return _signature(self.run)[1]

    @property
    def writes(self) -> bool:
        return self.method != "GET"

    @property
    def path_parameters(self) -> tuple[str, ...]:
        return tuple(PLACEHOLDER.findall(self.path))

    @property
    def model(self) -> type[P]:
        return self.parameters if not self.writes else _with_reason(self.parameters)

    async def perform(self, client: AsyncClient, parameters: P, tools: Tools) -> Any:
        with audit_reason(getattr(parameters, "reason", "")):
            return await self.run(client, parameters, *([tools] if _signature(self.run)[2] else []))

    def read(self, path: Mapping[str, str], given: Mapping[str, Any]) -> P:
        """Return its parameters, given those of the path and those of the body.

        Raises:
            ParameterError: one is unknown, missing or not acceptable; the message says which there are.
        """
        if clash := given.keys() & path.keys():
            text = "stands in the path already"
            raise ParameterError(f"{min(clash)} {text}", dict.fromkeys(clash, text))
        try:
            return self.model.model_validate({**given, **path})
        except ValidationError as error:
            raise self._explain(error) from None

    def read_query(self, path: Mapping[str, str], query: Mapping[str, Sequence[str]]) -> P:
        """Return its parameters, given those of a query or of a form.

        Raises:
            ParameterError: see `read`; or one stands there twice that is no list.
        """
        for name, texts in query.items():
            if len(list(filter(None, texts))) > 1 and not self._is_list(name):
                raise ParameterError(f"{name[:100]} may be given once", {name: "may be given once"})
        return self.read(path, self._given(query))

    def draft(self, path: Mapping[str, str], query: Mapping[str, Sequence[str]], invalid: Collection[str]) -> P:
        """Return what `read_query` refuses, to be corrected: `invalid` parameters are the texts that were given."""
        given = {name: value for name, value in self._given(query).items() if name in self.model.model_fields}
        valid = {**{name: value for name, value in given.items() if name not in invalid}, **path}
        try:
            draft = self.model.model_validate(valid)
        except ValidationError:  # one is missing
            draft = self.model.model_construct(**valid)
        return draft.model_copy(update={name: value for name, value in given.items() if name in invalid})

    def _is_list(self, name: str) -> bool:
        field = self.model.model_fields.get(name)
        return field is not None and get_origin(field.annotation) is tuple

    def _given(self, query: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        texts = {name: tuple(filter(None, values)) for name, values in query.items()}
        lists = {name: values for name, values in texts.items() if self._is_list(name)}
        return {name: values[0] for name, values in texts.items() if values} | lists

    def _explain(self, error: ValidationError) -> ParameterError:
        messages: list[str] = []
        problems: dict[str, str] = {}
        for each in error.errors(include_url=False, include_context=False, include_input=False):
            name, text = ".".join(map(str, each["loc"])) or "parameters", each["msg"]
            if each["type"] == "extra_forbidden":
                fields = sorted(self.model.model_fields.items(), key=lambda each: is_of_page(each[0]))
                known = [field.alias or one for one, field in fields if one not in self.path_parameters]
                text = f"there is no parameter {name[:100]!r}: write {', '.join(known) or 'none'}"
                messages.append(text)
            else:
                messages.append(f"{name[:100]}: {text}")
            problems.setdefault(name.partition(".")[0], text)
        return ParameterError(messages[0], problems)
