"""`/`: what all flows, or one, did over a period, beside the period before; live.

Charts are SVG: bars and lines with axes, and a title for each step that says its values. No style stands in them:
colours are those of the style sheet, by class. All text is escaped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from math import ceil, log10
from typing import Any, Final
from urllib.parse import urlencode

from markupsafe import Markup

from admin.console import rendering
from admin.console.flows import first_webhook
from admin.console.live import LiveStream
from admin.console.page import ConsolePage, FilterForm, query_of, read_live
from flowhook.model.overview import Overview, Period
from flowhook.process.metric_table import OTHER
from operations import table
from operations.flows import FlowList, OverviewOf

# time between two looks at a period: points of longer ones change less
LIVE_SECONDS: Final = {Period.HOUR: 5.0, Period.DAY: 15.0, Period.WEEK: 60.0, Period.MONTH: 60.0}
BEFORE: Final = {
    Period.HOUR: "the hour before",
    Period.DAY: "the 24 hours before",
    Period.WEEK: "the 7 days before",
    Period.MONTH: "the 30 days before",
}


TIMES: Final = (1.0, 60.0, 3600.0, 86_400.0)  # units of durations, in seconds
FEW_MILLISECONDS: Final = 0.01  # s; below, parts of one are shown
SIZES: Final = (1.0, 2.0**10, 2.0**20, 2.0**30)
MINUS: Final = "\N{MINUS SIGN}"


def executions_of(flow: str, point: Any, step: float, **conditions: str) -> str:
    """Return the URL of the list of executions that were received in a step."""
    until = point.at + timedelta(seconds=step)
    return _executions(flow, **conditions, since=f"{point.at:%Y-%m-%dT%H:%MZ}", until=f"{until:%Y-%m-%dT%H:%MZ}")


def _executions(flow: str, **conditions: str) -> str:
    of_flow = {"flow": flow} if flow and flow != OTHER else {}
    return f"/executions?{urlencode({**of_flow, **conditions})}"


def count(value: float) -> str:
    """Return a count as it stands at an axis."""
    for unit, name in ((1_000_000, "M"), (1000, "k")):
        if value >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"


def duration(seconds: float) -> str:
    """Return a duration as it stands at an axis, whose middle may be 2.5 ms."""
    return f"{seconds * 1000:.2g} ms" if seconds < FEW_MILLISECONDS else rendering.duration(seconds)


def change(now: float | None, before: float | None) -> str:
    """Return by how much a number changed, in per cent; empty: there is nothing to compare it with."""
    if not before or now is None:
        return ""
    per_cent = round((now - before) * 100 / before)
    return "unchanged" if per_cent == 0 else f"{per_cent:+,} %".replace("-", MINUS)


def charts(overview: Overview, flow: str) -> dict[str, Any]:
    """Return the charts by name."""
    points = overview.points
    times = [each.at for each in points]

    def series(**kinds: str) -> list[Series]:
        return [Series(name, [getattr(each, field) for each in points]) for name, field in kinds.items()]

    def faults(at: int) -> str:
        return executions_of(flow, points[at], overview.step, status="faulted") if points[at].faulted else ""

    def timed(name: str, title: str, **kinds: str) -> Markup:
        return chart(name, title, times, series(**kinds), duration, units=TIMES)

    # while nothing happens, it does not change either
    known = accumulate(points, lambda before, point: point.storage_bytes or before, initial=0)
    stored = [Series("stored", [each or None for each in known][1:])]
    drawn = {
        "accepted": chart("accepted", "Accepted", times, series(accepted="accepted"), count, stacked=True),
        "ended": chart(
            "ended",
            "Executions that ended",
            times,
            series(completed="completed", faulted="faulted", cancelled="cancelled"),
            count,
            stacked=True,
            link=faults,
        ),
        "latency": timed("latency", "Latency", p50="latency_p50", p99="latency_p99"),
        "wait": timed("wait", "Wait for a runner", p50="wait_p50", p99="wait_p99"),
        "pending": chart("pending", "Queue", times, series(pending="pending", retrying="retrying"), count),
        "oldest": timed("oldest", "Age of the queue", oldest="oldest_pending"),
    }
    if not flow:
        drawn["incidents"] = chart("incidents", "Open incidents", times, series(open="incidents"), count)
        drawn["storage"] = chart(
            "storage", "Storage", times, stored, lambda value: rendering.size(round(value)), units=SIZES
        )
    return drawn


def shown(overview: Overview, parameters: OverviewOf) -> dict[str, Any]:
    """Return the values for the template."""
    return {
        "overview": overview,
        "charts": charts(overview, parameters.flow),
        "flow": parameters.flow,
        "before": BEFORE[parameters.period],
        "change": change,
        "faults_url": _executions(parameters.flow, status="faulted", since=parameters.period.value),
        "executions_of": executions_of,
    }


class OverviewPage(ConsolePage):
    """`/`: the overview, with the period and the flow in the URL; without any event, what to do first."""

    filter_form = FilterForm("overview_form.html", "Overview", table.GET_OVERVIEW)
    error_fields: Mapping[str, str] = {"FLOW_NOT_FOUND": "flow"}

    async def show(self, *_values: str) -> None:
        """Show the numbers of a period; while no event was accepted, with a guide to the first webhook."""
        query = {name: values for name, values in self.query().items() if values != [""]}  # a form sends all fields
        live = read_live(query)
        parameters = table.GET_OVERVIEW.read_query({}, query)
        overview = await self.perform(table.GET_OVERVIEW, parameters)
        guide, no_flows = None, False
        if not parameters.flow and not overview.total.accepted:
            page = await self.perform(table.LIST_FLOWS, FlowList())
            no_flows = not page.flows
            guide = None if no_flows else await first_webhook(self, page)
        self.finish_page(
            "overview.html",
            filters=parameters,
            no_flows=no_flows,
            guide=guide,
            live=live and not no_flows,
            query=query_of(parameters),
            switched=query_of(parameters, live="off" if live else "on"),
            periods=[(each.value, query_of(OverviewOf(flow=parameters.flow, period=each))) for each in Period],
            **shown(overview, parameters),
        )


class OverviewStream(LiveStream):
    """`/stream/overview`."""

    operation = table.GET_OVERVIEW
    template = "overview_state.html"

    def conditions(self) -> OverviewOf:
        parameters: OverviewOf = super().conditions()
        self.interval = LIVE_SECONDS[parameters.period]
        return parameters

    def values_of(self, conditions: OverviewOf, result: Overview) -> dict[str, Any]:
        return shown(result, conditions)


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
