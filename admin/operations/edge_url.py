"""Finds the URL at which senders reach the edges."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Final
from urllib.parse import urlsplit

from admin import health
from flowhook.client import AsyncClient, ProcessInfo

LOOPBACK: Final = "127.0.0.1"
_WILDCARDS: Final = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound

configured_url: ContextVar[str] = ContextVar("configured_url", default="")
"""`FLOWHOOK_PUBLIC_URL` of the admin process whose request is handled; empty: not set."""


async def edge_url(client: AsyncClient) -> str:
    """Return scheme, host and port that senders use, without a slash at the end; empty if nobody knows them.

    That is the admin process's `FLOWHOOK_PUBLIC_URL`, else what an edge reports.

    Raises:
        UnavailableError: the router did not answer.
    """
    return configured_url.get() or reported_url(await client.cluster.processes(metrics=False), socket.gethostname())


def reported_url(processes: Sequence[ProcessInfo], own_host: str) -> str:
    """Return the URL that an edge reports, one that is ready before others; pure.

    An edge that listens on all addresses is called by the name of its machine, or by the loopback address on
    `own_host`, which is the name of this machine.
    """
    edges = [process for process in processes if process.role == "edge" and process.url]
    if not edges:
        return ""
    edge = min(edges, key=lambda process: (not health.is_ready(process), process.name))
    parts = urlsplit(edge.url)
    if parts.hostname not in _WILDCARDS:
        return edge.url
    return f"{parts.scheme}://{LOOPBACK if edge.host == own_host else edge.host}:{parts.port}"
