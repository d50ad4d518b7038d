"""The shapes of a drawing, with absolute coordinates in pixels; `y` grows downwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
