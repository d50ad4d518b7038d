"""Draws the timeline of an execution as SVG: how long it was queued, and a bar for each task; pure.

Attributes hold positions and sizes, classes hold colours: the policy of the console permits no inline style.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from operations.diagram.reading import milliseconds_text

MAX_BARS: Final = 200  # bars of a timeline; the table beside it has all tasks
WIDTH: Final = 1000  # width of the picture in its own units, which the page scales
LABELS: Final = 260  # width of the column with the names of tasks
ROW: Final = 24  # height of a row
_BAR: Final = 14
_AXIS: Final = 28
_GAP: Final = 3
_CHARACTER: Final = 9  # widest that a character of the axis is
_MIN_WIDTH: Final = 2
_MAX_LABEL: Final = 34
_MAX_INDENT: Final = 8
_INDENT: Final = 8
_TICKS: Final = 5
_DAY: Final = 86_400_000
# distances of ticks in milliseconds; longer ones are whole days
_STEPS: Final = (
    *(1, 2, 5, 10, 20, 50, 100, 200, 500),
    *(1000 * seconds for seconds in (1, 2, 5, 10, 20, 30)),
    *(60_000 * minutes for minutes in (1, 2, 5, 10, 20, 30)),
    *(3_600_000 * hours for hours in (1, 2, 3, 6, 12)),
    _DAY,
)


@dataclass(frozen=True, slots=True)
class Bar:
    """A row of the timeline."""

    label: str  # name of the task, for people
    state: str  # class of its colour: `queued`, or the state of a task or of an attempt
    begin_ms: int  # time at which it began, in Unix milliseconds
    end_ms: int | None  # time at which it ended; None: it has not
    waits: bool = False  # whether it waits for something, rather than works
    tries_ms: tuple[int, ...] = ()  # times at which its operation was tried again
    depth: int = 0  # number of tasks around it
    link: str = ""  # URL of what the row leads to; empty: nothing
    others: tuple[tuple[int, int | None], ...] = ()  # later intervals of the same row, as `begin_ms` and `end_ms`
    is_attempt: bool = False  # whether it is an attempt, whose label says its state

    @property
    def intervals(self) -> tuple[tuple[int, int | None], ...]:
        return ((self.begin_ms, self.end_ms), *self.others)


def draw_timeline(bars: Sequence[Bar], now_ms: int) -> Markup:
    """Return the picture of the first `MAX_BARS` bars; those without an end go on until now. Empty without bars."""
    shown = bars[:MAX_BARS]
    if not shown:
        return Markup("")
    first = min(bar.begin_ms for bar in shown)
    last = max(_end(interval, now_ms) for bar in shown for interval in bar.intervals)
    scale = _Scale(first, max(last - first, 1))
    height = _AXIS + ROW * len(shown)
    parts = [
        Markup('<svg class="timeline" viewBox="0 0 {} {}" width="{}" height="{}" role="group" aria-label="{}">').format(
            WIDTH, height, WIDTH, height, f"Timeline of {len(shown)} rows over {milliseconds_text(last - first)}"
        ),
        *_axis(scale, height),
        *(_row(bar, _AXIS + ROW * index, scale, now_ms) for index, bar in enumerate(shown)),
        Markup("</svg>"),
    ]
    return Markup("").join(parts)


@dataclass(frozen=True, slots=True)
class _Scale:
    first_ms: int
    length_ms: int

    def x(self, moment_ms: float) -> float:
        share = min(max((moment_ms - self.first_ms) / self.length_ms, 0.0), 1.0)
        return round(LABELS + share * (WIDTH - LABELS - _MIN_WIDTH), 1)


def _end(interval: tuple[int, int | None], now_ms: int) -> int:
    begin, end = interval
    return max(begin, now_ms if end is None else end)


def _axis(scale: _Scale, height: int) -> list[Markup]:
    step = tick_step(scale.length_ms)
    line = Markup('<line class="tick" x1="{}" y1="{}" x2="{}" y2="{}"/>')
    text = Markup('<text class="axis" x="{}" y="14" text-anchor="{}">{}</text>')
    ticks = []
    for number in range(int(scale.length_ms // step) + 1):
        x = scale.x(scale.first_ms + number * step)
        label = milliseconds_text(number * step)
        fits = x + _GAP + _CHARACTER * len(label) <= WIDTH
        ticks.append(line.format(x, _AXIS - 8, x, height))
        ticks.append(text.format(x + _GAP if fits else x - _GAP, "start" if fits else "end", label))
    return ticks


def tick_step(length_ms: int) -> int:
    """Return the distance of the ticks of an axis in milliseconds, so that there are at most `_TICKS` of them."""
    wanted = max(1, -(-length_ms // _TICKS))
    return next((step for step in _STEPS if step >= wanted), -(-wanted // _DAY) * _DAY)


def _row(bar: Bar, y: int, scale: _Scale, now_ms: int) -> Markup:
    taken = milliseconds_text(sum(_end(interval, now_ms) - interval[0] for interval in bar.intervals))
    label = bar.label if len(bar.label) <= _MAX_LABEL else bar.label[: _MAX_LABEL - 1] + "…"
    what = f"{bar.label}{', ' if bar.is_attempt else f': {bar.state}, '}{'waits, ' if bar.waits else ''}{taken}"
    what += " so far" if any(end is None for _, end in bar.intervals) else ""
    mark = Markup('<line class="try" x1="{}" y1="{}" x2="{}" y2="{}"/>')
    row = Markup('<g><title>{}</title><text class="label" x="{}" y="{}">{}</text>{}{}</g>').format(
        what,
        min(bar.depth, _MAX_INDENT) * _INDENT,
        y + _BAR,
        label,
        Markup("").join(
            _rectangle(bar, y, scale.x(interval[0]), scale.x(_end(interval, now_ms))) for interval in bar.intervals
        ),
        Markup("").join(mark.format(scale.x(each), y + 1, scale.x(each), y + ROW - 3) for each in bar.tries_ms),
    )
    return Markup('<a href="{}">{}</a>').format(bar.link, row) if bar.link else row


def _rectangle(bar: Bar, y: int, begin: float, end: float) -> Markup:
    return Markup('<rect class="bar {}{}{}" x="{}" y="{}" width="{}" height="{}"/>').format(
        bar.state,
        " attempt" if bar.is_attempt else "",
        " waits" if bar.waits else "",
        begin,
        y + (ROW - _BAR) // 2 - 1,
        max(round(end - begin, 1), _MIN_WIDTH),
        _BAR,
    )
