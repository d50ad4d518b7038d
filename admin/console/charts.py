"""Charts of numbers over time, as SVG: bars and lines with axes, and a title for each step that says its values.

No style stands in them: colours are those of the style sheet, by class. All text is escaped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil, log10
from typing import Final

from markupsafe import Markup

WIDTH: Final = 400
HEIGHT: Final = 150
LEFT: Final = 58  # of the plot, in the same units
RIGHT: Final = 396
TOP: Final = 10
BOTTOM: Final = 126
LABELS: Final = 4  # times below the axis at most, about
NICE: Final = (1, 2, 5, 10)
_CHART: Final = Markup(
    '<svg class="chart" viewBox="0 0 {width} {height}" role="{role}" aria-labelledby="{name}-title">'
    '<title id="{name}-title">{title}</title>{content}</svg>'
)
_TEXT: Final = Markup('<text class="{name}" x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>')


@dataclass(frozen=True, slots=True)
class Series:
    """Numbers of one kind, one for each step; None: there is none."""

    name: str  # shown, and with `-` for spaces its class
    values: Sequence[float | None]

    @property
    def css(self) -> str:
        return self.name.replace(" ", "-")


def top_of(greatest: float, units: Sequence[float] = (1.0,)) -> float:
    """Return the least of 1, 2, 5, 10, 20, … (or 0.5, 0.2, …) of a unit that is not below a number."""
    if greatest <= 0:
        return units[0]
    unit = max((each for each in units if each <= greatest), default=units[0])
    power = unit * 10.0 ** (ceil(log10(greatest / unit)) - 1)
    return next(nice * power for nice in NICE if nice * power >= greatest * 0.999999)


def chart(
    name: str,
    title: str,
    times: Sequence[datetime],
    series: Sequence[Series],
    text: Callable[[float], str],
    *,
    units: Sequence[float] = (1.0,),
    stacked: bool = False,
    link: Callable[[int], str] | None = None,
) -> Markup:
    """Return a chart of numbers at times that are equally far apart.

    Args:
        name: of the chart, unique on its page.
        title: what it shows, for those who don't see it.
        times: when each step begins.
        series: numbers; each has as many as there are times.
        text: returns a number as it is shown, with its unit.
        units: what `text` shows numbers in, the least first: the axis has round numbers of one.
        stacked: bars, one kind above the other, of counts; otherwise lines.
        link: returns where a step leads to, or an empty text.
    """
    sums = [sum(each.values[at] or 0 for each in series) for at in range(len(times))] if stacked else []
    values = sums or [value for each in series for value in each.values if value is not None]
    top = top_of(max(values, default=0), units)
    if stacked:
        top = max(top, 1)
    plot = _bars(series, top) if stacked else Markup().join(_line(each, top) for each in series)
    columns = Markup().join(_column(at, times, series, text, link) for at in range(len(times)))
    content = _axes(times, top, text) + plot + columns
    role = "group" if "<a " in columns else "img"  # an image can't contain links
    return _CHART.format(role=role, width=WIDTH, height=HEIGHT, name=name, title=title, content=content)


def _x(at: float, steps: int) -> float:
    return round(LEFT + at * (RIGHT - LEFT) / steps, 1)


def _y(value: float, top: float) -> float:
    return round(BOTTOM - value * (BOTTOM - TOP) / top, 1)


def _axes(times: Sequence[datetime], top: float, text: Callable[[float], str]) -> Markup:
    parts = []
    for value in (0.0, top) if top == 1 else (0.0, top / 2, top):
        y = _y(value, top)
        parts.append(Markup('<path class="grid" d="M{} {}H{}"/>').format(LEFT, y, RIGHT))
        label = text(value).replace(".0 ", " ") if value else "0"  # of whatever unit
        parts.append(_TEXT.format(name="tick", x=LEFT - 5, y=y + 3.5, anchor="end", text=label))
    for at in label_places(times):
        x = _x(at, len(times))
        parts.append(Markup('<path class="grid" d="M{} {}v4"/>').format(x, BOTTOM))
        parts.append(_TEXT.format(name="tick", x=x, y=BOTTOM + 16, anchor="middle", text=_label(times, at)))
    return Markup().join(parts)


def label_places(times: Sequence[datetime]) -> list[int]:
    """Return the steps whose times are written below the axis: round ones, equally far apart."""
    minutes = [int(time.timestamp()) // 60 for time in times]
    span = minutes[-1] - minutes[0] + 1
    every = next(
        each for each in (15, 30, 60, 120, 360, 720, 1440, 2880, 10_080, 20_160) if span / each <= LABELS + 1.5
    )
    return [at for at, minute in enumerate(minutes) if minute % every == 0 and 0 < at < len(times) - 1]


def _label(times: Sequence[datetime], at: int) -> str:
    return times[at].strftime("%H:%M" if times[-1] - times[0] < timedelta(days=2) else "%b %-d")


def _bars(series: Sequence[Series], top: float) -> Markup:
    parts, steps = [], len(series[0].values)
    base = [0.0] * steps
    width = max((RIGHT - LEFT) / steps - 1, 1)
    for each in series:
        path = []
        for at, value in enumerate(each.values):
            if value:
                low, high = _y(base[at], top), _y(base[at] + value, top)
                low = max(low, high + 1)  # the smallest is still seen
                base[at] += value
                path.append(f"M{_x(at, steps)} {low}V{high}h{width:.1f}V{low}z")
        if path:
            parts.append(Markup('<path class="bar {}" d="{}"/>').format(each.css, "".join(path)))
    return Markup().join(parts)


def _line(series: Series, top: float) -> Markup:
    """Return a line through the values; where one is missing, it is interrupted, and a single one is a dash."""
    path, steps, drawing = [], len(series.values), False
    dash = max(round((RIGHT - LEFT) / steps, 1), 4)
    for at, value in enumerate(series.values):
        if value is not None:
            x, y = _x(at + 0.5, steps), _y(value, top)
            alone = not drawing and (at + 1 == steps or series.values[at + 1] is None)
            path.append(f"M{x - dash / 2:.1f} {y}h{dash}" if alone else f"{'L' if drawing else 'M'}{x} {y}")
        drawing = value is not None
    return Markup('<path class="line {}" d="{}"/>').format(series.css, "".join(path)) if path else Markup()


def _column(
    at: int,
    times: Sequence[datetime],
    series: Sequence[Series],
    text: Callable[[float], str],
    link: Callable[[int], str] | None,
) -> Markup:
    """Return the place of a step, which shows its values while the pointer is over it."""
    x, right = _x(at, len(times)), _x(at + 1, len(times))
    shown = ", ".join(f"{text(value)} {each.name}" for each in series if (value := each.values[at]) is not None)
    title = f"{times[at]:%b %-d, %H:%M} UTC: {shown or 'nothing'}"
    place = Markup('<rect class="step" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>').format(
        x, TOP, round(right - x, 1), BOTTOM - TOP, title
    )
    target = link(at) if link is not None else ""
    return Markup('<a href="{}" tabindex="-1" aria-hidden="true">{}</a>').format(target, place) if target else place
