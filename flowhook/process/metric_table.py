"""All metrics of all processes, in one table: what collectors may expose, and what docs/metrics.md says.

Names follow Prometheus ("Metric and label naming": base units, `_total`) and, for HTTP, the semantic conventions of
OpenTelemetry 1.44. Two nouns: an *execution* is what an event starts, with one end; an *attempt* is a runner's work at
an execution, of which there may be many.

Labels have few values, whatever senders send. `flow` has at most `MAX_FLOWS` per process: its busiest flows, and
`OTHER` for all others together.
"""

from __future__ import annotations

from typing import Final, NamedTuple

MAX_FLOWS: Final = 200  # flows with series of their own, in each process
OTHER: Final = "_other"  # the label of what has no series of its own; no flow can have that ID

COUNTER: Final = "counter"
GAUGE: Final = "gauge"
HISTOGRAM: Final = "histogram"

# upper bounds: of what takes a fraction of a second as a rule (s), of what may take hours (s), and of sizes
FAST: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
LONG: Final = (0.005, 0.025, 0.1, 0.25, 1.0, 5.0, 30.0, 300.0, 3600.0, 86400.0)
EVENTS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)


class Metric(NamedTuple):
    """A metric: the name as it is queried, so with `_total`, and with `_seconds` or `_bytes` as its unit."""

    name: str
    kind: str
    roles: tuple[str, ...]  # processes that expose it
    labels: tuple[str, ...]
    help: str
    bounds: tuple[float, ...] = ()  # upper bounds of the buckets of a histogram

    @property
    def unit(self) -> str:
        return next((unit for unit in ("seconds", "bytes") if f"_{unit}" in self.name), "")


_ALL: Final = ("edge", "router", "runner", "admin")
_EDGE: Final = ("edge",)
_ROUTER: Final = ("router",)
_RUNNER: Final = ("runner",)
_ADMIN: Final = ("admin",)

# by the heading in docs/metrics.md
TABLE: Final = {
    "Requests": (
        Metric(
            "http_server_request_duration_seconds",
            HISTOGRAM,
            _EDGE,
            ("http_request_method", "http_route", "http_response_status_code", "error_type"),
            "From the head of a request to the end of its response; `error_type` is the reason of a refusal.",
            FAST,
        ),
        Metric("http_server_active_requests", GAUGE, _EDGE, (), "Requests that have no response yet."),
        Metric(
            "flowhook_accept_duration_seconds",
            HISTOGRAM,
            _EDGE,
            (),
            "From a complete request to the router's answer.",
            FAST,
        ),
        Metric(
            "flowhook_events_rejected_total",
            COUNTER,
            ("edge", "router"),
            ("flow", "reason"),
            "Events that were refused, by the `reason` that their senders see: of an edge those over HTTP, whoever "
            "refused them; of the router those that it refused, over HTTP and gRPC. `_unknown`: of no flow.",
        ),
        Metric(
            "flowhook_events_filtered_total", COUNTER, _EDGE, ("flow",), "Events that the filter of their flow dropped."
        ),
        Metric(
            "flowhook_signature_checks_total",
            COUNTER,
            _EDGE,
            ("scheme", "result", "key"),
            "Checks of credentials, by `result`: `valid` or `invalid`; `key` is the secret that matched: `current`, "
            "the first one that the flow names, or `previous`.",
        ),
        Metric(
            "flowhook_handshakes_total",
            COUNTER,
            _EDGE,
            ("provider", "result"),
            "Handshakes of providers, by `result`: `answered` or `refused`.",
        ),
        Metric(
            "flowhook_edge_incomplete_requests_total",
            COUNTER,
            _EDGE,
            (),
            "Requests that were dropped because their sender disconnected in the middle.",
        ),
        Metric("flowhook_edge_batch_events", HISTOGRAM, _EDGE, (), "Events per call to the router.", EVENTS),
        Metric(
            "flowhook_edge_unreported_rejections_total",
            COUNTER,
            _EDGE,
            (),
            "Refused requests that are missing from the log of rejections.",
        ),
        Metric("flowhook_edge_ingest_retries_total", COUNTER, _EDGE, (), "Calls to the router that were made again."),
        Metric(
            "flowhook_edge_flow_lookups_total",
            COUNTER,
            _EDGE,
            ("result",),
            "Lookups of flows, by `result`: `hit`, `miss`.",
        ),
        Metric("flowhook_edge_connections", GAUGE, _EDGE, (), "Open connections."),
        Metric("flowhook_edge_pending_events", GAUGE, _EDGE, (), "Requests that wait for the router."),
        Metric("flowhook_edge_uploads", GAUGE, _EDGE, (), "Large bodies that are being streamed to the router."),
        Metric("flowhook_edge_streamed_bytes_total", COUNTER, _EDGE, (), "Bytes of streamed bodies."),
        Metric("flowhook_edge_held_requests", GAUGE, _EDGE, (), "Requests that wait for the answer of their flow."),
        Metric("flowhook_edge_cached_flows", GAUGE, _EDGE, (), "Flows in the cache, known and unknown."),
    ),
    "Events": (
        Metric(
            "flowhook_events_accepted_total",
            COUNTER,
            _ROUTER,
            ("flow",),
            "Events that were accepted: they are durable.",
        ),
        Metric(
            "flowhook_events_duplicate_total",
            COUNTER,
            _ROUTER,
            ("flow",),
            "Events that were accepted before, and start nothing.",
        ),
        Metric(
            "flowhook_last_event_timestamp_seconds",
            GAUGE,
            _ROUTER,
            ("flow",),
            "Unix time at which a flow accepted its latest event since the router started.",
        ),
    ),
    "Executions": (
        Metric(
            "flowhook_queue_depth",
            GAUGE,
            _ROUTER,
            ("flow", "state"),
            "Accepted executions that have not ended, by `state`: `ready` for a runner; `delayed` by their rate, the "
            "place or the turn of their key, or their batch; `leased`; `waiting` for a time or an event; `suspended`.",
        ),
        Metric(
            "flowhook_queue_oldest_age_seconds",
            GAUGE,
            _ROUTER,
            ("flow",),
            "Age of the event whose execution is assigned next; 0: none is ready.",
        ),
        Metric(
            "flowhook_queue_wait_seconds",
            HISTOGRAM,
            _ROUTER,
            ("flow",),
            "From the acceptance of an event to the first assignment of its execution to a runner.",
            LONG,
        ),
        Metric(
            "flowhook_event_end_to_end_seconds",
            HISTOGRAM,
            _ROUTER,
            ("flow",),
            "From the acceptance of an event to the end of its execution.",
            LONG,
        ),
        Metric(
            "flowhook_executions_total",
            COUNTER,
            _ROUTER,
            ("flow", "status"),
            "Executions that ended, by `status`: `completed`, `faulted` or `cancelled`.",
        ),
        Metric("flowhook_leases_granted_total", COUNTER, _ROUTER, (), "Executions that were assigned to runners."),
        Metric(
            "flowhook_redeliveries_total",
            COUNTER,
            _ROUTER,
            (),
            "Executions that were taken from a runner or returned by it.",
        ),
        Metric(
            "flowhook_incidents_open",
            GAUGE,
            _ROUTER,
            ("flow",),
            "Destinations of a flow's calls that are down, or were half a minute ago.",
        ),
        Metric(
            "flowhook_waiting_for_destinations",
            GAUGE,
            _ROUTER,
            (),
            "Executions that wait for a destination that is down.",
        ),
        Metric("flowhook_silent_flows", GAUGE, _ROUTER, (), "Flows that got no event for longer than they expect."),
        Metric(
            "flowhook_replays_total",
            COUNTER,
            _ROUTER,
            ("mode",),
            "Executions that were replayed, by `mode`: `start`, `task`.",
        ),
        Metric("flowhook_bulk_jobs_active", GAUGE, _ROUTER, (), "Bulk jobs that run."),
        Metric("flowhook_runners_connected", GAUGE, _ROUTER, (), "Attached runners."),
        Metric("flowhook_runner_credit", GAUGE, _ROUTER, ("runner",), "Executions that a runner would take now."),
        Metric(
            "flowhook_router_buffered_events",
            GAUGE,
            _ROUTER,
            (),
            "Callbacks and events that no execution listens for yet.",
        ),
        Metric(
            "flowhook_router_deliveries_total",
            COUNTER,
            _ROUTER,
            (),
            "Events, and ends of other executions, that were delivered to executions that waited for them.",
        ),
        Metric("flowhook_router_schedules", GAUGE, _ROUTER, (), "Flows that are started by time."),
        Metric(
            "flowhook_router_scheduled_total",
            COUNTER,
            _ROUTER,
            ("result",),
            "Flows that were due, by `result`: `started`, or the reason why not, such as `backlog_full`.",
        ),
        Metric(
            "flowhook_router_lifecycle_total",
            COUNTER,
            _ROUTER,
            ("result",),
            "Events about executions, by `result`: `heard`, `unheard` if no flow subscribes to them any more, or "
            "`dropped` if a flow had no room for too long.",
        ),
        Metric(
            "flowhook_router_emitted_total",
            COUNTER,
            _ROUTER,
            ("result",),
            "Events that flows emitted, by `result`: `heard`, or `unheard` if no flow subscribes to them.",
        ),
        Metric("flowhook_router_uploads", GAUGE, _ROUTER, (), "Large bodies that are being uploaded."),
        Metric(
            "flowhook_router_upload_bytes",
            GAUGE,
            _ROUTER,
            (),
            "Bytes of bodies that are being uploaded, or wait for their events.",
        ),
    ),
    "Storage": (
        Metric(
            "flowhook_storage_commit_duration_seconds",
            HISTOGRAM,
            _ROUTER,
            (),
            "Time that a commit takes until it is durable.",
            FAST,
        ),
        Metric("flowhook_storage_commit_batch_writes", HISTOGRAM, _ROUTER, (), "Writes in one commit.", EVENTS),
        Metric(
            "flowhook_storage_bytes",
            GAUGE,
            _ROUTER,
            ("kind",),
            "Bytes on the disk, by `kind`: `database`, `wal`, `blobs`; at most a minute old.",
        ),
        Metric("flowhook_disk_free_bytes", GAUGE, _ROUTER, (), "Free bytes of the disk of the database."),
        Metric("flowhook_disk_size_bytes", GAUGE, _ROUTER, (), "Size of the disk of the database."),
        Metric(
            "flowhook_retention_deleted_total",
            COUNTER,
            _ROUTER,
            ("kind",),
            "Executions that retention removed, by `kind`: for their `age` or their `size`.",
        ),
        Metric(
            "flowhook_backup_last_success_timestamp_seconds",
            GAUGE,
            _ROUTER,
            (),
            "When the newest scheduled backup was made (Unix time); 0: there is none. Only with "
            "`FLOWHOOK_BACKUP_TARGET`, by the router that owns the data.",
        ),
    ),
    "Replicated log": (
        Metric("flowhook_router_owner", GAUGE, _ROUTER, (), "1 while this router owns the replicated log, else 0."),
        Metric(
            "flowhook_router_log_position",
            GAUGE,
            _ROUTER,
            (),
            "Position of the replicated log that this router's copy of the data has reached.",
        ),
        Metric("flowhook_router_log_bytes", GAUGE, _ROUTER, (), "Bytes of the replicated log on its servers."),
        Metric(
            "flowhook_standby_lag_records",
            GAUGE,
            _ROUTER,
            (),
            "Records of the replicated log that this router's copy of the data lags behind the owner's.",
        ),
        Metric(
            "flowhook_router_reached_by",
            GAUGE,
            _ROUTER,
            (),
            "Edges and runners that report that they reach this router at the address that it advertises.",
        ),
        Metric(
            "flowhook_router_unreachable_from",
            GAUGE,
            _ROUTER,
            (),
            "Edges and runners that report here that they can't.",
        ),
        Metric(
            "flowhook_snapshot_age_seconds", GAUGE, _ROUTER, (), "Age of the latest snapshot of the replicated log."
        ),
        Metric(
            "flowhook_router_snapshots_failing_seconds",
            GAUGE,
            _ROUTER,
            (),
            "For how long snapshots of the replicated log have failed; 0 after one that succeeded.",
        ),
        Metric(
            "flowhook_nats_server_up",
            GAUGE,
            _ROUTER,
            ("server",),
            "1 while a server of the replicated log answers, else 0.",
        ),
        Metric(
            "flowhook_router_log_refused",
            GAUGE,
            _ROUTER,
            ("kind",),
            "Records, objects, heartbeats and facts, by `kind`, that the servers of the log gave since the start, and "
            "that no router had written: somebody attacks.",
        ),
    ),
    "Attempts": (
        Metric(
            "flowhook_attempts_total",
            COUNTER,
            _RUNNER,
            ("outcome",),
            "Attempts that ended, by `outcome`: `completed`, `faulted`, `parked`, `released`, `abandoned`.",
        ),
        Metric("flowhook_attempts_running", GAUGE, _RUNNER, (), "Attempts in progress."),
        Metric(
            "flowhook_task_duration_seconds",
            HISTOGRAM,
            _RUNNER,
            ("flow", "function", "status"),
            "Duration of tasks that call a `function`, such as `http`; each try, by `status`: `completed`, `faulted`.",
            LONG,
        ),
        Metric(
            "flowhook_task_retries_total",
            COUNTER,
            _RUNNER,
            ("flow",),
            "Tasks and calls that failed and are tried again.",
        ),
        Metric(
            "http_client_request_duration_seconds",
            HISTOGRAM,
            _RUNNER,
            ("server_address", "http_response_status_code", "error_type"),
            "Duration of outgoing HTTP requests, by destination: the 50 busiest, and `_other`.",
            FAST,
        ),
        Metric(
            "flowhook_evaluation_kills_total",
            COUNTER,
            _RUNNER,
            (),
            "Processes that were killed because of a runaway expression, or because a call blocked them.",
        ),
    ),
    "Processes": (
        Metric(
            "flowhook_up",
            GAUGE,
            _ADMIN,
            ("process", "role"),
            "1 while a process is ready; 0 for one that is not, or died, until it is dismissed.",
        ),
        Metric("flowhook_build_info", GAUGE, _ALL, ("version", "python"), "1; the labels say which build runs."),
        Metric(
            "flowhook_event_loop_lag_seconds",
            HISTOGRAM,
            _ALL,
            (),
            "By how much the event loop was late, every two seconds.",
            FAST,
        ),
        Metric(
            "flowhook_clock_skew_seconds",
            GAUGE,
            ("edge", "runner", "admin"),
            (),
            "By how much the clock of this process is ahead of the router's, at the least; negative: behind.",
        ),
        Metric(
            "flowhook_certificate_expiry_timestamp_seconds",
            GAUGE,
            ("edge", "router", "admin"),
            ("file",),
            "Unix time at which a certificate that this process shows expires.",
        ),
        Metric(
            "flowhook_token_expiry_timestamp_seconds",
            GAUGE,
            _ROUTER,
            ("token",),
            "Unix time at which a token expires, of those that do.",
        ),
        Metric(
            "flowhook_spans_exported_total", COUNTER, ("edge", "runner"), (), "Spans that the collector of traces took."
        ),
        Metric(
            "flowhook_spans_dropped_total",
            COUNTER,
            ("edge", "runner"),
            ("reason",),
            "Spans that were not exported: `queue_full`, `export_failed`.",
        ),
        Metric("flowhook_console_streams", GAUGE, _ADMIN, (), "Pages of the console that are updated now."),
    ),
}

METRICS: Final = {metric.name: metric for metrics in TABLE.values() for metric in metrics}
