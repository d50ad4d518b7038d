"""`/`: what all flows, or one, did over a period, beside the period before; live."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from itertools import accumulate
from typing import Any, Final
from urllib.parse import urlencode

from markupsafe import Markup

from admin.console import rendering
from admin.console.charts import Series, chart
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
    times = {"since": f"{point.at:%Y-%m-%dT%H:%MZ}", "until": f"{until:%Y-%m-%dT%H:%MZ}"}
    of_flow = {"flow": flow} if flow and flow != OTHER else {}
    return f"/executions?{urlencode({**of_flow, **conditions, **times})}"


def faults_of(parameters: OverviewOf) -> str:
    given = {
        "flow": "" if parameters.flow == OTHER else parameters.flow,
        "status": "faulted",
        "since": parameters.period.value,
    }
    return f"/executions?{urlencode({name: value for name, value in given.items() if value})}"


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
        "faults_url": faults_of(parameters),
        "executions_of": executions_of,
    }


class OverviewPage(ConsolePage):
    """`/`: the overview, with the period and the flow in the URL; without any event, what to do first."""

    filter_form = FilterForm("overview_form.html", "Overview", table.GET_OVERVIEW)
    error_fields: Mapping[str, str] = {"FLOW_NOT_FOUND": "flow"}

    async def show(self, *_values: str) -> None:
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
