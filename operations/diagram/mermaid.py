"""Renders a flow as a Mermaid flowchart.

Tasks are nodes, directives are edges; a condition is a rhombus before its task. A task that contains tasks is a frame
around them:

- `do`: a frame.
- `for`, and `listen` with tasks for each event: the frame has a node for the loop, to which each iteration returns.
- `fork`: the frame has a node with an edge to each branch.
- `try`: a dotted edge leads from the frame to the error handler.

Without inner tasks, each of them is a plain node.

Source: https://mermaid.js.org/syntax/flowchart.html.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from flowhook.document.definition import PlacedTask, tasks_of, walk
from operations.diagram import reading

MAX_LABEL: Final = 60  # characters of a name or an expression in a label; longer ones are truncated
START: Final = "start"
FINISH: Final = "finish"

# unescaped characters of a label, besides letters and digits. A colon or `%` could start Mermaid syntax.
_PLAIN: Final = frozenset(" _-.,/+*=()[]{}$!?'@~^")

# brackets of nodes by kind of task; other kinds are boxes
_SHAPES: Final[Mapping[str, tuple[str, str]]] = {
    "call": ("[[", "]]"),
    "emit": ("[/", "/]"),
    "listen": (">", "]"),
    "raise": ("{{", "}}"),
    "run": ("[[", "]]"),
    "switch": ("{", "}"),
}


def mermaid(definition: Mapping[str, Any], title: str) -> str:
    """Return the flowchart of a validated definition, with `title` at its start; lines end with a newline."""
    return "".join(f"{line}\n" for line in _Chart(definition, title).lines())


class _Chart:
    def __init__(self, definition: Mapping[str, Any], title: str) -> None:
        self._labels = [title, *map(_cut, reading.triggers(definition))]
        self._tasks = list(tasks_of(definition.get("do"), ("do",)))
        self._ids = {placed.path: f"n{number}" for number, placed in enumerate(walk(definition), 1)}
        self._edges: list[str] = []

    def lines(self) -> Iterator[str]:
        yield "flowchart TD"
        yield f"    {START}([{_quote(*self._labels)}])"
        yield from self._block(self._tasks, FINISH, "    ")
        yield f"    {FINISH}([{_quote('end')}])"
        yield f"    {START} --> {self._entry(self._tasks[0]) if self._tasks else FINISH}"
        yield from self._edges

    def _block(self, tasks: list[PlacedTask], after: str, indent: str) -> Iterator[str]:
        entries = {placed.name: self._entry(placed) for placed in tasks}
        for placed, following in zip(tasks, [*map(self._entry, tasks[1:]), after], strict=False):
            targets = entries | {"continue": following, "exit": after, "end": FINISH}
            then = targets.get(placed.task.get("then") or "continue", following)
            if "if" in placed.task:
                decision = self._decision(placed)
                yield f"{indent}{decision}{{{_quote(_cut(placed.task['if']))}}}"
                self._edge(decision, self._inside(placed), "true")
                self._edge(decision, following, "else")
            inner = reading.inner(placed)
            if not inner:
                yield f"{indent}{self._node(placed)}"
                self._leave(placed, then, targets)
            elif placed.kind in ("for", "listen"):
                yield from self._loop(placed, inner, then, indent)
            elif placed.kind == "fork":
                yield from self._fork(placed, inner, then, indent)
            else:
                yield from self._frame(self._id(placed), placed.name, self._block(inner, then, f"{indent}    "), indent)
            if inner and placed.kind == "try":
                yield from self._catch(placed, targets.get(placed.task["catch"].get("then", ""), then), indent)

    def _frame(self, node: str, label: str, inside: Iterable[str], indent: str) -> Iterator[str]:
        yield f"{indent}subgraph {node}[{_quote(_cut(label))}]"
        yield from inside
        yield f"{indent}end"

    def _loop(self, placed: PlacedTask, inner: list[PlacedTask], then: str, indent: str) -> Iterator[str]:
        """Yield a `for`: its node takes the next item, or leads to `then` if none is left."""
        node, deeper = self._id(placed), f"{indent}    "
        inside = [f"{deeper}{self._node(placed)}", *self._block(inner, node, deeper)]
        yield from self._frame(f"{node}frame", placed.name, inside, indent)
        self._edge(node, self._entry(inner[0]), "each")
        self._edge(node, then, "done")

    def _fork(self, placed: PlacedTask, branches: list[PlacedTask], then: str, indent: str) -> Iterator[str]:
        """Yield a `fork`: its branches are side by side, because none leads to another."""
        node, deeper = self._id(placed), f"{indent}    "
        inside = [f"{deeper}{self._node(placed)}"]
        for branch in branches:
            inside += self._block([branch], then, deeper)
            self._edge(node, self._entry(branch), "")
        yield from self._frame(f"{node}frame", placed.name, inside, indent)

    def _catch(self, placed: PlacedTask, then: str, indent: str) -> Iterator[str]:
        """Yield the error handler of a `try`: the tasks of its `catch`, or just an edge to `then`."""
        node = self._id(placed)
        handling = reading.handler(placed)
        if handling:
            yield from self._frame(f"{node}catch", "catch", self._block(handling, then, f"{indent}    "), indent)
        target = self._entry(handling[0]) if handling else then
        self._edges.append(f"    {node} -.->|{_quote('catch')}| {target}")

    def _leave(self, placed: PlacedTask, then: str, targets: Mapping[str, str]) -> None:
        cases = reading.cases(placed)
        for name, case in cases:
            when = case.get("when")
            label = name if when is None else f"{name}: {_cut(when)}"
            self._edge(self._id(placed), targets.get(case.get("then", "continue"), then), label)
        if reading.leads_on(placed):
            self._edge(self._id(placed), then, "else" if cases else "")

    def _entry(self, placed: PlacedTask) -> str:
        return self._decision(placed) if "if" in placed.task else self._inside(placed)

    def _inside(self, placed: PlacedTask) -> str:
        inner = reading.inner(placed) if placed.kind in ("do", "try") else []
        return self._entry(inner[0]) if inner else self._id(placed)

    def _decision(self, placed: PlacedTask) -> str:
        return f"{self._id(placed)}if"

    def _id(self, placed: PlacedTask) -> str:
        return self._ids[placed.path]

    def _node(self, placed: PlacedTask) -> str:
        opening, closing = _SHAPES.get(placed.kind, ("[", "]"))
        label = _quote(_cut(placed.name), _cut(f"{placed.kind} {reading.summary(placed)}"))
        return f"{self._id(placed)}{opening}{label}{closing}"

    def _edge(self, source: str, target: str, label: str) -> None:
        self._edges.append(f"    {source} -->{f'|{_quote(_cut(label))}|' if label else ''} {target}")


def _cut(text: object) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= MAX_LABEL else line[: MAX_LABEL - 1] + "…"


def _quote(*lines: str) -> str:
    """Return a label in which all characters that Mermaid or HTML might interpret are entities."""
    escaped = (
        "".join(char if char.isalnum() or char in _PLAIN else f"#{ord(char)};" for char in line) for line in lines
    )
    return '"' + "<br/>".join(escaped) + '"'
