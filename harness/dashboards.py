"""Writes the dashboards for Grafana, deploy/grafana/*.json: `python -m harness.dashboards`.

A panel is a line here and fifty in Grafana's JSON.

Source: https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, NamedTuple

FOLDER: Final = Path(__file__).parents[1] / "deploy" / "grafana"
COLUMNS: Final = 24  # of Grafana's grid
DATA_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


class Panel(NamedTuple):
    """A panel: queries by the legend of their series; `{{label}}` there is the value of a label."""

    title: str
    unit: str  # of Grafana
    description: str
    queries: dict[str, str]
    kind: str = "timeseries"

    @property
    def size(self) -> tuple[int, int]:
        return (4, 4) if self.kind == "stat" else (8, 8)


def _stat(title: str, unit: str, description: str, query: str) -> Panel:
    return Panel(title, unit, description, {"": query}, "stat")


def _rate(metric: str, by: str = "", where: str = "") -> str:
    grouped = f"sum by ({by}) " if by else "sum"
    return f"{grouped}(rate({metric}{{{where}}}[$__rate_interval]))"


def _quantiles(metric: str, by: str = "", where: str = "") -> dict[str, str]:
    """Return the median and the 99th percentile of a histogram; by a label only the latter."""
    buckets = _rate(f"{metric}_bucket", f"le, {by}" if by else "le", where)
    if by:
        return {f"{{{{{by}}}}} p99": f"histogram_quantile(0.99, {buckets})"}
    return {f"p{share * 100:g}": f"histogram_quantile({share}, {buckets})" for share in (0.5, 0.99)}


_FAULTED: Final = 'status="faulted"'
OVERVIEW: Final = (
    _stat("Processes that are down", "short", "That died or are not ready.", "count(flowhook_up == 0) or vector(0)"),
    _stat("Runners", "short", "Attached to the router.", "max(flowhook_runners_connected)"),
    _stat("Oldest event", "s", "That waits for a runner.", "max(flowhook_queue_oldest_age_seconds)"),
    _stat("Incidents", "short", "Destinations of calls that are down.", "sum(flowhook_incidents_open)"),
    _stat("Silent flows", "short", "They got no event for longer than they expect.", "max(flowhook_silent_flows)"),
    _stat(
        "Free disk",
        "percentunit",
        "Of the router whose disk has the least.",
        "min(flowhook_disk_free_bytes / flowhook_disk_size_bytes)",
    ),
    Panel(
        "Events",
        "reqps",
        "Accepted: stored for an execution. Duplicates and filtered ones start nothing.",
        {
            "accepted": _rate("flowhook_events_accepted_total"),
            "duplicate": _rate("flowhook_events_duplicate_total"),
            "filtered": _rate("flowhook_events_filtered_total"),
        },
    ),
    Panel(
        "Refused requests",
        "reqps",
        "By the reason that senders see.",
        {"{{reason}}": _rate("flowhook_events_rejected_total", "reason", 'role="edge"')},
    ),
    Panel(
        "Acceptance",
        "s",
        "From a complete request to the router's answer.",
        _quantiles("flowhook_accept_duration_seconds"),
    ),
    Panel(
        "Executions that ended",
        "cps",
        "By status.",
        {"{{status}}": _rate("flowhook_executions_total", "status")},
    ),
    Panel(
        "Executions that have not ended",
        "short",
        "By state: ready for a runner, delayed on purpose, leased by a runner, waiting for a time or an event.",
        {"{{state}}": "sum by (state) (flowhook_queue_depth)"},
    ),
    Panel(
        "From event to end",
        "s",
        "From the acceptance of an event to the end of its execution, with all that it waits for.",
        _quantiles("flowhook_event_end_to_end_seconds"),
    ),
    Panel(
        "Flows with most events",
        "reqps",
        "The ten busiest flows.",
        {"{{flow}}": f"topk(10, {_rate('flowhook_events_accepted_total', 'flow')})"},
    ),
    Panel(
        "Flows with most faults",
        "cps",
        "The ten flows of which most executions fault.",
        {"{{flow}}": f"topk(10, {_rate('flowhook_executions_total', 'flow', _FAULTED)})"},
    ),
    Panel(
        "Flows that wait",
        "s",
        "The ten flows whose next event waits for a runner for the longest time.",
        {"{{flow}}": "topk(10, max by (flow) (flowhook_queue_oldest_age_seconds))"},
    ),
)

_FLOW: Final = 'flow=~"$flow"'
FLOW: Final = (
    Panel(
        "Events",
        "reqps",
        "Accepted: stored for an execution. Duplicates and filtered ones start nothing.",
        {
            "accepted": _rate("flowhook_events_accepted_total", where=_FLOW),
            "duplicate": _rate("flowhook_events_duplicate_total", where=_FLOW),
            "filtered": _rate("flowhook_events_filtered_total", where=_FLOW),
        },
    ),
    Panel(
        "Refused requests",
        "reqps",
        "By the reason that senders see.",
        {"{{reason}}": _rate("flowhook_events_rejected_total", "reason", f'role="edge", {_FLOW}')},
    ),
    Panel(
        "Since the last event",
        "s",
        "Time since the flow accepted its latest event.",
        {"{{flow}}": f"time() - max by (flow) (flowhook_last_event_timestamp_seconds{{{_FLOW}}})"},
    ),
    Panel(
        "Executions that ended",
        "cps",
        "By status.",
        {"{{status}}": _rate("flowhook_executions_total", "status", _FLOW)},
    ),
    Panel(
        "Executions that have not ended",
        "short",
        "By state: ready for a runner, delayed on purpose, leased by a runner, waiting for a time or an event.",
        {"{{state}}": f"sum by (state) (flowhook_queue_depth{{{_FLOW}}})"},
    ),
    Panel(
        "Oldest event",
        "s",
        "Age of the event that a runner gets next.",
        {"{{flow}}": f"max by (flow) (flowhook_queue_oldest_age_seconds{{{_FLOW}}})"},
    ),
    Panel(
        "Wait for a runner",
        "s",
        "From the acceptance of an event to the first assignment of its execution, with what delays it on purpose.",
        _quantiles("flowhook_queue_wait_seconds", where=_FLOW),
    ),
    Panel(
        "From event to end",
        "s",
        "From the acceptance of an event to the end of its execution, with all that it waits for.",
        _quantiles("flowhook_event_end_to_end_seconds", where=_FLOW),
    ),
    Panel(
        "Calls",
        "s",
        "Duration of nearly all tasks that call a function: 99 % take no longer.",
        _quantiles("flowhook_task_duration_seconds", "function", _FLOW),
    ),
    Panel(
        "Calls that faulted",
        "cps",
        "Each try, by function.",
        {"{{function}}": _rate("flowhook_task_duration_seconds_count", "function", f"{_FAULTED}, {_FLOW}")},
    ),
    Panel(
        "Retries",
        "cps",
        "Tasks and calls that failed and are tried again.",
        {"{{flow}}": _rate("flowhook_task_retries_total", "flow", _FLOW)},
    ),
    Panel(
        "Incidents",
        "short",
        "Destinations of the flow's calls that are down.",
        {"{{flow}}": f"sum by (flow) (flowhook_incidents_open{{{_FLOW}}})"},
    ),
)

INTERNALS: Final = (
    Panel(
        "Answers to senders",
        "reqps",
        "By status.",
        {
            "{{http_response_status_code}}": _rate(
                "http_server_request_duration_seconds_count", "http_response_status_code"
            )
        },
    ),
    Panel(
        "Edges",
        "short",
        "Open connections, and requests that wait for the router or for the answer of their flow.",
        {
            "connections": "sum(flowhook_edge_connections)",
            "wait for the router": "sum(flowhook_edge_pending_events)",
            "wait for their flow": "sum(flowhook_edge_held_requests)",
        },
    ),
    Panel(
        "Checks of credentials",
        "cps",
        "By scheme, and by which secret matched. Once none matches `previous` any more, remove that secret.",
        {"{{scheme}} {{result}} {{key}}": _rate("flowhook_signature_checks_total", "scheme, result, key")},
    ),
    Panel(
        "Commits",
        "s",
        "Time that a commit takes until it is durable.",
        _quantiles("flowhook_storage_commit_duration_seconds"),
    ),
    Panel(
        "Writes in a commit",
        "short",
        "On average.",
        {
            "writes": f"{_rate('flowhook_storage_commit_batch_writes_sum')}"
            f" / {_rate('flowhook_storage_commit_batch_writes_count')}"
        },
    ),
    Panel(
        "Storage",
        "bytes",
        "Bytes on the disk, by kind.",
        {
            "{{process}} {{kind}}": "max by (process, kind) (flowhook_storage_bytes)",
            "log": "max(flowhook_router_log_bytes)",
        },
    ),
    Panel(
        "Lag of event loops",
        "s",
        "By how much nearly all turns of a process's loop were late: 99 % were no later.",
        _quantiles("flowhook_event_loop_lag_seconds", "process"),
    ),
    Panel(
        "Processor time",
        "percentunit",
        "By process; 100 % is one core.",
        {"{{process}}": _rate("process_cpu_seconds_total", "process")},
    ),
    Panel(
        "Memory",
        "bytes",
        "Resident memory by process.",
        {"{{process}}": "sum by (process) (process_resident_memory_bytes)"},
    ),
    Panel(
        "Attempts",
        "cps",
        "Work of runners at executions that ended, by outcome.",
        {"{{outcome}}": _rate("flowhook_attempts_total", "outcome")},
    ),
    Panel(
        "Runners",
        "short",
        "Attempts in progress, and executions that runners would take now.",
        {"in progress": "sum(flowhook_attempts_running)", "free": "sum(flowhook_runner_credit)"},
    ),
    Panel(
        "Taken from runners",
        "cps",
        "Executions that a runner lost or returned, and processes killed because of a runaway expression.",
        {
            "executions": _rate("flowhook_redeliveries_total"),
            "processes": _rate("flowhook_evaluation_kills_total"),
        },
    ),
    Panel(
        "Outgoing requests",
        "s",
        "Duration of nearly all requests to a destination: 99 % take no longer.",
        _quantiles("http_client_request_duration_seconds", "server_address"),
    ),
    Panel(
        "Outgoing requests that failed",
        "reqps",
        "Without an answer, or with a status from 500, by destination.",
        {
            "{{server_address}}": _rate(
                "http_client_request_duration_seconds_count", "server_address", 'http_response_status_code=~"5..|"'
            )
        },
    ),
    Panel(
        "Replicated log",
        "short",
        "Records that a standby lags behind the owner. Servers that do not answer.",
        {
            "{{router}}": "max by (router) (flowhook_standby_lag_records)",
            "servers down": "count(flowhook_nats_server_up == 0)",
        },
    ),
    Panel(
        "Snapshots",
        "s",
        "Age of the latest snapshot of the replicated log, and for how long snapshots have failed.",
        {
            "age": "max(flowhook_snapshot_age_seconds)",
            "failing": "max(flowhook_router_snapshots_failing_seconds)",
        },
    ),
    Panel(
        "Clocks",
        "s",
        "By how much the clock of a process is ahead of the router's.",
        {"{{process}}": "max by (process) (flowhook_clock_skew_seconds)"},
    ),
    Panel(
        "Credentials",
        "s",
        "Time until a certificate or a token expires.",
        {
            "{{file}}": "min by (file) (flowhook_certificate_expiry_timestamp_seconds) - time()",
            "{{token}}": "min by (token) (flowhook_token_expiry_timestamp_seconds) - time()",
        },
    ),
)

DASHBOARDS: Final = {"overview": OVERVIEW, "flow": FLOW, "internals": INTERNALS}


def dashboard(name: str, panels: tuple[Panel, ...]) -> dict[str, Any]:
    """Return a dashboard as Grafana imports it."""
    variables: list[dict[str, Any]] = [{"name": "datasource", "type": "datasource", "query": "prometheus"}]
    if name == "flow":
        query = "label_values(flowhook_events_accepted_total, flow)"
        choice = {"multi": True, "includeAll": True, "refresh": 2, "sort": 1}
        variables.append({"name": "flow", "type": "query", "datasource": DATA_SOURCE, "query": query, **choice})
    placed, x, y = [], 0, 0
    for number, panel in enumerate(panels, 1):
        width, height = panel.size
        placed.append(_panel(number, panel, {"x": x, "y": y, "w": width, "h": height}))
        x, y = (x + width, y) if x + width < COLUMNS else (0, y + height)
    return {
        "uid": f"flowhook-{name}",
        "title": f"Flowhook / {name.capitalize()}",
        "tags": ["flowhook"],
        "schemaVersion": 39,  # Grafana 11; later ones migrate it
        "editable": True,
        "graphTooltip": 1,  # the time under the pointer is shown in all panels
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "links": [{"type": "dashboards", "title": "Flowhook", "tags": ["flowhook"], "keepTime": True}],
        "templating": {"list": variables},
        "panels": placed,
    }


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + index), "expr": query, "legendFormat": legend}
        for index, (legend, query) in enumerate(panel.queries.items())
    ]
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATA_SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "targets": targets,
    }


def written() -> dict[Path, str]:
    """Return the files and what they contain."""
    return {
        FOLDER / f"{name}.json": json.dumps(dashboard(name, panels), indent=1) + "\n"
        for name, panels in DASHBOARDS.items()
    }


if __name__ == "__main__":
    for path, text in written().items():
        path.write_text(text, encoding="utf-8")
