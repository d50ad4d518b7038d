"""The composition root of an edge: creates and wires all its parts."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any, Final

from prometheus_client import CollectorRegistry

from edge import tls
from edge.contents import Contents
from edge.directory import Directory
from edge.gateway import Gateway
from edge.ingest import Ingest
from edge.keys import Keys
from edge.metrics import Counts
from edge.outbound import Outbound
from edge.proxies import Proxies, parse_networks
from edge.refusals import Allowances, LimitedLog
from edge.rejections import Rejections
from edge.replies import Replies
from edge.router import GrpcRouter
from edge.server import Server
from edge.streaming import BodyUploads
from flowhook import logs, metrics, open_files
from flowhook.client.channel import open_channel
from flowhook.config import EdgeSettings
from flowhook.errors import UnavailableError
from flowhook.offload.offload import Offload
from flowhook.process import Lifecycle
from flowhook.process_reports import Reporter

BACKLOG: Final = 1024
"""Connections that the kernel queues until they are accepted."""

SPARE_FILES: Final = 256
"""File descriptors that a process needs in addition to those of its connections."""


async def serve(settings: EdgeSettings, lifecycle: Lifecycle, *, registry: CollectorRegistry | None = None) -> None:
    """Serve senders until `lifecycle.stop` is set, then drain for at most `settings.drain_seconds`.

    `lifecycle.ready` is set while the flow cache is valid; without a router requests get a 503. Metrics are registered
    in `registry`, by default the registry of the process.

    Raises:
        InvalidError: there is no token for the router, or a setting is invalid.
        UnavailableError: the port can't be bound (`PORT_UNAVAILABLE`).
    """
    channel = open_channel(settings, "edge")
    try:
        await _serve(settings, lifecycle, channel, registry or metrics.registry())
    finally:
        await channel.close(None)


async def _serve(settings: EdgeSettings, lifecycle: Lifecycle, channel: Any, registry: CollectorRegistry) -> None:
    counts = Counts()
    router = GrpcRouter(channel)
    loop = asyncio.get_running_loop()

    def on_state(lack: str) -> None:
        lifecycle.detail = lack
        if lack:
            lifecycle.ready.clear()
        else:
            lifecycle.ready.set()

    refusals = LimitedLog(logs.get_logger("edge.gateway"), loop.time)
    directory = Directory(
        router, counts, size=settings.flow_cache_size, lookup_seconds=settings.router_timeout, on_state=on_state
    )
    ingest, callbacks = (
        Ingest(router, counts, refusals, timeout=settings.router_timeout, max_pending=settings.max_pending_events)
        for _ in range(2)
    )
    replies = Replies(
        router, directory, counts, max_held=settings.max_held_requests, router_timeout=settings.router_timeout
    )
    proxies = Proxies(parse_networks(settings.trusted_proxies))
    rejections = Rejections(router, directory, Allowances(loop.time), counts)
    outbound = Outbound(allow_private_addresses=settings.allow_private_addresses)
    keys = Keys(outbound, refusals, loop.time)
    offload = Offload("parsing large bodies")
    uploads = BodyUploads(router, counts, timeout=settings.router_timeout)
    gateway = Gateway(
        directory,
        ingest,
        callbacks,
        replies,
        refusals=refusals,
        rejections=rejections,
        keys=keys,
        outbound=outbound,
        contents=Contents(offload),
        uploads=uploads,
        proxies=proxies,
        public_url=settings.public_url,
    )
    server = Server(
        settings,
        gateway.handle,
        counts,
        max_connections=_file_limit(settings.max_connections),
        shared=proxies.trusts,
        certificates=tls.load(settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file),
    )
    counts.gauge("flowhook_edge_connections", "Open connections.", lambda: server.connections)
    counts.gauge(
        "flowhook_edge_pending_events", "Requests that wait for the router.", lambda: ingest.pending + callbacks.pending
    )
    counts.gauge("flowhook_edge_uploads", "Large bodies that go on to the router.", lambda: uploads.under_way)
    counts.gauge("flowhook_edge_held_requests", "Requests that wait for their flow.", lambda: replies.held)
    counts.gauge("flowhook_edge_cached_flows", "Flow IDs, known and unknown, in the cache.", lambda: directory.cached)

    registry.register(counts)
    try:
        sockets = _listen(settings.host, settings.http_port, reuse_port=settings.reuse_port)
        for each in sockets:
            lifecycle.announce("http", *each.getsockname()[:2])
        server.add_sockets(sockets)
        async with asyncio.TaskGroup() as tasks:
            helpers = [
                tasks.create_task(directory.run(), name="follow flows"),
                tasks.create_task(ingest.run(), name="ingest"),
                tasks.create_task(callbacks.run(), name="ingest callbacks"),
                tasks.create_task(rejections.run(), name="report rejections"),
                tasks.create_task(server.sweep(), name="sweep connections"),
                tasks.create_task(Reporter(channel, lifecycle).run(), name="report"),
            ]
            await lifecycle.stop.wait()
            replies.release()
            await server.drain(settings.drain_seconds)
            for helper in helpers:
                helper.cancel()
        await server.ended()
    finally:
        server.stop()
        await outbound.close()
        await offload.aclose()
        registry.unregister(counts)


def _listen(host: str, port: int, *, reuse_port: bool) -> list[socket.socket]:
    """Return listening sockets for all addresses of `host`; `reuse_port` lets several edges share the port. Blocking.

    Not `tornado.netutil.bind_sockets`, which leaves its socket open when the port is in use.
    """
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, address in dict.fromkeys((each[0], each[4]) for each in found):
            if port == 0 and sockets:
                address = (address[0], sockets[0].getsockname()[1], *address[2:])  # noqa: PLW2901 - one port for all
            sockets.append(socket.create_server(address, family=family, backlog=BACKLOG, reuse_port=reuse_port))
            sockets[-1].setblocking(False)
    except OSError as error:
        for each in sockets:
            each.close()
        # Python appends the attempted operation to its own text; errors of name resolution have negative numbers
        cause = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise UnavailableError(f"can't listen on {host}:{port}: {cause}", reason="PORT_UNAVAILABLE") from None
    return sockets


def _file_limit(connections: int) -> int:
    """Raise this process's limit of open files for `connections`; return how many connections it allows."""
    soft = open_files.raise_towards(connections + SPARE_FILES)
    return connections if soft is None else min(connections, max(1, soft - SPARE_FILES))
