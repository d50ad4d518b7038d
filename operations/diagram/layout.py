"""Lays a flow out: a list of tasks is a column of boxes, and what contains tasks is a frame around such columns.

All boxes of a column begin at the same `x`, so that a narrow screen shows the beginning of each. The branches of a
`switch` stand side by side below it and come together again, as far as its cases lead to tasks behind it; so do those
of a `fork`. The handler of a `try` is a frame to the right of what is tried. Where another `then` names a task of the
list, an edge runs in a lane to the right of the column, unless it would cross another: then, and where `then` ends the
list or the flow or leads out of a branch, a small box below the task says where it leads. So no two edges cross.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import neg
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

from flowhook.document.definition import DIRECTIVES, PlacedTask, tasks_of, walk
from operations.diagram import reading
from operations.diagram.path import AGAIN, HANDLER, JOIN, START, Way
from operations.diagram.reading import ELSE, END, Branch, TaskList

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
    ways: frozenset[Way] = frozenset()  # what it shows, as in the path of an execution
    label: str = ""  # at its end


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
BUS: Final = 40  # height of the edges from a `switch` to its branches
AXIS: Final = CARD / 2  # distance of the edges between the nodes of a column from their left side
LINE: Final = AXIS + 80  # width of a branch without tasks


@dataclass(slots=True)
class Leaf:
    """A box without others in it."""

    box: Box
    exits: frozenset[str] = (
        frozenset()
    )  # JSON Pointers of the tasks from which control leaves below; empty: it does not
    width: float = field(init=False)
    height: float = field(init=False)

    def __post_init__(self) -> None:
        self.width, self.height = self.box.width, self.box.height

    def place(self, x: float, y: float, shapes: list[Shape]) -> None:
        """Append its shapes, given the place of its upper left corner."""
        shapes.append(replace(self.box, x=self.box.x + x, y=y))


@dataclass(slots=True)
class Frame:
    """A box around columns that stand side by side, below its rows."""

    box: Box
    columns: Sequence[Column]
    pointer: str  # of the task that control comes from
    gap: float = PAD
    exits: frozenset[str] = field(init=False)
    header: float = field(init=False)
    width: float = field(init=False)
    height: float = field(init=False)

    def __post_init__(self) -> None:
        self.exits = frozenset([self.pointer])
        self.header = self.box.height + GAP * 0.7
        self.width = sum(column.width for column in self.columns) + self.gap * (len(self.columns) - 1) + 2 * PAD
        self.height = self.header + max(column.height for column in self.columns) + PAD
        self.box = replace(self.box, width=self.width)

    def place(self, x: float, y: float, shapes: list[Shape]) -> None:
        shapes.append(replace(self.box, x=x, y=y, height=self.height, frame=True))
        left, top = x + PAD, y + self.header
        axes = []
        for column in self.columns:
            column.place(left, top, shapes)
            axes.append((left + AXIS, top + column.height))
            left += column.width + self.gap
        shapes.extend(self.edges(x, y, axes))

    def edges(self, x: float, y: float, axes: Sequence[tuple[float, float]]) -> Iterator[Edge]:
        """Yield its edges, given its place, and the places at which control leaves its columns."""
        del x
        (first, _), rows, top = axes[0], y + self.box.height, y + self.header
        yield Edge("next", ((first, rows), (first, top)), frozenset([(self.pointer, self.columns[0].entry)]))


class Loop(Frame):
    """A frame whose tasks are repeated: an edge leads from the last to the first."""

    def edges(self, x: float, y: float, axes: Sequence[tuple[float, float]]) -> Iterator[Edge]:
        yield from super().edges(x, y, axes)
        if not self.columns[0].exits:
            return
        (axis, bottom), side, top = axes[0], x + PAD / 2, y + self.header + FIRST_ROW / 2
        below = bottom + PAD / 2
        points = ((axis, bottom), (axis, below), (side, below), (side, top), (x + PAD, top))
        yield Edge("loop", points, frozenset([(self.pointer, AGAIN)]))


class Fork(Frame):
    """A frame with branches: an edge leads to each of them."""

    def edges(self, x: float, y: float, axes: Sequence[tuple[float, float]]) -> Iterator[Edge]:
        rows, top, below = y + self.box.height, y + self.header, y + self.height
        first, middle = axes[0][0], (rows + top) / 2 - 2
        for column, (axis, bottom) in zip(self.columns, axes, strict=True):
            begin = ((first, rows), (first, middle), (axis, middle), (axis, top))
            yield Edge("next", begin, frozenset([(self.pointer, column.entry)]))
            if column.exits:
                end = ((axis, bottom), (axis, below - PAD / 2), (x + AXIS, below - PAD / 2), (x + AXIS, below))
                yield Edge("join", end, frozenset([(column.entry, JOIN)]))


class Try(Frame):
    """A frame with what is tried and, right of it, its error handler."""

    def edges(self, x: float, y: float, axes: Sequence[tuple[float, float]]) -> Iterator[Edge]:
        yield from super().edges(x, y, axes)
        handled, middle = axes[1][0] - AXIS, y + self.header + FIRST_ROW / 2
        handler = self.columns[1].steps[0].node
        aim = handler.columns[0].entry if isinstance(handler, Frame) else HANDLER
        yield Edge("catch", ((handled - self.gap, middle), (handled, middle)), frozenset([(self.pointer, aim)]))


@dataclass(slots=True)
class Choice:
    """The box of a `switch` above the branches that its cases lead to; those that go on come together below them."""

    head: Leaf
    branches: Sequence[tuple[str, Column | None]]  # label, and tasks; None: none, it leads to what follows
    following: str  # JSON Pointer of the task below, or `END`
    box: Box = field(init=False)
    exits: frozenset[str] = field(init=False)
    width: float = field(init=False)
    height: float = field(init=False)

    def __post_init__(self) -> None:
        self.box = self.head.box
        # the branch without tasks is the first: it leads straight down
        self.branches = sorted(self.branches, key=lambda branch: branch[1] is not None)
        columns = [column for _, column in self.branches]
        direct = frozenset([_pointer(self.box)] if None in columns else [])
        self.exits = direct.union(*(column.exits for column in columns if column is not None))
        self.width = sum(LINE if column is None else column.width for column in columns) + PAD * (len(columns) - 1)
        self.height = self.head.height + BUS + max(column.height for column in columns if column is not None) + GAP / 2

    def place(self, x: float, y: float, shapes: list[Shape]) -> None:
        """Append the shapes of a branching task and of its branches, with its top left corner at `x`, `y`."""
        self.head.place(x, y, shapes)
        trunk, out, below, left = x + AXIS, y + self.head.height, y + self.height, x
        top, bus, join = out + BUS, out + GAP / 2, below - GAP / 4
        pointer = _pointer(self.box)
        for label, column in self.branches:
            axis = left + AXIS
            if column is None:
                ways = frozenset([(pointer, self.following)])
                shapes.append(Edge("join", ((trunk, out), (trunk, top)), ways, fit(label, LINE - AXIS, SIZES["note"])))
                shapes.append(Edge("join", ((trunk, top), (trunk, below)), ways))
                left += LINE + PAD
                continue
            column.place(left, top, shapes)
            begin = ((trunk, out), (trunk, bus), (axis, bus), (axis, top))
            shapes.append(
                Edge("next", begin, frozenset([(pointer, column.entry)]), fit(label, AXIS - PAD, SIZES["note"]))
            )
            if column.exits:
                bottom = top + column.height
                end = ((axis, bottom), (axis, join), (trunk, join), (trunk, below))
                shapes.append(Edge("join", end, frozenset((task, self.following) for task in column.exits)))
            left += column.width + PAD


Element = Leaf | Frame | Choice
"""Something to be placed, with the box at its top. Control enters there, `AXIS` from the left, and leaves below."""


class Jump(NamedTuple):
    """Where control may go other than to the next node."""

    target: str  # JSON Pointer of the task
    begin: float  # vertical distance from the top of the node
    text: str = ""  # what a small box below it says if no edge leads there; empty: a row of the node says it


@dataclass(slots=True)
class Placement:
    """A node of a column, and where control goes from there."""

    node: Element
    goes_on: bool = True  # whether the next node follows
    otherwise: str = ""  # label of the edge to the next node
    jumps: list[Jump] = field(default_factory=list)
    stop: str = ""  # text of a small box below it, which says where it leads; or empty
    aim: str = END  # where that is: a JSON Pointer, or `END`

    @property
    def height(self) -> float:
        """Height of the node, and of the box at which it stops."""
        return self.node.height + (GAP / 2 + PILL if self.stop else 0)


class _Line(NamedTuple):
    """An edge in a lane: the number of the step, the place at which it begins, and the number of its target."""

    number: int
    begin: float
    target: int

    @property
    def ends(self) -> tuple[tuple[int, float], tuple[int, float]]:
        """The upper and the lower end."""
        ends = (self.number, self.begin), (self.target, FIRST_ROW / 2)
        return min(ends), max(ends)


class Column:
    """Nodes one below another, with the lanes of edges between those that do not follow each other."""

    def __init__(self, steps: Sequence[Placement]) -> None:
        self.steps = steps
        self.lanes = self._assign_lanes()
        self.tops: list[float] = []
        top = 0.0
        for step in steps:
            self.tops.append(top)
            top += step.height + GAP
        self.height = max(0.0, top - GAP)
        self.inner_width = max([CARD, *(step.node.width for step in steps)])
        self.width = self.inner_width + LANE * (max(self.lanes.values(), default=-1) + 1)
        self.entry = _pointer(steps[0].node.box) if steps else ""
        leads_on = bool(steps) and steps[-1].goes_on and not steps[-1].stop
        self.exits = steps[-1].node.exits if leads_on else frozenset()

    def _assign_lanes(self) -> dict[_Line, int]:
        """Return the lanes of edges, the inner ones first, from 0; what has no lane is said below its task.

        None crosses another: of two to different targets that overlap, one lies within the other, further inside.
        """
        numbers = {_pointer(step.node.box): number for number, step in enumerate(self.steps)}
        wanted = {}
        for number, step in enumerate(self.steps):
            for jump in step.jumps:
                if jump.target in numbers:
                    wanted[_Line(number, jump.begin, numbers[jump.target])] = jump
                elif jump.text:
                    step.stop, step.aim = jump.text, jump.target
        lanes: dict[_Line, int] = {}
        for line in sorted(wanted, key=lambda line: (abs(line.number - line.target), *map(neg, line.ends[0]))):
            top, bottom = line.ends
            others = [(*each.ends, lane) for each, lane in lanes.items() if each.target != line.target]
            crosses = any(high < end < low for high, low, _ in others for end in (top, bottom))
            if crosses or len(lanes) == MAX_LINES:
                step, jump = self.steps[line.number], wanted[line]
                if jump.text:
                    step.stop, step.aim = jump.text, jump.target
                continue
            inner = [lane + 1 for high, low, lane in others if top < low and high < bottom]
            lanes[line] = max([0, *inner, *(lane for each, lane in lanes.items() if each.target == line.target)])
        return lanes

    def place(self, x: float, y: float, shapes: list[Shape]) -> None:
        """Append the shapes of a column of tasks, and the edges between them, with its top left corner at `x`, `y`."""
        for number, (top, step) in enumerate(zip(self.tops, self.steps, strict=True)):
            step.node.place(x, y + top, shapes)
            bottom, axis = y + top + step.node.height, x + AXIS
            if step.stop:
                pill(step.stop).place(x, bottom + GAP / 2, shapes)
                ways = frozenset((task, step.aim) for task in step.node.exits)
                shapes.append(Edge("next", ((axis, bottom), (axis, bottom + GAP / 2)), ways))
            elif step.goes_on and number + 1 < len(self.steps):
                following = self.steps[number + 1].node.box
                aim = END if following.kind == END else _pointer(following)
                ways = frozenset((task, aim) for task in step.node.exits)
                edge = Edge("next", ((axis, bottom), (axis, y + self.tops[number + 1])), ways, step.otherwise)
                shapes.append(edge)
        for line, lane in self.lanes.items():
            source, target = self.steps[line.number].node.box, self.steps[line.target].node.box
            side = x + self.inner_width + LANE * (lane + 0.7)
            start, end = y + self.tops[line.number] + line.begin, y + self.tops[line.target] + FIRST_ROW / 2
            points = ((x + source.width, start), (side, start), (side, end), (x + target.width, end))
            shapes.append(Edge("jump", points, frozenset([(_pointer(source), _pointer(target))])))


def _pointer(box: Box) -> str:
    return "" if box.placed is None else box.placed.pointer


def pill(text: str) -> Element:
    """Return the small box that says where control goes: `end`, `exit`, or the name of a task."""
    size = SIZES["note"]
    label = fit(text, CARD - 2 * TEXT_PAD, size)
    wide = max(PILL_WIDTH, width(label, size) + 2 * TEXT_PAD)
    kind = text if text in ("end", "exit") else "aim"
    return Leaf(Box(AXIS - wide / 2, 0, wide, PILL, kind, (Row("note", label, text),)))


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
MAX_NESTED: Final = 12  # branches of a `switch` within branches that are drawn side by side
MAX_LINES: Final = 24  # edges in lanes beside a list of tasks
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
    tasks = TaskList(list(tasks_of(definition.get("do"), ("do",))))
    column = _Builder(notes).column(tasks, first=_start(definition, title), last=pill("end"))
    shapes: list[Shape] = []
    column.place(MARGIN, MARGIN, shapes)
    return Drawing(column.width + 2 * MARGIN, column.height + 2 * MARGIN, tuple(shapes))


class _Builder:
    """Makes nodes of tasks, as many as may be drawn."""

    def __init__(self, notes: Mapping[str, Note]) -> None:
        self._left = MAX_TASKS
        self._nested = 0
        self._notes = notes

    def column(
        self,
        tasks: TaskList,
        span: tuple[int, int] | None = None,
        after: int | None = None,
        *,
        first: Element | None = None,
        last: Element | None = None,
    ) -> Column:
        """Return the tasks of a list, or those of `span`, behind which control goes to the one at the index `after`."""
        steps = [] if first is None else [Placement(first)]
        index, end = span or (0, len(tasks.tasks))
        after = end if after is None else after
        while index < end:
            if self._left <= 0:
                steps.append(Placement(_more(tasks.tasks[index:end])))
                break
            step, index = self.step(tasks, index, end, after)
            steps.append(step)
        return Column(steps if last is None else [*steps, Placement(last)])

    def step(self, tasks: TaskList, index: int, end: int, after: int) -> tuple[Placement, int]:
        """Return a step with the task at an index, and with the branches of a `switch`; and the index behind it."""
        self._left -= 1
        placed = tasks.tasks[index]
        node, following, drawn = self.node(placed), index + 1, frozenset[int]()
        behind = following if following < end else after
        found = tasks.branches(index, end, after, MAX_BRANCHES) if self._nested < MAX_NESTED else None
        if found is not None and isinstance(node, Leaf):
            branches, following = found
            behind = following if following < end else after
            drawn = frozenset(after if branch.begin == end else branch.begin for branch in branches)
            node = Choice(node, self.branches(tasks, branches, behind), tasks.pointer(behind))
        step = Placement(node, goes_on=bool(drawn and node.exits))
        rows = dict(_case_places(placed, node))
        for name, place in tasks.exits(index):
            if place in drawn:
                continue
            if place == behind:
                step.goes_on, step.otherwise = True, name if name == ELSE else step.otherwise
            else:
                text = "" if name in rows and place != index + 1 else f"\N{RIGHTWARDS ARROW} {tasks.name(place)}"
                step.jumps.append(Jump(tasks.pointer(place), rows.get(name, FIRST_ROW + 1), text))
        if reading.leads_on(placed) and (then := placed.task.get("then")) in reading.STOPS:
            step.stop = str(then)
        return step, following

    def branches(self, tasks: TaskList, branches: list[Branch], after: int) -> list[tuple[str, Column | None]]:
        self._nested += 1
        columns = [
            (label, self.column(tasks, (begin, end), after) if begin < end else None) for label, begin, end in branches
        ]
        self._nested -= 1
        return columns

    def node(self, placed: PlacedTask) -> Element:
        tasks, pointer = reading.inner(placed), placed.pointer
        if not tasks:
            return Leaf(self.box(placed), frozenset() if placed.kind == "raise" else frozenset([pointer]))
        box = self.box(placed, CARD + 2 * PAD)
        if placed.kind == "fork":
            columns = [self.column(TaskList([branch])) for branch in tasks[:MAX_BRANCHES]]
            if len(tasks) > MAX_BRANCHES:
                columns.append(Column([Placement(_more(tasks[MAX_BRANCHES:]))]))
            return Fork(box, columns, pointer)
        column = self.column(TaskList(tasks))
        if placed.kind == "try":
            return Try(box, [column, Column([Placement(self.handler(placed))])], pointer, gap=GAP * 1.5)
        return (Loop if placed.kind in ("for", "listen") else Frame)(box, [column], pointer)

    def handler(self, placed: PlacedTask) -> Element:
        tasks = reading.handler(placed)
        rows = [_row("name", "catch", CARD), *_rows("summary", [reading.caught(placed)], CARD)]
        box = _card("catch", rows)
        return Frame(box, [self.column(TaskList(tasks))], placed.pointer) if tasks else Leaf(box)

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


def _case_places(placed: PlacedTask, node: Element) -> Iterator[tuple[str, float]]:
    """Yield the cases that are drawn, by name, and the distance of the row of each from the top of the node."""
    cases = iter(reading.cases(placed))
    for number, row in enumerate(node.box.rows):
        if row.style == "case":
            yield next(cases)[0], FIRST_ROW + ROW * (number - 0.5)


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
    return Leaf(_card("start", rows), frozenset([START]))


def _more(tasks: Sequence[PlacedTask]) -> Element:
    count = sum(1 for _ in walk({"do": [{placed.name: placed.task} for placed in tasks]}))
    return Leaf(_card("more", [_row("note", f"… {count} more task{'s' if count > 1 else ''}", CARD)]))
