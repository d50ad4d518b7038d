"""Iterates over all tasks of a definition, in document order.

It works on plain JSON types, and skips values that do not have the shape of a task.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from flowhook.document.problems import Path
from flowhook.document.task_kinds import kind_of

_BLOCKS: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "do": (("do",),),
    "for": (("do",),),
    "fork": (("fork", "branches"),),
    "listen": (("foreach", "do"),),
    "try": (("try",), ("catch", "do")),
}
"""Paths of the lists of tasks in each kind of task. Source: dsl-reference.md, "Do", "For", "Fork", "Listen", "Try"."""


class PlacedTask(NamedTuple):
    """A task and its location.

    Attributes:
        name: unique within its list.
        path: keys and indexes from the top of the document.
        kind: `set`, `call`, …; empty if it has none.
        task: as written.
    """

    name: str
    path: Path
    kind: str
    task: Mapping[str, Any]

    @property
    def pointer(self) -> str:
        """JSON Pointer to the task in the document, as in errors: `/do/0/greet`. Source: RFC 6901, section 3."""
        return "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in self.path)


def walk(definition: Mapping[str, Any]) -> Iterator[PlacedTask]:
    """Yield the tasks of a workflow; nested tasks follow the task that contains them."""
    yield from _walk(definition.get("do"), ("do",))


def walk_everywhere(definition: Mapping[str, Any]) -> Iterator[PlacedTask]:
    """Yield the tasks of a workflow, then those of its functions and those that its extensions run."""
    yield from walk(definition)
    use = definition.get("use")
    functions, extensions = (use.get("functions"), use.get("extensions")) if isinstance(use, Mapping) else (None, None)
    for name, task in functions.items() if isinstance(functions, Mapping) else ():
        for placed in _walk([{name: task}], ()):
            yield placed._replace(path=("use", "functions", *placed.path[1:]))
    for extension in tasks_of(extensions, ("use", "extensions")):
        for key in ("before", "after"):
            yield from _walk(extension.task.get(key), (*extension.path, key))


def tasks_of(items: object, path: Path) -> Iterator[PlacedTask]:
    """Yield the tasks of one list, at `path`, without nested tasks."""
    for index, item in enumerate(items if isinstance(items, list) else ()):
        if isinstance(item, Mapping) and len(item) == 1:
            ((name, task),) = item.items()
            if isinstance(task, Mapping):
                yield PlacedTask(name, (*path, index, name), kind_of(task) or "", task)


def _walk(items: object, path: Path) -> Iterator[PlacedTask]:
    for placed in tasks_of(items, path):
        yield placed
        for keys in _BLOCKS.get(placed.kind, ()):
            inner: Any = placed.task
            for key in keys:
                inner = inner.get(key) if isinstance(inner, Mapping) else None
            yield from _walk(inner, (*placed.path, *keys))
