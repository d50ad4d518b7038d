"""What a component is made of."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from flowhook.config import RunnerSettings
from runner.attachments import NO_ATTACHMENTS, Attachments
from runner.components.shared import Shared
from runner.interpreter.errors import Kind, fault
from runner.outbound import BoundClient

if TYPE_CHECKING:
    import structlog

CONTEXT: Final = "context"


class SecretReader(Protocol):
    """Resolves secrets by name."""

    async def __call__(self, name: str) -> bytes:
        """Return the value of a secret; raises TaskFault (authorization) when it is not set."""
        ...


@dataclass(frozen=True, slots=True)
class Context:
    """What the runner offers a component for one call.

    Attributes:
        idempotency_key: the same whenever this very call is repeated; at most 255 ASCII characters.
        deadline: on the event loop's clock, in seconds; the call is cancelled then.
        log: logger that knows the execution and the task; never hand it data, headers or secrets.
        secret: `await context.secret(name)` gives the value of a secret; they change, so don't keep them.
        http: client that obeys the address policy, the deadline and the bounds on size.
        settings: of this runner, without credentials.
        shared: `context.shared.get(Kind)` gives what all calls of the process share; see `Kept`.
        attachments: `context.attachments.find(handle)` gives an attachment of the request that started the execution.
    """

    idempotency_key: str
    deadline: float
    log: structlog.stdlib.BoundLogger
    secret: SecretReader
    http: BoundClient
    settings: RunnerSettings
    shared: Shared
    attachments: Attachments = NO_ATTACHMENTS


class _Keywords(BaseModel):
    """Base of the models that are made of keyword parameters."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=False)


@dataclass(frozen=True, slots=True)
class Component:
    """A function that a `call` may name.

    Attributes:
        name: as flows write it.
        model: what the arguments are checked against.
        summary: first line of the function's docstring.
    """

    name: str
    model: type[BaseModel]
    _invoke: Callable[[BaseModel, Context], Awaitable[Any]]
    summary: str = ""

    async def __call__(self, arguments: Mapping[str, Any], context: Context) -> Any:
        """Check the arguments and call the function.

        Raises:
            TaskFault: the arguments are wrong (configuration), or what the function says.
        """
        try:
            checked = self.model.model_validate(arguments)
        except ValidationError as problem:
            raise fault(Kind.CONFIGURATION, _explain(self.name, arguments, problem)) from None
        return await self._invoke(checked, context)


def component(name: str) -> Callable[[Callable[..., Awaitable[Any]]], Component]:
    """Make an async function a component; see `runner.components`."""

    def decorate(function: Callable[..., Awaitable[Any]]) -> Component:
        parameters = inspect.signature(function).parameters
        hints = typing.get_type_hints(function)
        names = [parameter for parameter in parameters if parameter != CONTEXT]
        summary = (inspect.getdoc(function) or "").partition("\n")[0]
        if len(names) == 1 and inspect.isclass(hint := hints.get(names[0])) and issubclass(hint, BaseModel):
            return Component(name, hint, function, summary)

        fields: dict[str, Any] = {
            parameter: (
                hints.get(parameter, Any),
                ... if parameters[parameter].default is inspect.Parameter.empty else parameters[parameter].default,
            )
            for parameter in names
        }
        model = create_model(name, __base__=_Keywords, **fields)
        return Component(
            name,
            model,
            lambda checked, context: function(**{key: getattr(checked, key) for key in fields}, context=context),
            summary,
        )

    return decorate


_EXPECTED: Final[Mapping[str, str]] = {
    "string_type": "a text",
    "int_type": "an integer",
    "bool_type": "true or false",
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "a mapping"),
    **dict.fromkeys(("list_type", "tuple_type"), "a list"),
}
"""What is expected, by the type of pydantic's error."""


def _explain(name: str, arguments: Mapping[str, Any], problem: ValidationError) -> str:
    """Return which arguments are wrong and how, never their values."""
    causes: dict[str, list[str]] = {}
    expected: dict[str, list[str]] = {}
    for detail in problem.errors(include_url=False, include_context=False, include_input=False):
        kind = detail["type"]
        place = ".".join(("with", *_place(detail["loc"], arguments, ends_inside=kind != "missing")))
        if kind in _EXPECTED:
            expected.setdefault(place, []).append(_EXPECTED[kind])
        else:
            causes.setdefault(place, []).append("is missing" if kind == "missing" else detail["msg"])
    for place, kinds in expected.items():
        if any(inner.startswith(f"{place}.") for inner in {**causes, **expected}):
            continue  # it is another type of the union that comes nearer
        causes.setdefault(place, []).insert(0, f"expected {' or '.join(dict.fromkeys(kinds))}")
    return f"{name}: " + "; ".join(f"{place}: {', '.join(each)}" for place, each in causes.items())


def _place(loc: tuple[int | str, ...], arguments: Any, *, ends_inside: bool) -> Iterator[str]:
    """Yield the steps of an error's place, without the names of a union's types behind it.

    Args:
        loc: as pydantic tells it.
        arguments: as handed over.
        ends_inside: whether the place is there.
    """
    node = arguments
    for index, step in enumerate(loc):
        is_there = (isinstance(node, Mapping) and step in node) or (
            isinstance(node, list) and isinstance(step, int) and step < len(node)
        )
        if is_there:
            node = node[step]
            yield str(step)
        elif not ends_inside and index == len(loc) - 1:
            yield str(step)
