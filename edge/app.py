"""The composition root of an edge: creates and wires all its parts."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from prometheus_client import CollectorRegistry

from edge.http.receive_budget import ReceiveBudget
from edge.http.request import Application
from edge.http.server import Server
from edge.metrics import EdgeMetrics
from edge.router.body_uploads import BodyUploads
from edge.router.client import GrpcRouterClient, attach_verifier_forever
from edge.router.flow_cache import FlowCache
from edge.router.ingest import IngestBatcher
from edge.router.rejections import RejectionReporter
from edge.router.replies import SyncReplies
from edge.webhook.body_parser import BodyParser
from edge.webhook.document_fetcher import DocumentFetcher
from edge.webhook.health import HealthPaths
from edge.webhook.key_cache import KeyCache
from edge.webhook.log_limiter import PerFlowLimiter, RateLimitedLogger
from edge.webhook.pipeline import WebhookHandler
from edge.webhook.reverification import Reverification
from edge.webhook.verification import RequestViews
from flowhook.client.channel import open_channel
from flowhook.http.forwarded import TrustedProxies, parse_networks
from flowhook.http.listening import listen
from flowhook.process import logs, metrics, open_files
from flowhook.process.installation import import_late
from flowhook.process.process_state import ProcessState
from flowhook.process.server_certificates import load_certificates
from flowhook.process.settings import EdgeSettings
from flowhook.reporting.process_reports import ProcessReporter
from flowhook.reporting.reachability_reports import ReachabilityReporter
from flowhook.sandbox.offload import Offload
from flowhook.sharing.table import EdgeLimits

LATE_IMPORTS: Final = (
    "cryptography.hazmat.primitives.serialization",
    "cryptography.x509",
    "edge.webhook.document_session",
    "flowhook.signatures.certificates",
    "flowhook.signatures.tokens",
    "flowhook.signatures.certificates",
    "flowhook.signatures.tokens",
    "flowhook.signatures.public_keys",
    "flowhook.events.workflow_input",
)
"""Modules that few need, and that are imported once this process is ready; see `flowhook.process.installation`."""


async def serve(
    settings: EdgeSettings,
    process_state: ProcessState,
    *,
    registry: CollectorRegistry | None = None,
    server: Callable[..., Any] = Server,
    limits: EdgeLimits | None = None,
) -> None:
    """Serve senders until `lifecycle.stop` is set, then drain for at most `settings.drain_seconds`.

    `lifecycle.ready` is set while the flow cache is valid; without a router requests get a 503.

    Args:
        settings: settings of the edge.
        process_state: state of the process.
        registry: where metrics are registered; by default the registry of the process.
        server: makes the HTTP server, with the arguments of `Server`.
        limits: what senders and flows share; by default what the settings say.

    Raises:
        InvalidError: there is no token for the router, or a setting is invalid.
        UnavailableError: the port can't be bound (`PORT_UNAVAILABLE`).
    """
    process_state.late_loads = (partial(import_late, LATE_IMPORTS),)
    channel = open_channel(settings, "edge")
    try:
        await _serve(
            settings,
            process_state,
            channel,
            registry or metrics.registry(),
            make_server=server,
            shared=limits or _limits_of(settings),
        )
    finally:
        await channel.close(None)


def _limits_of(settings: EdgeSettings) -> EdgeLimits:
    limits, total = EdgeLimits(), settings.max_held_requests
    return replace(
        limits,
        replies_of_flow=replace(limits.replies_of_flow, total=total),
        replies_of_sender=replace(limits.replies_of_sender, total=total),
        fetches=replace(limits.fetches, total=total),
    )


async def _serve(
    settings: EdgeSettings,
    process_state: ProcessState,
    channel: Any,
    registry: CollectorRegistry,
    *,
    make_server: Callable[..., Any],
    shared: EdgeLimits,
) -> None:
    counts = EdgeMetrics()
    router = GrpcRouterClient(channel)
    loop = asyncio.get_running_loop()

    def on_state(lack: str) -> None:
        process_state.detail = lack
        if lack:
            process_state.ready.clear()
        else:
            process_state.ready.set()

    refusals = RateLimitedLogger(logs.get_logger("edge.webhook.pipeline"), loop.time)
    directory = FlowCache(
        router, counts, size=settings.flow_cache_size, lookup_seconds=settings.router_timeout, on_state=on_state
    )
    ingest, callbacks = (
        IngestBatcher(
            router, counts, refusals, timeout=settings.router_timeout, max_pending=settings.max_pending_events
        )
        for _ in range(2)
    )
    replies = SyncReplies(router, directory, counts, shared, router_timeout=settings.router_timeout)
    proxies = TrustedProxies(parse_networks(settings.trusted_proxies))
    views = RequestViews(proxies, settings.public_url)
    rejections = RejectionReporter(router, directory, PerFlowLimiter(loop.time), counts)
    outbound = DocumentFetcher(address_policy=settings.address_policy)
    keys = KeyCache(outbound, refusals, loop.time)
    offload = Offload("parsing large bodies")
    contents = BodyParser(offload)
    uploads = BodyUploads(router, counts, timeout=settings.router_timeout)
    gateway = WebhookHandler(
        directory,
        ingest,
        callbacks,
        replies,
        logger=refusals,
        rejections=rejections,
        keys=keys,
        fetcher=outbound,
        body_parser=contents,
        uploads=uploads,
        views=views,
        health=HealthPaths(settings.health_path, process_state.lack),
    )
    reverification = Reverification(directory, rejections, keys=keys, body_parser=contents, views=views)
    budget = ReceiveBudget(shared.received_bytes, views.principal)
    application = Application(gateway.handle, counts, budget, max_requests=2 * settings.max_connections)
    server = make_server(
        application,
        settings,
        counts,
        budget=budget,
        max_connections=open_files.connection_limit(settings.max_connections),
        shared=proxies.trusts,
        certificates=load_certificates(settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file),
    )
    _observe(counts, server, batchers=(ingest, callbacks), uploads=uploads, replies=replies, flow_cache=directory)
    registry.register(counts)
    try:
        sockets = listen(settings.host, settings.http_port, reuse_port=settings.reuse_port)
        _announce(process_state, settings, sockets, lambda: server.connections)
        server.add_sockets(sockets)
        async with asyncio.TaskGroup() as tasks:
            helpers = [
                tasks.create_task(directory.run(), name="follow flows"),
                tasks.create_task(ingest.run(), name="ingest"),
                tasks.create_task(callbacks.run(), name="ingest callbacks"),
                tasks.create_task(rejections.run(), name="report rejections"),
                tasks.create_task(attach_verifier_forever(router, reverification.answer), name="verify rejections"),
                tasks.create_task(server.sweep(), name="sweep connections"),
                tasks.create_task(ProcessReporter(channel, process_state).run(), name="report"),
                tasks.create_task(ReachabilityReporter(channel, process_state).run(), name="report reachability"),
            ]
            await process_state.stop.wait()
            replies.release()
            await server.drain(settings.drain_seconds)
            for helper in helpers:
                helper.cancel()
        await server.ended()
        await application.cancel()
    finally:
        server.stop()
        await outbound.close()
        await offload.aclose()
        registry.unregister(counts)


def _observe(
    metrics: EdgeMetrics,
    server: Any,
    *,
    batchers: Sequence[IngestBatcher],
    uploads: BodyUploads,
    replies: SyncReplies,
    flow_cache: FlowCache,
) -> None:
    """Register the gauges of the edge."""
    for name, text, value in (
        ("flowhook_edge_connections", "Open connections.", lambda: server.connections),
        (
            "flowhook_edge_pending_events",
            "Requests that wait for the router.",
            lambda: sum(each.pending for each in batchers),
        ),
        ("flowhook_edge_uploads", "Large bodies that go on to the router.", lambda: uploads.under_way),
        ("flowhook_edge_held_requests", "Requests that wait for their flow.", lambda: replies.held),
        ("flowhook_edge_cached_flows", "Flow IDs, known and unknown, in the cache.", lambda: flow_cache.cached),
    ):
        metrics.add_gauge(name, text, value)


def _announce(
    process_state: ProcessState,
    settings: EdgeSettings,
    sockets: Sequence[socket.socket],
    connections: Callable[[], int],
) -> None:
    """Publish the addresses of the edge, the URL that senders use, and the number of open connections."""
    for each in sockets:
        process_state.announce("http", *each.getsockname()[:2])
    scheme = "http" if settings.tls_cert_file is None else "https"
    process_state.connections = connections
    process_state.url = settings.public_url or f"{scheme}://{process_state.addresses['http']}"
