"""Lays a flow out: a list of tasks is a column of boxes, and what contains tasks is a frame around such columns.

All boxes of a column begin at the same `x`, so that a narrow screen shows the beginning of each. Where a `then` names
another task of the list, an edge runs in a lane to the right of the column; edges to one task share a lane. A `then`
that ends the list or the flow leads to a small box below the task. The branches of a `fork` are columns side by side;
the handler of a `try` is a frame to the right of what is tried.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, Literal, Protocol

from flowhook.document.definition import DIRECTIVES, PlacedTask, tasks_of, walk
from operations.diagram import reading

RowStyle = Literal["name", "summary", "condition", "case", "note", "visit"]


@dataclass(frozen=True, slots=True)
class Row:
    """A line of text in a box: truncated, with the whole of it, and a short text at its right end."""

    style: RowStyle
    text: str
    whole: str
    right: str = ""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle with rows of text."""

    x: float
    y: float
    width: float
    height: float
    kind: str  # kind of its task; `start`, `end`, `exit` and `more` of other boxes, `catch` of an error handler
    rows: tuple[Row, ...]
    frame: bool = False  # whether other boxes are drawn into it
    placed: PlacedTask | None = None  # its task; None for other boxes


@dataclass(frozen=True, slots=True)
class Edge:
    """A line through points, with an arrowhead at its end unless it joins another edge there."""

    kind: Literal["next", "jump", "loop", "catch", "join"]
    points: tuple[tuple[float, float], ...]
    label: str = ""


Shape = Box | Edge
Note = tuple[str, str]
"""A line below the name of a task, and a short text at its right end."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """All shapes, in the order in which they are painted; and the size of the whole."""

    width: float
    height: float
    shapes: tuple[Shape, ...]


# measures in pixels: the width of a box, the space in a frame and between boxes, small boxes, lanes, rows of text
CARD: Final = 264
PAD: Final = 18
GAP: Final = 26
PILL: Final = 24
PILL_WIDTH: Final = 64
LANE: Final = 14
FIRST_ROW: Final = 24
ROW: Final = 17
BOTTOM: Final = 7
AXIS: Final = CARD / 2  # distance of the edges between the nodes of a column from their left side


class Element(Protocol):
    """Something with a size, to be placed. Control enters at the top, `axis` pixels from the left, and leaves below."""

    width: float
    height: float

    def place(self, x: float, y: float, shapes: list[Shape]) -> None:
        """Append its shapes, given the place of its upper left corner."""


@dataclass(slots=True)
class Leaf:
    """A box without others in it."""

    box: Box
    width: float = field(init=False)
    height: float = field(init=False)

    def __post_init__(self) -> None:
        self.width, self.height = self.box.width, self.box.height

    def place(self, x: float, y: float, shapes: list[Shape]) -> None:
        shapes.append(replace(self.box, x=self.box.x + x, y=y))


@dataclass(slots=True)
class Frame:
    """A box around nodes that stand side by side, below its rows."""

    box: Box
    nodes: Sequence[Element]
    gap: float = PAD
    header: float = field(init=False)
    width: float = field(init=False)
    height: float = field(init=False)

    def __post_init__(self) -> None:
        self.header = self.box.height + GAP * 0.7
        self.width = sum(node.width for node in self.nodes) + self.gap * (len(self.nodes) - 1) + 2 * PAD
        self.height = self.header + max(node.height for node in self.nodes) + PAD

    def place(self, x: float, y: float, shapes: list[Shape]) -> None:
        shapes.append(replace(self.box, x=x, y=y, width=self.width, height=self.height, frame=True))
        left, top = x + PAD, y + self.header
        axes = []
        for node in self.nodes:
            node.place(left, top, shapes)
            axes.append((left + AXIS, top + node.height))
            left += node.width + self.gap
        shapes.extend(self.edges(x, y, axes))

    def edges(self, x: float, y: float, axes: Sequence[tuple[float, float]]) -> Iterator[Edge]:
        """Yield its edges, given its place, and the places at which control leaves its nodes."""
        del x
        (first, _), rows, top = axes[0], y + self.box.height, y + self.header
        yield Edge("next", ((first, rows), (first, top)))


class Loop(Frame):
    """A frame whose tasks are repeated: an edge leads from the last to the first."""

    def edges(self, x: float, y: float, axes: Sequence[tuple[float, float]]) -> Iterator[Edge]:
        yield from super().edges(x, y, axes)
        (axis, bottom), side, top = axes[0], x + PAD / 2, y + self.header + FIRST_ROW / 2
        below = bottom + PAD / 2
        yield Edge("loop", ((axis, bottom), (axis, below), (side, below), (side, top), (x + PAD, top)))


class Fork(Frame):
    """A frame with branches: an edge leads to each of them."""

    def edges(self, x: float, y: float, axes: Sequence[tuple[float, float]]) -> Iterator[Edge]:
        rows, top, below = y + self.box.height, y + self.header, y + self.height
        first, middle = axes[0][0], (rows + top) / 2 - 2
        for axis, bottom in axes:
            yield Edge("next", ((first, rows), (first, middle), (axis, middle), (axis, top)))
            yield Edge(
                "join", ((axis, bottom), (axis, below - PAD / 2), (x + AXIS, below - PAD / 2), (x + AXIS, below))
            )


class Try(Frame):
    """A frame with what is tried and, right of it, its error handler."""

    def edges(self, x: float, y: float, axes: Sequence[tuple[float, float]]) -> Iterator[Edge]:
        yield from super().edges(x, y, axes)
        handled, middle = axes[1][0] - AXIS, y + self.header + FIRST_ROW / 2
        yield Edge("catch", ((handled - self.gap, middle), (handled, middle)))


@dataclass(slots=True)
class Step:
    """A node of a column, and where control goes from there."""

    node: Element
    name: str | None = None  # name of its task; None: it is none
    goes_on: bool = True  # whether the next node follows
    otherwise: str = ""  # label of the edge to the next node
    # names of tasks, and the vertical distances from the node's top at which the edges to them begin
    jumps: list[tuple[str, float]] = field(default_factory=list)
    stop: str = ""  # `end` or `exit`: it leads there; or empty

    @property
    def height(self) -> float:
        """Height of the node, and of the box at which it stops."""
        return self.node.height + (GAP / 2 + PILL if self.stop else 0)


class Column:
    """Nodes one below another, with the lanes of edges between those that do not follow each other."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = steps
        self.tops: list[float] = []
        top = 0.0
        for step in steps:
            self.tops.append(top)
            top += step.height + GAP
        self.height = max(0.0, top - GAP)
        self.inner_width = max([CARD, *(step.node.width for step in steps)])
        self.lanes = self._assign_lanes()
        self.width = self.inner_width + LANE * (max(self.lanes.values(), default=-1) + 1)

    def _jumps(self) -> Iterator[tuple[int, float, int]]:
        """Yield the edges that need a lane: number of the step, where the edge begins, number of its target."""
        numbers = {step.name: number for number, step in enumerate(self.steps) if step.name is not None}
        for number, step in enumerate(self.steps):
            for name, begin in step.jumps:
                if name in numbers:
                    yield number, begin, numbers[name]

    def _assign_lanes(self) -> dict[int, int]:
        """Return the lane of each target, from 0: the first in which no edge to another target overlaps with it."""
        spans: dict[int, tuple[float, float]] = {}
        for number, begin, target in self._jumps():
            ends = (self.tops[number] + begin, self.tops[target])
            low, high = spans.get(target, (ends[0], ends[0]))
            spans[target] = (min(low, *ends), max(high, *ends))
        taken: list[list[tuple[float, float]]] = []
        lanes = {}
        for target, (low, high) in sorted(spans.items(), key=lambda item: (item[1][1] - item[1][0], item[0])):
            overlaps = [any(low <= end and start <= high for start, end in held) for held in taken]
            lane = overlaps.index(False) if False in overlaps else len(taken)
            if lane == len(taken):
                taken.append([])
            taken[lane].append((low, high))
            lanes[target] = lane
        return lanes

    def place(self, x: float, y: float, shapes: list[Shape]) -> None:
        for top, step in zip(self.tops, self.steps, strict=True):
            step.node.place(x, y + top, shapes)
        for number, (top, step) in enumerate(zip(self.tops, self.steps, strict=True)):
            bottom = y + top + step.node.height
            if step.stop:
                pill(step.stop).place(x, bottom + GAP / 2, shapes)
                shapes.append(Edge("next", ((x + AXIS, bottom), (x + AXIS, bottom + GAP / 2))))
            elif step.goes_on and number + 1 < len(self.steps):
                shapes.append(Edge("next", ((x + AXIS, bottom), (x + AXIS, y + self.tops[number + 1])), step.otherwise))
        for number, begin, target in self._jumps():
            source, aim = self.steps[number].node, self.steps[target].node
            lane = x + self.inner_width + LANE * (self.lanes[target] + 0.7)
            start, end = y + self.tops[number] + begin, y + self.tops[target] + FIRST_ROW / 2
            points = ((x + source.width, start), (lane, start), (lane, end), (x + aim.width, end))
            shapes.append(Edge("jump", points))


def pill(kind: str) -> Element:
    """Return the small box at which a list of tasks or the flow ends; `kind` is `end` or `exit`."""
    row = Row("note", kind, kind)
    return Leaf(Box(AXIS - PILL_WIDTH / 2, 0, PILL_WIDTH, PILL, kind, (row,)))


ELLIPSIS: Final = "…"
MONOSPACED: Final = 0.61  # width of a character of a monospaced font, in em
_NARROW: Final = frozenset("fijlrtI.,:;'|!()[]{}/\\-` \"")
_BROAD: Final = frozenset("mwMW@%")
_WIDE: Final = 1.25  # width of an East Asian character or an emoji, in em, with room for fonts that are wider


def width(text: str, size: float, *, mono: bool = False) -> float:
    """Return the estimated width of text in pixels, rather too large than too small; `size` is that of the font."""
    return size * sum(_em(character, mono=mono) for character in text)


def fit(text: str, pixels: float, size: float, *, mono: bool = False) -> str:
    """Return a text on one line, truncated to a width."""
    line = " ".join(text[: 4 * int(pixels)].split())  # no character is narrower than a quarter of a pixel
    if width(line, size, mono=mono) <= pixels:
        return line
    room = pixels - size
    for position, character in enumerate(line):
        room -= size * _em(character, mono=mono)
        if room < 0:
            return line[:position].rstrip() + ELLIPSIS
    return line


def _em(character: str, *, mono: bool) -> float:
    if unicodedata.east_asian_width(character) in "WF":
        return _WIDE
    if unicodedata.combining(character):
        return 0.0
    if mono:
        return MONOSPACED
    if character in _NARROW:
        return 0.36
    if character in _BROAD:
        return 0.95
    return 0.7 if character.isupper() else 0.58


MAX_TASKS: Final = 500  # tasks that are drawn; of those after them only the number is
MAX_BRANCHES: Final = 12  # branches of a `fork` that are drawn side by side
MAX_CASES: Final = 12  # cases of a `switch` that are drawn, and triggers of a flow
MAX_WHOLE: Final = 500  # characters of a text that is shown where the mouse is; longer ones are truncated
MARGIN: Final = 12  # pixels around the drawing
TEXT_PAD: Final = 11  # pixels left and right of texts
# sizes of fonts, in pixels
SIZES: Final[Mapping[RowStyle, float]] = {
    "name": 13,
    "summary": 11,
    "condition": 11,
    "case": 12,
    "note": 11,
    "visit": 11,
}
_MONOSPACED: Final = ("summary", "condition")


def lay_out(definition: Mapping[str, Any], title: str, notes: Mapping[str, Note] = MappingProxyType({})) -> Drawing:
    """Return the drawing of a validated definition, whose name is `title`; `notes`: below names, by JSON Pointer."""
    column = _Builder(notes).column(
        list(tasks_of(definition.get("do"), ("do",))), first=_start(definition, title), last=pill("end")
    )
    shapes: list[Shape] = []
    column.place(MARGIN, MARGIN, shapes)
    return Drawing(column.width + 2 * MARGIN, column.height + 2 * MARGIN, tuple(shapes))


class _Builder:
    """Makes nodes of tasks, as many as may be drawn."""

    def __init__(self, notes: Mapping[str, Note]) -> None:
        self._left = MAX_TASKS
        self._notes = notes

    def column(self, tasks: list[PlacedTask], *, first: Element | None = None, last: Element | None = None) -> Column:
        steps = [] if first is None else [Step(first)]
        for index, placed in enumerate(tasks):
            if self._left <= 0:
                steps.append(Step(_more(tasks[index:])))
                break
            following = tasks[index + 1].name if index + 1 < len(tasks) else None
            steps.append(self.step(placed, following))
        return Column(steps if last is None else [*steps, Step(last)])

    def step(self, placed: PlacedTask, following: str | None) -> Step:
        self._left -= 1
        node = self.node(placed)
        step = Step(node, placed.name, goes_on=reading.leads_on(placed))
        if placed.kind == "switch" and step.goes_on:
            step.otherwise = "else"
        step.goes_on |= any(case.get("then", "continue") == "continue" for _, case in reading.cases(placed))
        step.jumps += ((then, row) for then, row in _targets(placed, node) if then not in DIRECTIVES)
        then = placed.task.get("then") or "continue"
        if then == "continue" or not step.goes_on:
            return step
        if then in DIRECTIVES:
            step.stop = then
        elif then != following:
            step.goes_on = False
            step.jumps.append((then, FIRST_ROW + 1))
        return step

    def node(self, placed: PlacedTask) -> Element:
        tasks = reading.inner(placed)
        if not tasks:
            return Leaf(self.box(placed))
        box = self.box(placed, CARD + 2 * PAD)
        if placed.kind == "fork":
            nodes: list[Element] = [self.column([branch]) for branch in tasks[:MAX_BRANCHES]]
            if len(tasks) > MAX_BRANCHES:
                nodes.append(_more(tasks[MAX_BRANCHES:]))
            return Fork(box, nodes)
        column = self.column(tasks)
        if placed.kind == "try":
            return Try(box, [column, self.handler(placed)], gap=GAP * 1.5)
        return (Loop if placed.kind in ("for", "listen") else Frame)(box, [column])

    def handler(self, placed: PlacedTask) -> Element:
        tasks = reading.handler(placed)
        rows = [_row("name", "catch", CARD), *_rows("summary", [reading.caught(placed)], CARD)]
        box = _card("catch", rows)
        return Frame(box, [self.column(tasks)]) if tasks else Leaf(box)

    def box(self, placed: PlacedTask, pixels: float = CARD) -> Box:
        """Return the box of a task, `pixels` wide, at no place yet."""
        task = placed.task
        rows = [_row("name", placed.name, pixels, right=placed.kind)]
        if note := self._notes.get(placed.pointer):
            rows.append(_row("visit", note[0], pixels, right=note[1]))
        if "if" in task:
            rows += _rows("condition", [f"if {reading.bare(task['if'])}"], pixels)
        rows += _rows("summary", [reading.summary(placed)], pixels)
        if timeout := reading.timeout_text(task.get("timeout")):
            rows += _rows("note", [f"timeout: {timeout}"], pixels)
        rows += _case_rows(placed, pixels)
        return _card(placed.kind, rows, pixels, placed)


def _case_rows(placed: PlacedTask, pixels: float) -> Iterator[Row]:
    cases = reading.cases(placed)
    for name, case in cases[:MAX_CASES]:
        then = case.get("then", "continue")
        yield _row("case", name, pixels, right=then if then in DIRECTIVES else f"→ {then}")
        if "when" in case:
            yield _row("summary", reading.bare(case["when"]), pixels)
    if len(cases) > MAX_CASES:
        yield _row("note", f"… {len(cases) - MAX_CASES} more cases", pixels)


def _targets(placed: PlacedTask, node: Element) -> Iterator[tuple[str, float]]:
    """Yield where each case that is drawn leads, and the distance of its row from the top of the node."""
    cases = reading.cases(placed)
    heights = [ROW * (2 if "when" in case else 1) for _, case in cases[:MAX_CASES]]
    top = node.height - BOTTOM + ROW / 2 - sum(heights) - (ROW if len(cases) > MAX_CASES else 0)
    for (_, case), height in zip(cases, heights, strict=False):
        yield case.get("then", "continue"), top
        top += height


def _row(style: RowStyle, text: str, pixels: float, *, right: str = "") -> Row:
    room = pixels - 2 * TEXT_PAD
    mono, size = style in _MONOSPACED, SIZES[style]
    right = fit(right, room * 0.45, SIZES["note"])
    if right:
        room -= width(right, SIZES["note"]) + TEXT_PAD
    return Row(style, fit(text, room, size, mono=mono), text[:MAX_WHOLE], right)


def _rows(style: RowStyle, texts: Iterable[str], pixels: float) -> list[Row]:
    return [_row(style, text, pixels) for text in texts if text]


def _card(kind: str, rows: Sequence[Row], pixels: float = CARD, placed: PlacedTask | None = None) -> Box:
    height = FIRST_ROW + ROW * (len(rows) - 1) + BOTTOM
    return Box(0, 0, pixels, height, kind, tuple(rows), placed=placed)


def _start(definition: Mapping[str, Any], title: str) -> Element:
    texts = [*filter(None, [reading.webhook_trigger(definition)]), *reading.triggers(definition)]
    rows = [_row("name", title, CARD, right="start"), *_rows("note", texts[:MAX_CASES], CARD)]
    return Leaf(_card("start", rows))


def _more(tasks: Sequence[PlacedTask]) -> Element:
    count = sum(1 for _ in walk({"do": [{placed.name: placed.task} for placed in tasks]}))
    return Leaf(_card("more", [_row("note", f"… {count} more task{'s' if count > 1 else ''}", CARD)]))
