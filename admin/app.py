"""The admin process, wired."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Final

import tornado.httpserver
import tornado.netutil

from admin import handlers
from flowhook.client import AsyncClient
from flowhook.client.channel import open_channel
from flowhook.config import AdminSettings, read_token
from flowhook.errors import UnavailableError
from flowhook.limits import MAX_HEADER_BYTES
from flowhook.process import Lifecycle, Reporter

ROUTER_TIMEOUT: Final = 3.0
"""Seconds within which the router must answer; who asks for health is impatient."""

IDLE_SECONDS: Final = 75.0


async def serve(settings: AdminSettings, lifecycle: Lifecycle) -> None:
    """Serve until `lifecycle.stop` is set. A router that is away is what this process is there to tell.

    Raises:
        InvalidError: there is no token, or a TLS file can't be read.
        UnavailableError: the address can't be listened on (`ADDRESS_UNUSABLE`).
    """
    client = AsyncClient(
        settings.router,
        token=read_token(settings, "admin"),
        ca_file=settings.router_ca_file,
        cert_file=settings.client_cert_file,
        key_file=settings.client_key_file,
        timeout=ROUTER_TIMEOUT,
    )
    async with client, open_channel(settings, "admin") as channel, asyncio.TaskGroup() as group:
        server = tornado.httpserver.HTTPServer(
            handlers.application(client), idle_connection_timeout=IDLE_SECONDS, max_header_size=MAX_HEADER_BYTES
        )
        sockets = _bind(settings.host, settings.admin_port)
        server.add_sockets(sockets)
        lifecycle.announce("http", settings.host, sockets[0].getsockname()[1])
        reporter = group.create_task(Reporter(channel, lifecycle).run(), name="report")
        lifecycle.ready.set()
        await lifecycle.stop.wait()
        reporter.cancel()
        server.stop()
        await server.close_all_connections()


def _bind(host: str, port: int) -> list[socket.socket]:
    try:
        return tornado.netutil.bind_sockets(port, host)
    except OSError as error:
        cause = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise UnavailableError(f"can't listen on {host}:{port}: {cause}", reason="ADDRESS_UNUSABLE") from None
