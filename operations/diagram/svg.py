"""Renders a flow as SVG.

The picture contains no style: classes and `STYLE` do that, so that a page with a strict Content-Security-Policy
can show it. Each task is a `<g>` with its JSON pointer in `data-task`. All text is escaped.

Source: SVG 2; WAI-ARIA Graphics Module 1.0, "role img"; XML 1.0, section 2.2, for the characters that are allowed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any, Final

from operations.diagram import layout, reading
from operations.diagram.layout import FIRST_ROW, ROW, TEXT_PAD, Box, Edge, Row
from operations.diagram.path import ExecutionPath, Visit, Way

_Attributes = Mapping[str, str | float]

PILLS: Final = (*reading.STOPS, "aim")  # kinds of small boxes
# rules for the classes of a picture; their colours are custom properties, which a page or `STANDALONE` defines
STYLE: Final = Path(__file__).with_name("diagram.css").read_text()
STANDALONE: Final = Path(__file__).with_name("standalone.css").read_text()  # colours of a picture that is a file
_FORBIDDEN: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def svg(
    definition: Mapping[str, Any],
    title: str,
    *,
    standalone: bool = False,
    path: ExecutionPath | None = None,
    now_ms: int = 0,
) -> str:
    """Return the picture of a validated definition, in plain JSON types; it takes milliseconds.

    `title`: name of the flow. `standalone`: for a file of its own, with a style sheet; else for a page that has it.
    `path`: that of an execution, which is drawn on the picture, with what has not ended as of `now_ms` (Unix ms).
    """
    return "\n".join(_lines(definition, title, standalone, path, now_ms)) + "\n"


def _lines(
    definition: Mapping[str, Any],
    title: str,
    standalone: bool,  # noqa: FBT001 - of a private function
    path: ExecutionPath | None,
    now_ms: int,
) -> Iterator[str]:
    visits = {} if path is None else path.visits
    notes = {pointer: (visit.text, visit.duration(now_ms)) for pointer, visit in visits.items()}
    drawing = layout.lay_out(definition, title, notes)
    if standalone:
        yield '<?xml version="1.0" encoding="UTF-8"?>'
    width, height = _number(drawing.width), _number(drawing.height)
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="{"diagram" if path is None else "diagram path"}" role="img" '
        'aria-labelledby="diagram-title" '
        f'aria-describedby="diagram-text" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
    )
    words = f"Flow {title}" if path is None else f"Path of an execution through the flow {title}"
    yield _element("title", {"id": "diagram-title"}, _text(words))
    lines = (
        f"{'  ' * depth}{line[: layout.MAX_WHOLE]}{'; '.join(('', *filter(None, notes.get(placed.pointer, ()))))}"
        for depth, placed, line in reading.outline(definition, layout.MAX_TASKS)
    )
    yield _element("desc", {"id": "diagram-text"}, _text("\n".join(lines)))
    if standalone:
        yield f"<style>\n{STANDALONE}{STYLE}</style>"
    ways = frozenset[Way]() if path is None else path.ways
    edges = [shape for shape in drawing.shapes if isinstance(shape, Edge)]
    for number, shape in enumerate(drawing.shapes):
        if not isinstance(shape, Edge):
            yield _box(shape, number, visits)
    for edge in sorted(edges, key=lambda edge: not edge.ways.isdisjoint(ways)):  # those that were taken on top
        yield _edge(edge, taken=not edge.ways.isdisjoint(ways))
    yield "</svg>"


def _box(box: Box, number: int, visits: Mapping[str, Visit]) -> str:
    placed = box.placed
    words = ["node" if placed is None else "task", f"kind-{box.kind}" if box.kind else "", "frame" if box.frame else ""]
    group: _Attributes = {}
    if placed is not None:
        words.append("conditional" if "if" in placed.task else "")
        if visit := visits.get(placed.pointer):
            words += ["visited", visit.state]
        group = {"id": f"task-{number}", "data-task": placed.pointer}
    radius = box.height / 2 if box.kind in PILLS else FIRST_ROW / 2 if box.kind == "start" else 4
    rect: _Attributes = {"class": "box", "x": box.x, "y": box.y, "width": box.width, "height": box.height, "rx": radius}
    parts = [_element("title", {}, _text("\n".join(row.whole for row in box.rows))), _element("rect", rect)]
    if placed is not None and not box.frame:
        mark: _Attributes = {"class": "mark", "x": box.x, "y": box.y + 4, "width": 3, "height": box.height - 8}
        parts.append(_element("rect", mark))
    parts += (_row(box, row, box.y + 17 + ROW * index) for index, row in enumerate(box.rows))
    return _element("g", {"class": " ".join(filter(None, words)), **group}, "".join(parts))


def _row(box: Box, row: Row, y: float) -> str:
    if box.kind in PILLS:
        return _words("note middle", box.x + box.width / 2, box.y + 16, row.text)
    text = _words(row.style, box.x + TEXT_PAD, y, row.text)
    return text + (_words(f"right {row.style}-right", box.x + box.width - TEXT_PAD, y, row.right) if row.right else "")


def _edge(edge: Edge, *, taken: bool) -> str:
    x, y = edge.points[-1]
    line = " ".join(f"{_number(each_x)},{_number(each_y)}" for each_x, each_y in edge.points)
    parts = [_element("polyline", {"points": line})]
    if edge.kind != "join":
        parts.append(_element("path", {"d": _head(*edge.points[-2], *edge.points[-1])}))
    if edge.label:
        parts.append(_words("note", x + 6, y - 9, edge.label))
    return _element("g", {"class": f"edge {edge.kind}{' taken' if taken else ''}"}, "".join(parts))


def _words(classes: str, x: float, y: float, text: str) -> str:
    return _element("text", {"class": classes, "x": x, "y": y}, _text(text))


def _head(from_x: float, from_y: float, x: float, y: float) -> str:
    """Return the path of an arrowhead, whose tip is at `x`, `y`."""
    along = (_sign(x - from_x), _sign(y - from_y))
    base_x, base_y = x - 7 * along[0], y - 7 * along[1]
    side_x, side_y = 4 * along[1], 4 * along[0]
    corners = ((x, y), (base_x + side_x, base_y + side_y), (base_x - side_x, base_y - side_y))
    return "M" + "L".join(f"{_number(each_x)} {_number(each_y)}" for each_x, each_y in corners) + "Z"


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def _number(value: float) -> str:
    return f"{round(value, 1):g}"


def _element(name: str, attributes: _Attributes, content: str = "") -> str:
    """Return an element; `content` is markup."""
    written = "".join(
        f' {key}="{_text(value) if isinstance(value, str) else _number(value)}"' for key, value in attributes.items()
    )
    return f"<{name}{written}>{content}</{name}>" if content else f"<{name}{written}/>"


def _text(value: str) -> str:
    return escape(_FORBIDDEN.sub("\ufffd", value))
