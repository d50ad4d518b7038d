"""The nodes of a drawing: boxes, frames around others, and columns of them; each has a size, and is then placed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, Protocol

from flowhook.document.definition import PlacedTask

RowStyle = Literal["name", "summary", "condition", "case", "note"]


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


class Node(Protocol):
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
    nodes: Sequence[Node]
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

    node: Node
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


def pill(kind: str) -> Node:
    """Return the small box at which a list of tasks or the flow ends; `kind` is `end` or `exit`."""
    row = Row("note", kind, kind)
    return Leaf(Box(AXIS - PILL_WIDTH / 2, 0, PILL_WIDTH, PILL, kind, (row,)))
