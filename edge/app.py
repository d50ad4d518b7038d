"""The composition root of an edge: creates and wires all its parts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final

from prometheus_client import CollectorRegistry

from edge.http.receive_budget import ReceiveBudget
from edge.http.request import Application
from edge.http.responses import ProblemTypes
from edge.http.server import Server
from edge.metrics import EdgeMetrics
from edge.router.body_uploads import BodyUploads
from edge.router.client import RouterClient, attach_verifier_forever
from edge.router.flow_cache import FlowCache
from edge.router.ingest import IngestBatcher
from edge.router.rejections import RejectionReporter
from edge.router.replies import SyncReplies
from edge.webhook.acceptance import AcceptanceChecks
from edge.webhook.document_fetcher import DocumentFetcher
from edge.webhook.key_cache import KeyCache
from edge.webhook.log_limiter import PerFlowLimiter, RateLimitedLogger
from edge.webhook.pipeline import HealthPaths, WebhookHandler
from edge.webhook.reverification import Reverification
from edge.webhook.stages import RequestViews, Stages
from edge.webhook.traced import TracedWebhookHandler
from flowhook.client.channel import open_channel
from flowhook.http.forwarded import TrustedProxies, parse_networks
from flowhook.http.listening import listen
from flowhook.process import kernel, logs, metrics
from flowhook.process.installation import import_late
from flowhook.process.metrics import process_metrics
from flowhook.process.process_state import ProcessState
from flowhook.process.server_certificates import load_certificates
from flowhook.process.settings import EdgeSettings
from flowhook.reporting.process_reports import ProcessReporter
from flowhook.reporting.reachability import ReachabilityReporter
from flowhook.sandbox.offload import Offload
from flowhook.sharing.table import EdgeLimits
from flowhook.tracing.configuration import configured
from flowhook.tracing.tracer import SpanTracer, running_tracer

# Modules that few need, and that are imported once this process is ready; see `flowhook.process.installation`.
LATE_IMPORTS: Final = (
    "cryptography.hazmat.primitives.serialization",
    "cryptography.x509",
    "aiohttp",
    "flowhook.signatures.certificates",
    "flowhook.signatures.tokens",
    "flowhook.signatures.public_keys",
    "flowhook.events.workflow_input",
)


async def serve(
    settings: EdgeSettings,
    process_state: ProcessState,
    *,
    registry: CollectorRegistry | None = None,
    server: Callable[..., Any] = Server,
    limits: EdgeLimits | None = None,
) -> None:
    """Serve senders until `process_state.stop` is set, then drain for at most `settings.drain_seconds`.

    `process_state.ready` is set while the flow cache is valid; without a router requests get a 503.
    Metrics are in the registry of the process, and limits are what the settings say, if none are given; `server` makes
    the HTTP server, with the arguments of `Server`.

    Raises:
        InvalidError: there is no token for the router, or a setting is invalid, or a variable of traces.
        UnavailableError: the port can't be bound (`PORT_UNAVAILABLE`).
    """
    process_state.late_loads = (partial(import_late, LATE_IMPORTS),)
    channel = open_channel(settings, "edge")
    try:
        shared, registry = limits or _limits_of(settings), registry or metrics.registry()
        traces = configured(enabled=settings.traces)
        async with (
            process_metrics(process_state, registry),
            running_tracer(traces, "edge", process_state.name, registry) as tracer,
        ):
            await _serve(settings, process_state, channel, registry, tracer, make_server=server, shared=shared)
    finally:
        await channel.close(None)


def _limits_of(settings: EdgeSettings) -> EdgeLimits:
    limits, total = EdgeLimits(), settings.max_held_requests
    names = ("replies_of_flow", "replies_of_sender", "fetches")
    return replace(limits, **{name: replace(getattr(limits, name), total=total) for name in names})


async def _serve(
    settings: EdgeSettings,
    process_state: ProcessState,
    channel: Any,
    registry: CollectorRegistry,
    tracer: SpanTracer | None,
    *,
    make_server: Callable[..., Any],
    shared: EdgeLimits,
) -> None:
    counts, router, loop = EdgeMetrics(), RouterClient(channel), asyncio.get_running_loop()

    def on_state(lack: str) -> None:
        process_state.detail = lack
        (process_state.ready.clear if lack else process_state.ready.set)()

    timeout = settings.router_timeout
    logger = RateLimitedLogger(logs.get_logger("edge.webhook.pipeline"), loop.time)
    flow_cache = FlowCache(router, counts, size=settings.flow_cache_size, lookup_seconds=timeout, on_state=on_state)
    ingest, callbacks = (
        IngestBatcher(router, counts, logger, timeout=timeout, max_pending=settings.max_pending_events, **options)
        for options in ({}, {"enough_events": 1})  # a callback may take the router long, and must not delay others
    )
    replies = SyncReplies(router, flow_cache, counts, shared, router_timeout=timeout)
    proxies = TrustedProxies(parse_networks(settings.trusted_proxies))
    views = RequestViews(proxies, settings.public_url)
    rejections = RejectionReporter(
        router, flow_cache, PerFlowLimiter(loop.time), counts, other_limiter=PerFlowLimiter(loop.time)
    )
    fetcher = DocumentFetcher(settings.address_policy)
    offload = Offload("parsing large bodies")
    acceptance = AcceptanceChecks()
    stages = Stages(KeyCache(fetcher, logger, loop.time), offload, acceptance)
    uploads = BodyUploads(router, counts, timeout)
    handler: Callable[..., WebhookHandler] = WebhookHandler
    if tracer is not None:
        handler = partial(TracedWebhookHandler, tracer=tracer, trusts_senders=settings.traces_trust_senders)
    gateway = handler(
        flow_cache,
        ingest,
        callbacks,
        replies,
        logger=logger,
        counts=counts,
        rejections=rejections,
        stages=stages,
        fetcher=fetcher,
        uploads=uploads,
        views=views,
        health=HealthPaths(settings.health_path, process_state.lack),
    )
    reverification = Reverification(flow_cache, rejections, stages, views)
    budget = ReceiveBudget(shared.received_bytes, views.principal)
    application = Application(
        gateway.handle, counts, budget, max_requests=2 * settings.max_connections, types=ProblemTypes(settings.docs_url)
    )
    server = make_server(
        application,
        settings,
        counts,
        budget=budget,
        max_connections=kernel.connection_limit(settings.max_connections),
        shared=proxies.trusts,
        certificates=load_certificates(settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file),
    )
    hide_metrics = counts.expose(
        registry,
        {
            "http_server_active_requests": lambda: application.active,
            "flowhook_edge_connections": lambda: server.connections,
            "flowhook_edge_pending_events": lambda: ingest.pending + callbacks.pending,
            "flowhook_edge_uploads": lambda: uploads.under_way,
            "flowhook_edge_held_requests": lambda: replies.held,
            "flowhook_edge_cached_flows": lambda: flow_cache.cached,
        },
    )
    try:
        sockets = listen(settings.host, settings.http_port, reuse_port=settings.reuse_port)
        for each in sockets:
            process_state.announce("http", *each.getsockname()[:2])
        scheme = "http" if settings.tls_cert_file is None else "https"
        process_state.connections = lambda: server.connections
        process_state.url = settings.public_url or f"{scheme}://{process_state.addresses['http']}"
        server.add_sockets(sockets)
        async with asyncio.TaskGroup() as tasks:
            helpers = [
                tasks.create_task(flow_cache.run(), name="follow flows"),
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
        await fetcher.close()
        await offload.aclose()
        await acceptance.aclose()
        hide_metrics()
