"""Lays a flow out: a list of tasks is a column of boxes, and what contains tasks is a frame around such columns.

All boxes of a column begin at the same `x`, so that a narrow screen shows the beginning of each. Where a `then` names
another task of the list, an edge runs in a lane to the right of the column; edges to one task share a lane. A `then`
that ends the list or the flow leads to a small box below the task. The branches of a `fork` are columns side by side;
the handler of a `try` is a frame to the right of what is tried.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from flowhook.document.definition import DIRECTIVES, PlacedTask, tasks_of, walk
from operations.diagram import reading
from operations.diagram.nodes import (
    BOTTOM,
    CARD,
    FIRST_ROW,
    GAP,
    PAD,
    ROW,
    Box,
    Column,
    Drawing,
    Fork,
    Frame,
    Leaf,
    Loop,
    Node,
    Row,
    RowStyle,
    Shape,
    Step,
    Try,
    pill,
)

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
SIZES: Final[Mapping[RowStyle, float]] = {"name": 13, "summary": 11, "condition": 11, "case": 12, "note": 11}
_MONOSPACED: Final = ("summary", "condition")


def lay_out(definition: Mapping[str, Any], title: str) -> Drawing:
    """Return the drawing of a validated definition, whose name is `title`."""
    column = _Builder().column(
        list(tasks_of(definition.get("do"), ("do",))), first=_start(definition, title), last=pill("end")
    )
    shapes: list[Shape] = []
    column.place(MARGIN, MARGIN, shapes)
    return Drawing(column.width + 2 * MARGIN, column.height + 2 * MARGIN, tuple(shapes))


class _Builder:
    """Makes nodes of tasks, as many as may be drawn."""

    def __init__(self) -> None:
        self._left = MAX_TASKS

    def column(self, tasks: list[PlacedTask], *, first: Node | None = None, last: Node | None = None) -> Column:
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

    def node(self, placed: PlacedTask) -> Node:
        tasks = reading.inner(placed)
        if not tasks:
            return Leaf(_box(placed))
        box = _box(placed, CARD + 2 * PAD)
        if placed.kind == "fork":
            nodes: list[Node] = [self.column([branch]) for branch in tasks[:MAX_BRANCHES]]
            if len(tasks) > MAX_BRANCHES:
                nodes.append(_more(tasks[MAX_BRANCHES:]))
            return Fork(box, nodes)
        column = self.column(tasks)
        if placed.kind == "try":
            return Try(box, [column, self.handler(placed)], gap=GAP * 1.5)
        return (Loop if placed.kind in ("for", "listen") else Frame)(box, [column])

    def handler(self, placed: PlacedTask) -> Node:
        tasks = reading.handler(placed)
        rows = [_row("name", "catch", CARD), *_rows("summary", [reading.caught(placed)], CARD)]
        box = _card("catch", rows)
        return Frame(box, [self.column(tasks)]) if tasks else Leaf(box)


def _box(placed: PlacedTask, pixels: float = CARD) -> Box:
    """Return the box of a task, `pixels` wide, at no place yet."""
    task = placed.task
    rows = [_row("name", placed.name, pixels, right=placed.kind)]
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


def _targets(placed: PlacedTask, node: Node) -> Iterator[tuple[str, float]]:
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


def _start(definition: Mapping[str, Any], title: str) -> Node:
    texts = [*filter(None, [reading.webhook_trigger(definition)]), *reading.triggers(definition)]
    rows = [_row("name", title, CARD, right="start"), *_rows("note", texts[:MAX_CASES], CARD)]
    return Leaf(_card("start", rows))


def _more(tasks: Sequence[PlacedTask]) -> Node:
    count = sum(1 for _ in walk({"do": [{placed.name: placed.task} for placed in tasks]}))
    return Leaf(_card("more", [_row("note", f"… {count} more task{'s' if count > 1 else ''}", CARD)]))
