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
from typer import Argument, Option

from cli.options import DataDir, Json, Router, Yes, confirm, read_content
from cli.output import print_json, print_table
from cli.setting_names import option_name
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
        from operations.tools import Tools

        wanted = operation.read({}, given) if parameters is None else parameters
        self._tools = self._tools or Tools()  # without a tracer: commands compute no traces
        awaited = cast("AsyncClient", _Awaited(self.client))
        # `asyncio.run` would turn a Ctrl-C into a cancellation, which a blocking call does not see
        return self._loop.run_until_complete(operation.perform(awaited, wanted, self._tools))

    def shown(self, operation: Operation[Any], parameters: Parameters | None = None, **given: Any) -> Any:
        return shown(self.perform(operation, parameters, **given))

    def chunks(self, operation: Operation[Any], **given: Any) -> Iterator[bytes]:
        chunks = self.perform(operation, **given)
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

    def close(self) -> None:
        if self._tools is not None:
            self._loop.run_until_complete(self._tools.evaluator.aclose())
        self._loop.close()


@contextmanager
def open_operator(router: str | None, data_dir: Path | None) -> Iterator[Operator]:
    """Open an operator with the admin token; raises as `cli.client_factory.open_client` does."""
    from cli.client_factory import open_client

    with open_client(router, data_dir) as client:
        operator = Operator(client, asyncio.new_event_loop())
        try:
            yield operator
        finally:
            operator.close()


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


def shown(result: Any) -> Any:
    import json

    import orjson

    from operations.encoding import to_json

    text = to_json(result)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:  # nested more deeply than it reads
        return json.loads(text)


@dataclass(frozen=True, slots=True)
class OperationCall:
    """A command that was called: what performs operations, the parameters that were given, and how to print."""

    operator: Operator
    operation: Operation[Any]
    parameters: Any
    options: Mapping[str, Any]  # of the command, by name

    @property
    def json(self) -> bool:
        return bool(self.options["json"])

    def perform(self) -> Any:
        return self.operator.perform(self.operation, self.parameters)


Show = Callable[[OperationCall], None]


def keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def flag(name: str, text: str) -> inspect.Parameter:
    """Return a parameter that typer makes an option without a value of; `text`: what `--help` says."""
    return keyword(name, Annotated[bool, Option(option_name(name), help=text)], default=False)


COMMON: Final = (
    keyword("json", Json, default=False),
    keyword("router", Router, None),
    keyword("data_dir", DataDir, None),
)
YES: Final = keyword("yes", Yes, default=False)


def options_of(
    model: type[Parameters], *, arguments: Mapping[str, str] | None = None, leave_out: Iterable[str] = ()
) -> list[inspect.Parameter]:
    """Return the parameters of a function from which typer makes an option of each parameter.

    `arguments`: those that are arguments of the command, with what stands for them in its usage.
    """
    placed, hidden = arguments or {}, NO_OPTIONS.union(leave_out)
    shown = {name: field for name, field in model.model_fields.items() if name not in hidden}
    order = dict.fromkeys((*placed, *shown))
    return [_parameter(name, shown[name], placed.get(name)) for name in order]


def _parameter(name: str, field: FieldInfo, argument: str | None) -> inspect.Parameter:
    kind, several = kind_of(field.annotation)
    is_choice = get_origin(kind) is Literal or (isinstance(kind, type) and issubclass(kind, Enum))
    metavar = None if is_choice or kind is bool else METAVARS.get(name, KIND_METAVARS.get(kind, "TEXT"))
    about = _ABSENT.sub("", " ".join((field.description or "").split()))
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    if default and kind is not bool and not several:
        about = f"{about.rstrip('.')}; default: {f'{default:g}' if kind is float else default}."
    if argument is not None:
        info: Any = Argument(metavar=argument, help=about, show_default=False)
    else:
        info = Option(option_name(name), metavar=metavar, help=about, show_default=False, case_sensitive=False)
    if kind is bool:
        return keyword(name, Annotated[bool, info], default=False)
    typed = str if kind is bytes else kind
    whole = list[typed] if several else typed  # type: ignore[valid-type] # computed
    if field.is_required():
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


def read_options(operation: Operation[Any], given: Mapping[str, Any], **values: Any) -> Any:
    """Return the parameters of an operation that options name, without those that are not given."""
    fields = operation.model.model_fields
    wanted = {name: value for name, value in given.items() if name in fields and value not in (None, [])}
    for name, value in wanted.items():
        if kind_of(fields[name].annotation)[0] is bytes:
            wanted[name] = read_content(option_name(name), value)
    with usage_errors(given):
        return operation.read({}, {fields[name].alias or name: value for name, value in (wanted | values).items()})


@contextmanager
def usage_errors(given: Mapping[str, Any]) -> Iterator[None]:
    try:
        yield
    except ParameterError as error:
        name, message = next(iter(error.fields.items()))
        value = given.get(name)
        value = value[0] if isinstance(value, list) and len(value) == 1 else value
        shown = f" {value[:100]}" if isinstance(value, str) else ""
        raise typer.BadParameter(f"{option_name(name)}{shown}: {message}") from None


def one_of(*names: str) -> Callable[[Mapping[str, Any]], None]:
    def check(given: Mapping[str, Any]) -> None:
        if sum(map(bool, map(given.get, names))) > 1:
            raise typer.BadParameter(f"give one of {' and '.join(map(option_name, names))}")

    return check


def command(
    app: typer.Typer,
    name: str,
    operation: Operation[Any],
    text: str = "",
    *,
    arguments: Mapping[str, str] | None = None,
    leave_out: Iterable[str] = (),
    more: Iterable[inspect.Parameter] = (),
    question: str = "",
    check: Callable[[Mapping[str, Any]], None] = lambda _given: None,
) -> Callable[[Show], Show]:
    """Add the command of an operation; the function that this decorates performs it and prints the result.

    `text` is what `--help` says, by default the docstring of the function. `arguments` are parameters that are
    arguments of the command, with what stands for them in its usage, by default those of the operation's path; those
    that `leave_out` names have no option, and `more` are further options. `question` is asked on a terminal first, with
    `{name}` for parameters. `check` refuses options that do not go together, before anything is done.
    """
    if arguments is None:
        arguments = {name: METAVARS.get(name, name.upper()) for name in operation.path_parameters}
    hidden = (*leave_out, *(() if "reason" in operation.parameters.model_fields else ("reason",)))
    options = [*options_of(operation.model, arguments=arguments, leave_out=hidden), *more]

    def add(show: Show) -> Show:
        def run(**given: Any) -> None:
            check(given)
            parameters = read_options(operation, given)
            if question:
                confirm(question.format(**parameters.model_dump()), yes=given["yes"])
            with open_operator(given["router"], given["data_dir"]) as operator, usage_errors(given):
                show(OperationCall(operator, operation, parameters, given))

        add_command(app, name, run, [*options, *([YES] if question else []), *COMMON], text or show.__doc__ or "")
        return show

    return add


def add_command(
    app: typer.Typer, name: str, run: Callable[..., None], parameters: Sequence[inspect.Parameter], text: str
) -> None:
    """Add a command with an option for each parameter, all of which are passed to `run`; `text`: what `--help` says."""

    def called(**given: Any) -> None:
        run(**given)

    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # what typer reads
    app.command(name, help=text)(called)


def listing(
    app: typer.Typer,
    name: str,
    operation: Operation[Any],
    columns: Sequence[str],
    row: Callable[[Any], Sequence[object]],
    *,
    text: str,
    empty: str,
    limit: int | None = None,
    after: Callable[[Sequence[Any]], None] = lambda _pages: None,
) -> None:
    """Add the command of an operation that lists something: a table, or with `--json` an item a line.

    `row` returns an item as a row, `empty` is printed in place of an empty table, and `after` is called with the pages
    that were read. `limit` is the default of `--limit`; None: all are listed, and there is no such option.
    """

    def show(call: OperationCall) -> None:
        pages = []

        def found() -> Iterator[Any]:
            for page in call.operator.pages(operation, call.parameters, call.options.get("limit")):
                pages.append(page)
                yield from getattr(page, operation.items)
            after(pages)
            flow = getattr(call.parameters, "flow", "")
            if flow and not any(getattr(page, operation.items) for page in pages):
                call.operator.client.flows.get(flow)  # what is stored of a deleted flow is listed; of none, refused

        print_items(found(), columns, row, empty=empty, json=call.json)

    numbers = Annotated[int, Option(min=1, help="Maximum number.")]
    command(app, name, operation, text, more=() if limit is None else (keyword("limit", numbers, limit),))(show)


def print_items(
    items: Iterable[Any], columns: Sequence[str], row: Callable[[Any], Sequence[object]], *, empty: str, json: bool
) -> None:
    if json:
        for item in items:
            print_json(item)
    else:
        print_table(columns, (row(shown(item)) for item in items), empty=empty)


def showing(say: Callable[[Any], str | None]) -> Show:
    """Return what performs an operation and prints its result: with `--json` as that, else what `say` returns of it."""

    def show(call: OperationCall) -> None:
        result = call.perform()
        if call.json:
            print_json(result)
        elif (text := say(shown(result))) is not None:
            print(text)

    return show
