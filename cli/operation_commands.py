"""Makes commands of operations: their options are the operation's parameters, `--json` prints its result."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Union, cast, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from cli.options import DataDir, Json, Router, Yes, confirm, read_content
from operations.operation import Operation, ParameterError, Parameters

if TYPE_CHECKING:
    from flowhook.client import AsyncClient, Client
    from operations.tools import Tools

MAX_PAGE: Final = 500  # items that are asked for at a time

# parameters that programs need, and people do not; `--limit` stands for those of pages
NO_OPTIONS: Final = frozenset({"page_size", "page_token", "request_id"})

# what stands for the values of parameters; else it is that of their type
METAVARS: Final = {
    **dict.fromkeys(("execution_id", "flow_id", "job_id", "rejection_id", "flow", "caused_by"), "ID"),
    **dict.fromkeys(("since", "until"), "TIME"),
    **dict.fromkeys(("task", "error_task"), "POINTER"),
    "attribute": "NAME:VALUE",
    "jq": "CONDITION",
}

KIND_METAVARS: Final[Mapping[Any, str]] = {int: "N", float: "N", bytes: "TEXT_OR_@FILE"}

COMMON: Final[Mapping[str, tuple[Any, Any]]] = {
    "json": (Json, False),
    "router": (Router, None),
    "data_dir": (DataDir, None),
}

# what a description says of a parameter that is not given, as far as that is nothing
_ABSENT: Final = re.compile(r"; (?:empty|absent|none|null|0): [^;.]*(?=[;.])")


class Operator:
    """Performs operations one after another, in an event loop of its own, with the blocking client.

    That one follows the owner of the shard.
    """

    def __init__(self, client: Client, loop: asyncio.AbstractEventLoop) -> None:
        self.client = client
        self._loop = loop
        self._tools: Tools | None = None

    def perform(self, operation: Operation[Any], parameters: Parameters | None = None, **given: Any) -> Any:
        """Return the result of an operation, given its parameters or their values; raises as the operation does."""
        wanted = operation.read({}, given) if parameters is None else parameters
        awaited = cast("AsyncClient", _Awaited(self.client))
        # `asyncio.run` would turn a Ctrl-C into a cancellation, which a blocking call does not see
        return self._loop.run_until_complete(operation.perform(awaited, wanted, self.tools))

    def shown(self, operation: Operation[Any], parameters: Parameters | None = None, **given: Any) -> Any:
        """Return what `--json` prints of the result of an operation, as data."""
        return shown(self.perform(operation, parameters, **given))

    def chunks(self, operation: Operation[Any], parameters: Parameters) -> Iterator[bytes]:
        """Yield what an operation streams."""
        chunks = self.perform(operation, parameters)
        while (chunk := self._loop.run_until_complete(anext(chunks, None))) is not None:
            yield chunk

    def pages(self, operation: Operation[Any], parameters: Parameters, limit: int | None = None) -> Iterator[Any]:
        """Yield the pages of an operation that lists something, until they have `limit` items; None: all."""
        token, left = "", limit
        while True:
            size = MAX_PAGE if left is None else min(left, MAX_PAGE)
            page = self.perform(operation, parameters.model_copy(update={"page_size": size, "page_token": token}))
            yield page
            token = page.next_page_token
            left = None if left is None else left - len(getattr(page, operation.items))
            if not token or left == 0:
                return

    @property
    def tools(self) -> Tools:
        """What operations use besides the client; commands compute no traces."""
        if self._tools is None:
            from operations.tools import Tools

            self._tools = Tools()
        return self._tools

    async def close(self) -> None:
        """End the processes that operations started."""
        if self._tools is not None:
            await self._tools.evaluator.aclose()


def shown(result: Any) -> Any:
    """Return what `--json` prints of a result, as data."""
    import json

    import orjson

    from operations.encoding import to_json

    text = to_json(result)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:  # nested more deeply than it reads
        return json.loads(text)


@contextmanager
def open_operator(router: str | None, data_dir: Path | None) -> Iterator[Operator]:
    """Open an operator with the admin token; raises as `cli.client_factory.open_client` does."""
    from cli.client_factory import client_for, client_settings

    loop = asyncio.new_event_loop()
    try:
        with client_for(client_settings(router, data_dir)) as client:
            operator = Operator(client, loop)
            try:
                yield operator
            finally:
                loop.run_until_complete(operator.close())
    finally:
        loop.close()


class _Awaited:
    """A blocking client as operations take one: what its methods return can be awaited, or iterated over."""

    def __init__(self, part: Any) -> None:
        self._part = part

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._part, name)
        if not callable(member):
            return _Awaited(member)

        def call(*arguments: Any, **options: Any) -> Any:
            result = member(*arguments, **options)
            return _yielded(result) if inspect.isgenerator(result) else _returned(result)

        return call


async def _returned(result: Any) -> Any:
    return result


async def _yielded(results: Iterator[Any]) -> AsyncIterator[Any]:
    for result in results:
        yield result


@dataclass(frozen=True, slots=True)
class OperationCall:
    """A command that was called: what performs operations, the parameters that were given, and how to print."""

    operator: Operator
    operation: Operation[Any]
    parameters: Any
    options: Mapping[str, Any]
    """Values of the command's further options, by name."""

    @property
    def json(self) -> bool:
        """Whether programs read what is printed."""
        return bool(self.options["json"])

    def perform(self) -> Any:
        """Return the result of the operation."""
        return self.operator.perform(self.operation, self.parameters)


def options_of(
    model: type[Parameters],
    *,
    arguments: Mapping[str, str],
    optional: Iterable[str] = (),
    leave_out: Iterable[str] = (),
) -> list[inspect.Parameter]:
    """Return the parameters of a function from which typer makes an option of each parameter.

    Args:
        model: the parameters.
        arguments: those that are arguments of the command, with what stands for them in its usage.
        optional: arguments that may be left out.
        leave_out: those that have no option.
    """
    hidden = NO_OPTIONS.union(leave_out)
    shown = {name: field for name, field in model.model_fields.items() if name not in hidden}
    order = [*arguments, *(name for name in shown if name not in arguments)]
    return [
        _parameter(name, shown[name], arguments.get(name), required=shown[name].is_required() and name not in optional)
        for name in order
    ]


def read_options(operation: Operation[Any], given: Mapping[str, Any], **values: Any) -> Any:
    """Return the parameters of an operation that options name, without those that are not given.

    Raises:
        typer.BadParameter: one is not acceptable, or a file can't be read.
    """
    model = operation.model
    wanted = {name: value for name, value in given.items() if name in model.model_fields and value not in (None, [])}
    for name, value in wanted.items():
        if kind_of(model.model_fields[name].annotation)[0] is bytes:
            wanted[name] = read_content(option_name(name), value)
    named = {model.model_fields[name].alias or name: value for name, value in (wanted | values).items()}
    with usage_errors(given):
        return operation.read({}, named)


@contextmanager
def usage_errors(given: Mapping[str, Any]) -> Iterator[None]:
    """Report parameters that are not acceptable as wrong usage of the options that were given."""
    try:
        yield
    except ParameterError as error:
        name, message = next(iter(error.fields.items()))
        value = given.get(name)
        value = value[0] if isinstance(value, list) and len(value) == 1 else value
        shown = f" {value[:100]}" if isinstance(value, str) else ""
        raise typer.BadParameter(f"{option_name(name)}{shown}: {message}") from None


def one_of(*names: str) -> Callable[[Mapping[str, Any]], None]:
    """Return what refuses several of these options together."""

    def check(given: Mapping[str, Any]) -> None:
        if sum(map(bool, map(given.get, names))) > 1:
            raise typer.BadParameter(f"give one of {' and '.join(map(option_name, names))}")

    return check


def option_name(name: str) -> str:
    """Return the option of a parameter."""
    return f"--{name.replace('_', '-')}"


def command(
    operation: Operation[Any],
    show: Callable[[OperationCall], None],
    *,
    text: str,
    arguments: Mapping[str, str] | None = None,
    optional: Iterable[str] = (),
    leave_out: Iterable[str] = (),
    more: Mapping[str, tuple[Any, Any]] | None = None,
    question: str = "",
    check: Callable[[Mapping[str, Any]], None] = lambda _given: None,
) -> Callable[..., None]:
    """Return a function from which typer makes the command of an operation.

    Args:
        operation: the operation.
        show: performs it and prints the result.
        text: what `--help` says.
        arguments: parameters that are arguments, with what stands for them in the command's usage; default: those of
            the operation's path.
        optional: arguments that may be left out.
        leave_out: parameters that have no option.
        more: annotation and default of each further option.
        question: asked on a terminal first, with `{name}` for parameters.
        check: refuses options that do not go together, before anything is done.
    """
    in_path = {name: METAVARS.get(name, name.upper()) for name in operation.path_parameters}
    placed = in_path if arguments is None else arguments
    extra = {**(more or {}), **({"yes": (Yes, False)} if question else {}), **COMMON}

    def run(**given: Any) -> None:
        check(given)
        parameters = read_options(operation, given)
        if question:
            confirm(question.format(**parameters.model_dump()), yes=given["yes"])
        with open_operator(given["router"], given["data_dir"]) as operator, usage_errors(given):
            show(OperationCall(operator, operation, parameters, given))

    hidden = (*leave_out, *(() if "reason" in operation.parameters.model_fields else ("reason",)))
    signature = [
        *options_of(operation.model, arguments=placed, optional=optional, leave_out=hidden),
        *(keyword(name, annotation, default) for name, (annotation, default) in extra.items()),
    ]
    return with_signature(run, signature, text)


def with_signature(
    function: Callable[..., None], parameters: Iterable[inspect.Parameter], text: str
) -> Callable[..., None]:
    """Return a function from whose parameters typer makes a command, and that passes them on; `text` is its help."""

    def called(**given: Any) -> None:
        function(**given)

    called.__signature__ = inspect.Signature(list(parameters))  # type: ignore[attr-defined] # what typer reads
    called.__doc__ = text
    return called


def keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    """Return a parameter that typer makes an option of."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _parameter(name: str, field: FieldInfo, argument: str | None, *, required: bool) -> inspect.Parameter:
    kind, several = kind_of(field.annotation)
    is_choice = get_origin(kind) is Literal or (isinstance(kind, type) and issubclass(kind, Enum))
    metavar = None if is_choice or kind is bool else METAVARS.get(name, KIND_METAVARS.get(kind, "TEXT"))
    about = _about(field)
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    if default and kind is not bool and not several:
        about = (
            f"{about.rstrip('.')}; default: {default:g}."
            if kind is float
            else f"{about.rstrip('.')}; default: {default}."
        )
    if argument is not None:
        info: Any = typer.Argument(metavar=argument, help=about, show_default=False)
    else:
        info = typer.Option(option_name(name), metavar=metavar, help=about, show_default=False, case_sensitive=False)
    if kind is bool:
        return keyword(name, Annotated[bool, info], default=False)
    typed = str if kind is bytes else kind
    whole = list[typed] if several else typed  # type: ignore[valid-type] # computed
    if required:
        return keyword(name, Annotated[whole, info], inspect.Parameter.empty)
    return keyword(name, Annotated[whole | None, info], None)


def kind_of(annotation: Any) -> tuple[Any, bool]:
    """Return the type of a parameter's values, and whether there may be several."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, UnionType):
        return kind_of(next(each for each in get_args(annotation) if each is not type(None)))
    if get_origin(annotation) is tuple:
        return kind_of(get_args(annotation)[0])[0], True
    return annotation, False


def _about(field: FieldInfo) -> str:
    """Return what `--help` says of a parameter: its description."""
    text = " ".join((field.description or "").split())
    return _ABSENT.sub("", text)


def listing(
    operation: Operation[Any],
    columns: Sequence[str],
    row: Callable[[Any], Sequence[object]],
    *,
    text: str,
    empty: str,
    limit: int | None = None,
    about_limit: str = "Maximum number.",
    after: Callable[[Sequence[Any]], None] = lambda _pages: None,
) -> Callable[..., None]:
    """Return the command of an operation that lists something: a table, or with `--json` an item a line.

    Args:
        operation: the operation.
        columns: heads of the table.
        row: returns an item as a row.
        text: what `--help` says.
        empty: printed in place of an empty table.
        limit: default of `--limit`; None: all are listed, and there is no such option.
        about_limit: what `--help` says of it.
        after: called with the pages that were read.
    """

    def show(call: OperationCall) -> None:
        from cli.output import print_json, print_table

        pages = []

        def found() -> Iterator[Any]:
            for page in call.operator.pages(operation, call.parameters, call.options.get("limit")):
                pages.append(page)
                yield from getattr(page, operation.items)
            after(pages)
            flow = getattr(call.parameters, "flow", "")
            if flow and not any(getattr(page, operation.items) for page in pages):
                call.operator.client.flows.get(flow)  # what is stored of a deleted flow is listed; of none, refused

        if call.json:
            for item in found():
                print_json(item)
        else:
            print_table(columns, (row(shown(item)) for item in found()), empty=empty)

    more = {} if limit is None else {"limit": (Annotated[int, typer.Option(min=1, help=about_limit)], limit)}
    return command(operation, show, text=text, more=more)


def showing(say: Callable[[Any], str | None]) -> Callable[[OperationCall], None]:
    """Return what performs an operation and prints its result: with `--json` as that, else what `say` returns of it."""

    def show(call: OperationCall) -> None:
        from cli.output import print_json

        result = call.perform()
        if call.json:
            print_json(result)
        elif (text := say(shown(result))) is not None:
            print(text)

    return show
