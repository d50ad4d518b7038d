"""Gauges of the router: reads its queues, storage and log when metrics are collected; see `metric_table`."""

from __future__ import annotations

from flowhook.process.metrics import Reading
from flowhook.security.tokens import TokenVerifier
from router.bodies.body_streams import UploadReceiver
from router.calls.call_durations import CallDurations
from router.dispatch.metrics import by_label
from router.dispatch.queue_readings import QueueReadings
from router.dispatch.shard_runtime import ShardRuntime
from router.flows.flow_table import FlowTable
from router.jobs.job_runner import JobRunner
from router.storage.storage import Storage
from router.triggers.cron_scheduler import CronScheduler
from router.triggers.silence_watch import SilenceWatch


def expose_shard(
    *,
    runtime: ShardRuntime,
    storage: Storage,
    cron_scheduler: CronScheduler,
    uploads: UploadReceiver,
    silence_watch: SilenceWatch,
    jobs: JobRunner,
    verifier: TokenVerifier,
    flows: FlowTable,
    durations: CallDurations,
) -> None:
    """Expose the metrics of a shard; what storage takes is read from its last measurement, one a minute at least."""
    parts, shard, metrics, writer = runtime.parts, runtime.shard, runtime.parts.metrics, storage.writer
    outages, runners, queues = parts.outages, parts.runners, QueueReadings(parts)

    def waits(flow_id: str) -> bool:
        return shard.queues.load(flow_id).pending > 0

    def credit() -> Reading:
        return [((each.runner_id,), shard.runners.credit(each.runner_id)) for each in runners]

    def storage_bytes() -> Reading:
        found = storage.measured
        if found is None:
            return []
        return by_label({"database": found.database_bytes, "wal": found.wal_bytes, "blobs": found.file_bytes})

    def disk(name: str) -> Reading:
        return [] if storage.measured is None else [((), getattr(storage.measured, name))]

    metrics.expose(
        {
            "flowhook_queue_depth": queues.depths,
            "flowhook_queue_oldest_age_seconds": queues.oldest_ages,
            "flowhook_incidents_open": lambda: metrics.of_flows(outages.open_by_flow()),
            "flowhook_waiting_for_destinations": lambda: outages.waiting,
            "flowhook_silent_flows": lambda: len(silence_watch),
            "flowhook_runners_connected": lambda: len(runners),
            "flowhook_runner_credit": credit,
            "flowhook_bulk_jobs_active": lambda: jobs.running,
            "flowhook_token_refusals_total": lambda: by_label(verifier.refusals),
            "flowhook_token_expiry_timestamp_seconds": lambda: by_label(verifier.expiries()),
            "flowhook_storage_commit_duration_seconds": lambda: writer.commit_seconds,
            "flowhook_storage_commit_batch_writes": lambda: writer.commit_writes,
            "flowhook_storage_bytes": storage_bytes,
            "flowhook_disk_free_bytes": lambda: disk("free_bytes"),
            "flowhook_disk_size_bytes": lambda: disk("disk_bytes"),
            "rpc_server_call_duration_seconds": lambda: list(durations.durations.items()),
            "flowhook_flows_waiting_for_secret": lambda: sum(map(waits, flows.lacking)),
            "flowhook_router_buffered_events": lambda: runtime.events.buffered,
            "flowhook_router_schedules": lambda: len(cron_scheduler),
            "flowhook_router_uploads": lambda: uploads.under_way,
            "flowhook_router_upload_bytes": lambda: uploads.bytes,
        }
    )
