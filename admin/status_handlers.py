"""HTTP handlers of `/healthz`, `/readyz`, `/health` and `/metrics`, which ask for no credentials.

Requests that come at a time share one answer of the router, and one text of metrics: anybody may send many.
"""

from __future__ import annotations

import asyncio
import http
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from prometheus_client import CollectorRegistry, generate_latest

import flowhook
from admin.handlers import BaseHandler
from flowhook.client import ProcessInfo
from flowhook.errors import FlowhookError
from flowhook.model.cluster import ClusterShards, LogServerInfo
from flowhook.process.metrics import Reading, expose, negotiated
from flowhook.reporting.reported_metrics import labelled
from operations import health


class StatusHandler(BaseHandler):
    """Base class of those that ask for the processes."""

    async def processes(self, *, metrics: bool = False) -> tuple[list[ProcessInfo], list[str]]:
        async def ask() -> tuple[list[ProcessInfo], list[str]]:
            try:
                found = list(await self.context.client.cluster.processes(metrics=metrics))
            except FlowhookError as error:
                return [], [error.message, *health.shard_problems(await self.shards())]
            return found, health.unready_reasons(found)

        found: tuple[list[ProcessInfo], list[str]] = await self.context.shared_calls.share(("processes", metrics), ask)
        return found

    async def shards(self) -> ClusterShards:
        """Return what any router that answers knows, also if none serves."""
        try:
            return await self.context.client.cluster.shards()
        except FlowhookError:
            return ClusterShards((), ())


class LivenessHandler(BaseHandler):
    """`/healthz`: this process runs."""

    async def get(self, *_values: str) -> None:
        self.finish_json({"status": "ok", "build": flowhook.__version__})


class ReadinessHandler(StatusHandler):
    """`/readyz`: a webhook that arrives now is executed by a flow."""

    async def get(self, *_values: str) -> None:
        processes, reasons = await self.processes()
        self.set_status(http.HTTPStatus.SERVICE_UNAVAILABLE if reasons else 200)
        self.finish_json({"ready": not reasons, "reasons": reasons, "warnings": health.warnings(processes)})


class HealthHandler(StatusHandler):
    """`/health`: all processes."""

    async def get(self, *_values: str) -> None:
        processes, reasons = await self.processes()
        shown = [health.describe_process(process) for process in processes]
        self.finish_json({"ready": not reasons, "reasons": reasons, "processes": shown})


class MetricsHandler(StatusHandler):
    """`/metrics`: all processes, for Prometheus."""

    async def get(self, *_values: str) -> None:
        """Respond with 200 always: without the router with what was known of processes, which count as not ready."""
        text: bytes = await self.context.shared_calls.share("metrics", self._merged)
        accept = ",".join(self.request.headers.get_list("Accept"))
        kind, content = await asyncio.to_thread(negotiated, accept, text)
        self.set_header("Content-Type", kind)
        self.finish(content)

    async def _merged(self) -> bytes:
        found, reasons = await self.processes(metrics=True)
        known = self.context.known_processes
        servers: Sequence[LogServerInfo] = ()
        if found or not reasons:
            known[:] = [replace(each, metrics=b"") for each in found]
        else:
            own = self.context.process_state
            text = labelled(await own.metrics(), own.name, own.role)
            down = [replace(each, ready=False) for each in known if each.name != own.name]
            found = [*down, ProcessInfo(own.name, own.role, "", 0, "", not own.lack(), "", text, 0.0)]
            servers = (await self.shards()).servers
        # megabytes of metrics must not block health checks
        return await asyncio.to_thread(merge_metrics, found, servers)


def merge_metrics(processes: Iterable[ProcessInfo], servers: Sequence[LogServerInfo] = ()) -> bytes:
    """Return one text with each metric family once, and `flowhook_up` for each process.

    `servers`: those of the replicated log, if no process is there to report them.

    The router has checked what the processes report, and has labelled each sample with its process. So nothing is
    parsed here: families are put together as they are, in less than a millisecond for a thousand.

    Source: Prometheus, "Exposition formats": all lines of a metric must be one group.
    """
    up: list[tuple[tuple[str, str], float]] = []
    families: dict[bytes, tuple[bytes, bytes, list[bytes]]] = {}  # first and second line, and samples of each process
    for process in processes:
        up.append(((process.name, process.role), float(health.is_ready(process))))
        for text in (b"\n" + process.metrics).split(b"\n# HELP ")[1:]:
            help_, _, rest = text.partition(b"\n")
            type_, _, samples = rest.partition(b"\n")
            if samples and type_.startswith(b"# TYPE "):
                _, known_type, found = families.setdefault(help_.partition(b" ")[0], (help_, type_, []))
                if known_type == type_:
                    found.append(samples.rstrip(b"\n"))
    texts = [b"# HELP %b\n%b\n%b\n" % (help_, type_, b"\n".join(found)) for help_, type_, found in families.values()]
    known: dict[str, Callable[[], Reading]] = {"flowhook_up": lambda: up}
    if servers:
        known["flowhook_nats_server_up"] = lambda: [((each.name,), float(each.current)) for each in servers]
    expose(registry := CollectorRegistry(), known)
    return generate_latest(registry) + b"".join(texts)
