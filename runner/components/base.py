"""API for components: the decorator `component`, and the `Context` of a call."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import typing
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from flowhook.process.settings import RunnerSettings
from runner.interpreter.errors import Kind, fault
from runner.interpreter.json_codec import encode
from runner.outbound.bound_client import BoundClient
from runner.outbound.destinations import CallGate
from runner.outbound.request_bodies import NO_ATTACHMENTS, Attachments

if TYPE_CHECKING:
    import structlog


class ClosableResource(Protocol):
    """An object that all calls of a process share. It must limit its own size."""

    def __init__(self, settings: RunnerSettings, /) -> None: ...

    async def close(self) -> None:
        """Release its resources; no call is running any more."""
        ...


Resource = TypeVar("Resource", bound=ClosableResource)


class SharedResources:
    """The shared objects of a process, one of each class. Use it as an async context manager, which closes them."""

    def __init__(self, settings: RunnerSettings) -> None:
        self._settings = settings
        self._resources: dict[type[Any], Any] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        while self._resources:
            _, resource = self._resources.popitem()
            await resource.close()

    def get(self, kind: type[Resource]) -> Resource:
        """Return the only instance of `kind`, created as `kind(settings)` on first use."""
        if kind not in self._resources:
            self._resources[kind] = kind(self._settings)
        resource: Resource = self._resources[kind]
        return resource


class SecretReader(Protocol):
    """Resolves secrets by name."""

    async def __call__(self, name: str) -> bytes:
        """Return the value of a secret; raises TaskFault (authorization) when it is not set."""
        ...


@dataclass(frozen=True, slots=True)
class Context:
    """Services of the runner for one call of a component.

    Attributes:
        idempotency_key: the same on every repetition of this call; at most 255 ASCII characters.
        deadline: on the event loop's clock, in seconds; the call is cancelled then.
        log: logger bound to the execution and the task; never log data, headers or secrets.
        secret: `await context.secret(name)` returns the value of a secret; secrets change, so don't cache them.
        http: client that enforces the address policy, the deadline and the limits on size.
        settings: settings of this runner, without credentials.
        shared: `context.shared.get(Kind)` returns an object that all calls of the process share (`ClosableResource`).
        calling: `with context.calling("smtp://host:25"):` around a call that `http` does not make: while that is down,
            the execution parks instead.
        attachments: `context.attachments.find(handle)` returns an attachment of the request that started the execution.
    """

    idempotency_key: str
    deadline: float
    log: structlog.stdlib.BoundLogger
    secret: SecretReader
    http: BoundClient
    settings: RunnerSettings
    shared: SharedResources
    attachments: Attachments = NO_ATTACHMENTS
    _gate: CallGate | None = None

    def calling(self, origin: str) -> AbstractContextManager[None]:
        """Return a context for a call to an origin: it raises, and the execution parks, while that is down."""
        return nullcontext() if self._gate is None else self._gate.calling(origin)


async def load_optional(function: str, module: str, extra: str) -> Any:
    """Import a module of a function on first use, which needs an extra of the distribution; empty: none.

    Raises:
        TaskFault: a library is not installed (configuration).
    """
    try:
        return await asyncio.to_thread(importlib.import_module, module)
    except ModuleNotFoundError as problem:
        if not extra:
            raise
        detail = f"{function}: this runner lacks {problem.name}: install flowhook[{extra}] where runners run"
        raise fault(Kind.CONFIGURATION, detail) from None


def time_left(context: Context, least: float = 0.001) -> float:
    """Return the seconds until the deadline of a call, at least `least`."""
    return max(least, context.deadline - asyncio.get_running_loop().time())


class _Keywords(BaseModel):
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=False)


@dataclass(frozen=True, slots=True)
class Component:
    """A function that a `call` may name."""

    name: str  # name under which flows call it
    model: type[BaseModel]  # model that validates the arguments
    _invoke: Callable[[BaseModel, Context], Awaitable[Any]]
    summary: str = ""  # first line of the function's docstring

    async def __call__(self, arguments: Mapping[str, Any], context: Context) -> Any:
        """Validate the arguments and call the function.

        Raises:
            TaskFault: the arguments are invalid (configuration), or the function raised it.
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
        names = [parameter for parameter in parameters if parameter != "context"]
        summary = (inspect.getdoc(function) or "").partition("\n")[0]
        if len(names) == 1 and inspect.isclass(hint := hints.get(names[0])) and issubclass(hint, BaseModel):
            return Component(name, hint, function, summary)

        given = {each: parameters[each].default for each in names}
        fields: dict[str, Any] = {
            each: (hints.get(each, Any), ... if default is inspect.Parameter.empty else default)
            for each, default in given.items()
        }

        async def invoke(checked: BaseModel, context: Context) -> Any:
            return await function(**{key: getattr(checked, key) for key in fields}, context=context)

        return Component(name, create_model(name, __base__=_Keywords, **fields), invoke, summary)

    return decorate


def as_text(value: Any) -> str:
    """Return a JSON value as a parameter, header or argument has it: a string as it is, anything else as JSON."""
    return value if isinstance(value, str) else encode(value).decode()


# expected kind of value, by the type of pydantic's error
_EXPECTED: Final[Mapping[str, str]] = {
    "string_type": "a text",
    "int_type": "an integer",
    "bool_type": "true or false",
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "a mapping"),
    **dict.fromkeys(("list_type", "tuple_type"), "a list"),
}


def _explain(name: str, arguments: Mapping[str, Any], problem: ValidationError) -> str:
    """Return which arguments are invalid and why, never their values."""
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
            continue  # another type of the union matches more of the value
        causes.setdefault(place, []).insert(0, f"expected {' or '.join(dict.fromkeys(kinds))}")
    return f"{name}: " + "; ".join(f"{place}: {', '.join(each)}" for place, each in causes.items())


def _place(loc: tuple[int | str, ...], arguments: Any, *, ends_inside: bool) -> Iterator[str]:
    """Yield the path of an error in the arguments, without the names of union types that pydantic adds to its `loc`.

    `ends_inside`: the location exists in the arguments.
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
