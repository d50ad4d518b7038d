"""The parts of a definition, the plain JSON of a flow: its ID, its tasks and their kinds, its event filters."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from flowhook.document.diagnostics.problems import Path
from flowhook.expressions.syntax import is_expression
from flowhook.model.error_types import Spelling

NAME_PATTERN: Final = r"^[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$"
"""Names and namespaces: like a DNS label, letters of either case."""

SEMANTIC_VERSION_PATTERN: Final = (
    r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(-[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?$"
)

VERSION_OR_LATEST_PATTERN: Final = rf"^latest$|{SEMANTIC_VERSION_PATTERN}"

RFC_3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")


def flow_id(namespace: str, name: str) -> str:
    """Return `name` in the namespace `default`, else `namespace.name`; at most 127 characters."""
    return name if namespace == "default" else f"{namespace}.{name}"


def error_types(definition: Mapping[str, Any]) -> Spelling:
    """Return how a flow wants the types of the standard's errors to be spelled (`execution.error_types`)."""
    chosen: Spelling = value_at(definition, ("execution", "error_types")) or "open-workflow"
    return chosen


DIRECTIVES: Final = frozenset({"continue", "exit", "end"})  # values of `then` that are not names of tasks

KINDS: Final = ("call", "do", "emit", "for", "fork", "listen", "raise", "run", "set", "switch", "try", "wait")
"""All kinds of tasks in the DSL; a `for` task also has a `do`."""


def kind_of(task: object) -> str | None:
    """Return the kind of a task as written, or None when it has none."""
    if not isinstance(task, dict):
        return None
    return "for" if "for" in task else next((kind for kind in KINDS if kind in task), None)


RETRY_PRESETS: Final = ("webhook", "quick")
"""Names of the retry policies that Flowhook brings: `execution.retry` and `metadata.retry` may use them."""

NAMED_LISTS: Final = frozenset({"after", "before", "branches", "do", "extensions", "switch", "try"})
"""Keys of lists whose items are mappings with one key, the name of the item."""

POLICIES: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "asyncapi": (("document", "endpoint", "authentication"), ("authentication",)),
    "grpc": (("proto", "endpoint", "authentication"), ("service", "authentication")),
    "http": (("endpoint", "authentication"),),
    "mcp": (("transport", "http", "endpoint", "authentication"),),
    "openapi": (("document", "endpoint", "authentication"), ("authentication",)),
    "run.script": (("source", "endpoint", "authentication"),),
}
"""Paths of the authentication policies in the arguments of a function.

The first one is that of the endpoint that is called, or that a document is fetched from; the last that of the call.
"""

_BLOCKS: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "call": (("with", "subscription", "foreach", "do"),),
    "do": (("do",),),
    "for": (("do",),),
    "fork": (("fork", "branches"),),
    "listen": (("foreach", "do"),),
    "try": (("try",), ("catch", "do")),
}
"""Paths of the lists of tasks in each kind of task. Source: dsl-reference.md, "Do", "For", "Fork", "Listen", "Try"."""


class PlacedTask(NamedTuple):
    """A task and its location."""

    name: str  # unique within its list
    path: Path  # keys and indexes from the top of the document
    kind: str  # `set`, `call`, …; empty if it has none
    task: Mapping[str, Any]  # as written

    @property
    def pointer(self) -> str:
        """JSON Pointer to the task in the document, as in errors: `/do/0/greet`."""
        return "".join(f"/{pointer_token(str(step))}" for step in self.path)


def pointer_token(name: str) -> str:
    """Return a name as a reference token of a JSON Pointer. Source: RFC 6901, section 3."""
    return name.replace("~", "~0").replace("/", "~1")


def walk(definition: Mapping[str, Any]) -> Iterator[PlacedTask]:
    """Yield the tasks of a workflow; nested tasks follow the task that contains them."""
    yield from _walk(definition.get("do"), ("do",))


def walk_everywhere(definition: Mapping[str, Any]) -> Iterator[PlacedTask]:
    """Yield the tasks of a workflow, then those of its functions and those that its extensions run."""
    yield from walk(definition)
    functions = value_at(definition, ("use", "functions"))
    for name, task in functions.items() if isinstance(functions, Mapping) else ():
        for placed in _walk([{name: task}], ()):
            yield placed._replace(path=("use", "functions", *placed.path[1:]))
    for extension in tasks_of(value_at(definition, ("use", "extensions")), ("use", "extensions")):
        for key in ("before", "after"):
            yield from _walk(extension.task.get(key), (*extension.path, key))


def tasks_of(items: object, path: Path) -> Iterator[PlacedTask]:
    for index, item in enumerate(items if isinstance(items, list) else ()):
        if isinstance(item, Mapping) and len(item) == 1:
            ((name, task),) = item.items()
            if isinstance(task, Mapping):
                yield PlacedTask(name, (*path, index, name), kind_of(task) or "", task)


def _walk(items: object, path: Path) -> Iterator[PlacedTask]:
    for placed in tasks_of(items, path):
        yield placed
        for keys in _BLOCKS.get(placed.kind, ()) if placed.kind != "call" or is_subscription(placed.task) else ():
            yield from _walk(value_at(placed.task, keys), (*placed.path, *keys))


def is_subscription(task: Mapping[str, Any]) -> bool:
    """Whether a task with `call` is a subscription to messages, which may contain tasks."""
    return task.get("call") == "asyncapi" and isinstance(value_at(task, ("with", "subscription")), Mapping)


def value_at(value: Any, path: Path) -> Any:
    for step in path:
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return None
    return value


def strings_in(value: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Yield the strings in a JSON value (a tuple counts as an array), each with its path, which starts with `path`."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from strings_in(item, (*path, key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from strings_in(item, (*path, index))


_PATTERN_CHARACTER: Final = re.compile(r"[\\*+?^$|()\[\]{}]")
"""Characters that make a string a regular expression; a dot alone does not."""


def filters_of(strategy: object, path: Path = ()) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield the filters of a strategy and of its `until` strategy, each with its path, which starts with `path`."""
    if not isinstance(strategy, Mapping):
        return
    if isinstance(strategy.get("one"), Mapping):
        yield (*path, "one"), strategy["one"]
    for key in ("any", "all"):
        filters = strategy.get(key)
        for index, each in enumerate(filters if isinstance(filters, list) else ()):
            if isinstance(each, Mapping):
                yield (*path, key, index), each
    yield from filters_of(strategy.get("until"), (*path, "until"))


def is_pattern(value: object) -> bool:
    """Whether an expected attribute may be a regular expression: an event passes if its value is equal, or matches."""
    return isinstance(value, str) and not is_expression(value) and _PATTERN_CHARACTER.search(value) is not None


def literal_attributes(event_filter: Mapping[str, Any]) -> dict[str, str]:
    """Return the attributes of a validated filter, except `data`, that are neither expressions nor patterns."""
    return {
        name: value
        for name, value in event_filter["with"].items()
        if name != "data" and isinstance(value, str) and not is_expression(value) and not is_pattern(value)
    }


def literal_type(event_filter: Mapping[str, Any]) -> str | None:
    """Return the event type that a filter names; None if it has no type, or an expression or a pattern for it."""
    kind = value_at(event_filter, ("with", "type"))
    return kind if isinstance(kind, str) and not is_expression(kind) and not is_pattern(kind) else None


def awaited_types(definition: Mapping[str, Any]) -> frozenset[str]:
    """Return the event types that the filters of a flow's `listen` tasks name."""
    return frozenset(
        kind
        for placed in walk_everywhere(definition)
        if placed.kind == "listen"
        for _, each in filters_of(value_at(placed.task, ("listen", "to")))
        if (kind := literal_type(each)) is not None
    )
