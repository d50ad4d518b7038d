"""An operation of the API: its path, its parameters, its result and its function."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from flowhook.client import AsyncClient
from flowhook.errors import InvalidError

PLACEHOLDER: Final = re.compile(r"\{(\w+)\}")
"""A parameter in a path."""


class Parameters(BaseModel):
    """Base class of the parameters of operations: immutable, and no others than those that are declared."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


P = TypeVar("P", bound=Parameters)


@dataclass(frozen=True, slots=True)
class Operation(Generic[P]):
    """An operation.

    Attributes:
        name: in lower_snake_case; unique.
        method: `GET` for one that reads, `POST` for one that writes.
        path: path below `/api`, with `{name}` for parameters that it contains.
        summary: one line.
        parameters: parameters in the path; and those of the query (`GET`) or of the JSON body (`POST`).
        result: type of the result, from which OpenAPI's schema is made; `bytes` for a body that is streamed.
        run: performs it.
    """

    name: str
    method: str
    path: str
    summary: str
    parameters: type[P]
    result: type
    run: Callable[[AsyncClient, P], Awaitable[Any]]

    @property
    def writes(self) -> bool:
        """Whether it changes something: only operators may."""
        return self.method != "GET"

    @property
    def path_parameters(self) -> tuple[str, ...]:
        """Names of the parameters that its path contains."""
        return tuple(PLACEHOLDER.findall(self.path))

    def read(self, path: Mapping[str, str], given: Mapping[str, Any]) -> P:
        """Return its parameters.

        Args:
            path: parameters of the path.
            given: parameters of the body, or of the query as lists of texts; empty texts count as absent.

        Raises:
            InvalidError: one is unknown, missing or not acceptable (`PARAMETER_INVALID`); the message says which there
                are.
        """
        if clash := given.keys() & path.keys():
            raise InvalidError(f"{min(clash)} stands in the path already", reason="PARAMETER_INVALID")
        try:
            return self.parameters.model_validate({**given, **path})
        except ValidationError as error:
            raise InvalidError(self._explain(error), reason="PARAMETER_INVALID") from None

    def read_query(self, path: Mapping[str, str], query: Mapping[str, Sequence[str]]) -> P:
        """Return its parameters, given those of a query or of a form.

        Raises:
            InvalidError: see `read`; or one stands there twice that is no list.
        """
        given: dict[str, Any] = {}
        for name, texts in query.items():
            values = [text for text in texts if text]
            field = self.parameters.model_fields.get(name)
            if field is not None and get_origin(field.annotation) is tuple:
                given[name] = tuple(values)
            elif len(values) > 1:
                raise InvalidError(f"{name} may be given once", reason="PARAMETER_INVALID")
            elif values:
                given[name] = values[0]
        return self.read(path, given)

    def _explain(self, error: ValidationError) -> str:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        name = ".".join(map(str, first["loc"])) or "parameters"
        if first["type"] == "extra_forbidden":
            known = [each for each in self.parameters.model_fields if each not in self.path_parameters]
            return f"there is no parameter {name[:100]!r}: write {', '.join(known) or 'none'}"
        return f"{name[:100]}: {first['msg']}"
