"""All metrics of all processes, in one table: what collectors may expose, and what docs/metrics.md says.

Names follow Prometheus ("Metric and label naming": base units, `_total`) and, for HTTP, the semantic conventions of
OpenTelemetry 1.44. Two nouns: an *execution* is what an event starts, with one end; an *attempt* is a runner's work at
an execution, of which there may be many.

Labels have few values, whatever senders send. `flow` has at most `MAX_FLOWS` per process: its busiest flows, and
`OTHER` for all others together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

MAX_FLOWS: Final = 200  # flows with series of their own, in each process
OTHER: Final = "_other"  # the label of what has no series of its own; no flow can have that ID

COUNTER: Final = "counter"
GAUGE: Final = "gauge"
HISTOGRAM: Final = "histogram"

ROLES: Final = ("edge", "router", "runner", "admin")
# upper bounds: of what takes a fraction of a second as a rule, of what may take hours, and of calls (s); of bodies
# (bytes), and of batches
_BOUNDS: Final[Mapping[str, tuple[float, ...]]] = {
    "fast": (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    "long": (0.005, 0.025, 0.1, 0.25, 1.0, 5.0, 30.0, 300.0, 3600.0, 86400.0),
    "calls": (0.005, 0.05, 0.5, 5.0),
    "bytes": (256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0, 16777216.0, 67108864.0),
    "events": (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0),
    "": (),
}


class Metric(NamedTuple):
    """A metric: the name as it is queried, so with `_total`, and with `_seconds` or `_bytes` as its unit."""

    name: str
    kind: str
    roles: tuple[str, ...]  # processes that expose it
    labels: tuple[str, ...]
    help: str
    bounds: tuple[float, ...]  # upper bounds of the buckets of a histogram


# A heading of docs/metrics.md; then of each metric the name, the kind and the bounds of its buckets, the processes that
# expose it and the labels; then what it says.
_TABLE: Final = """
# Requests
http_server_request_duration_seconds histogram:fast edge http_request_method http_route \
http_response_status_code error_type
    From the head of a request to the end of its response; `error_type` is the reason of a refusal.
http_server_request_body_size_bytes histogram:bytes edge
    Sizes of bodies of requests, as far as they were received.
http_server_active_requests gauge edge
    Requests that have no response yet.
flowhook_accept_duration_seconds histogram:fast edge
    From a complete request to the router's answer.
flowhook_events_rejected_total counter edge,router flow reason
    Events that were refused, by the `reason` that their senders see: of an edge those over HTTP, whoever refused
    them; of the router those that it refused, over HTTP and gRPC: of a flow by the first five reasons, and `_other`.
    `_unknown`: of no flow.
flowhook_events_filtered_total counter edge flow
    Events that the filter of their flow dropped.
flowhook_signature_checks_total counter edge scheme result key
    Checks of credentials, by `result`: `valid` or `invalid`; `key` is the secret that matched: `current`, the first
    one that the flow names, or `previous`.
flowhook_handshakes_total counter edge provider result
    Handshakes of providers, by `result`: `answered` or `refused`.
flowhook_edge_incomplete_requests_total counter edge
    Requests that were dropped because their sender disconnected in the middle.
flowhook_edge_batch_events histogram:events edge
    Events per call to the router.
flowhook_edge_unreported_rejections_total counter edge
    Refused requests that are missing from the log of rejections.
flowhook_edge_ingest_retries_total counter edge
    Calls to the router that were made again.
flowhook_edge_flow_lookups_total counter edge result
    Lookups of flows, by `result`: `hit`, `miss`.
flowhook_edge_connections gauge edge
    Open connections.
flowhook_edge_pending_events gauge edge
    Requests that wait for the router.
flowhook_edge_uploads gauge edge
    Large bodies that are being streamed to the router.
flowhook_edge_streamed_bytes_total counter edge
    Bytes of streamed bodies.
flowhook_edge_held_requests gauge edge
    Requests that wait for the answer of their flow.
flowhook_edge_cached_flows gauge edge
    Flows in the cache, known and unknown.

# Events
flowhook_events_accepted_total counter router flow
    Events that were accepted: they are durable.
flowhook_events_duplicate_total counter router flow
    Events that were accepted before, and start nothing.
flowhook_last_event_timestamp_seconds gauge router flow
    Unix time at which a flow accepted its latest event since the router started.

# Executions
flowhook_queue_depth gauge router flow state
    Accepted executions that have not ended, by `state`: `ready` for a runner; `delayed` by their rate, the place or
    the turn of their key, or their batch; `leased`; `waiting` for a time or an event; `suspended`.
flowhook_queue_oldest_age_seconds gauge router flow
    Age of the event whose execution is assigned next; 0: none is ready, or its flow is paused or lacks a secret.
flowhook_queue_wait_seconds histogram:long router flow
    From the acceptance of an event to the first assignment of its execution to a runner.
flowhook_event_end_to_end_seconds histogram:long router flow
    From the acceptance of an event to the end of its execution.
flowhook_executions_total counter router flow status
    Executions that ended, by `status`: `completed`, `faulted` or `cancelled`.
flowhook_leases_granted_total counter router
    Executions that were assigned to runners.
flowhook_redeliveries_total counter router
    Executions that were taken from a runner or returned by it.
flowhook_incidents_open gauge router flow
    Destinations of a flow's calls that are down, or were half a minute ago.
flowhook_waiting_for_destinations gauge router
    Executions that wait for a destination that is down.
flowhook_silent_flows gauge router
    Flows that got no event for longer than they expect.
flowhook_replays_total counter router mode
    Executions that were replayed, by `mode`: `start`, `task`.
flowhook_bulk_jobs_active gauge router
    Bulk jobs that run.
flowhook_runners_connected gauge router
    Attached runners.
flowhook_runner_credit gauge router runner
    Executions that a runner would take now.
flowhook_router_buffered_events gauge router
    Callbacks and events that no execution listens for yet.
flowhook_router_deliveries_total counter router
    Events, and ends of other executions, that were delivered to executions that waited for them.
flowhook_router_schedules gauge router
    Flows that are started by time.
flowhook_router_scheduled_total counter router result
    Flows that were due, by `result`: `started`, or the reason why not, such as `backlog_full`.
flowhook_router_lifecycle_total counter router result
    Events about executions, by `result`: `heard`, `unheard` if no flow subscribes to them any more, or `dropped` if
    a flow had no room for too long.
flowhook_router_emitted_total counter router result
    Events that flows emitted, by `result`: `heard`, or `unheard` if no flow subscribes to them.
flowhook_router_uploads gauge router
    Large bodies that are being uploaded.
flowhook_router_upload_bytes gauge router
    Bytes of bodies that are being uploaded, or wait for their events.

rpc_server_call_duration_seconds histogram:calls router rpc_method rpc_status_code
    Duration of calls over gRPC that are no streams: of the first 30 methods with a status code, and `_other`.
flowhook_flows_waiting_for_secret gauge router
    Flows that events start, and whose executions wait because a secret that they name is not set.

# Storage
flowhook_storage_commit_duration_seconds histogram:fast router
    Time that a commit takes until it is durable.
flowhook_storage_commit_batch_writes histogram:events router
    Writes in one commit.
flowhook_storage_bytes gauge router kind
    Bytes on the disk, by `kind`: `database`, `wal`, `blobs`; at most a minute old.
flowhook_disk_free_bytes gauge router
    Free bytes of the disk of the database.
flowhook_disk_size_bytes gauge router
    Size of the disk of the database.
flowhook_retention_deleted_total counter router kind
    Executions that retention removed, by `kind`: for their `age` or their `size`.
flowhook_backup_last_success_timestamp_seconds gauge router
    When the newest scheduled backup was made (Unix time); 0: there is none. Only with `FLOWHOOK_BACKUP_TARGET`, by
    the router that owns the data.

# Replicated log
flowhook_router_owner gauge router
    1 while this router owns the replicated log, else 0.
flowhook_router_log_position gauge router
    Position of the replicated log that this router's copy of the data has reached.
flowhook_router_log_bytes gauge router
    Bytes of the replicated log on its servers.
flowhook_router_log_max_bytes gauge router
    Bytes that the replicated log may have; new events are refused at three quarters.
flowhook_standby_lag_records gauge router router
    Records of the replicated log that each router's copy of the data lags behind the owner's.
flowhook_router_reached_by gauge router
    Edges and runners that report that they reach this router at the address that it advertises.
flowhook_router_unreachable_from gauge router
    Edges and runners that report here that they can't.
flowhook_snapshot_age_seconds gauge router
    Age of the latest snapshot of the replicated log.
flowhook_router_snapshots_failing_seconds gauge router router
    For how long snapshots of the replicated log have failed at each router; 0 after one that succeeded.
flowhook_nats_server_up gauge router server
    1 while a server of the replicated log answers and is up to date, else 0.
flowhook_router_log_refused gauge router kind
    Records, objects, heartbeats and facts, by `kind`, that the servers of the log gave since the start, and that no
    router had written: somebody attacks.

# Attempts
flowhook_attempts_total counter runner outcome
    Attempts that ended, by `outcome`: `completed`, `faulted`, `parked`, `released`, `abandoned`.
flowhook_attempts_running gauge runner
    Attempts in progress.
flowhook_task_duration_seconds histogram:long runner flow function status
    Duration of tasks that call a `function`, such as `http`; each try, by `status`: `completed`, `faulted`.
flowhook_task_retries_total counter runner flow
    Tasks and calls that failed and are tried again.
http_client_request_duration_seconds histogram:fast runner server_address http_response_status_code error_type
    Duration of outgoing HTTP requests, by destination: the 50 busiest, and `_other`.
flowhook_evaluation_kills_total counter runner
    Processes that were killed because of a runaway expression, or because a call blocked them.

# Processes
flowhook_up gauge admin process role
    1 while a process is ready; 0 for one that is not, or died, until it is dismissed.
flowhook_ready gauge all
    1 while this process serves, as its `/readyz` says; else 0.
flowhook_warnings gauge all kind
    1 for each `kind` of what is wrong with this process although it serves, as its `/readyz` says in words: `clock`,
    `certificate`, `installation`; of a router `secrets_key`, `tokens`, `backups`, and with a replicated log `log`,
    `log_servers`, `address`, `router_tokens`, `router_clocks`.
flowhook_build_info gauge all version python
    1; the labels say which build runs.
flowhook_event_loop_lag_seconds histogram:fast all
    By how much the event loop was late, every two seconds.
flowhook_clock_skew_seconds gauge edge,runner,admin
    By how much the clock of this process is ahead of the router's, at the least; negative: behind.
flowhook_certificate_expiry_timestamp_seconds gauge edge,router,admin file
    Unix time at which a certificate that this process shows expires.
flowhook_token_refusals_total counter router reason
    Calls over gRPC that were refused for their token, by `reason`: `missing`; `unknown`, which includes revoked and
    expired ones; or `scope`, that it does not permit the call.
flowhook_token_expiry_timestamp_seconds gauge router token
    Unix time at which a token expires, of those that do.
flowhook_spans_exported_total counter edge,runner
    Spans that the collector of traces took.
flowhook_spans_dropped_total counter edge,runner reason
    Spans that were not exported: `queue_full`, `export_failed`.
flowhook_console_streams gauge admin
    Pages of the console that are updated now.
"""


def _table() -> dict[str, list[Metric]]:
    table: dict[str, list[Metric]] = {}
    metrics: list[Metric] = []
    for line in filter(None, _TABLE.splitlines()):
        if line.startswith("# "):
            metrics = table[line[2:]] = []
        elif line.startswith(" "):
            metrics[-1] = metrics[-1]._replace(help=f"{metrics[-1].help} {line.strip()}".strip())
        else:
            name, kind, roles, *labels = line.split()
            kind, _, bounds = kind.partition(":")
            among = ROLES if roles == "all" else tuple(roles.split(","))
            metrics.append(Metric(name, kind, among, tuple(labels), "", _BOUNDS[bounds]))
    return table


TABLE: Final = _table()  # by heading
METRICS: Final = {metric.name: metric for metrics in TABLE.values() for metric in metrics}
