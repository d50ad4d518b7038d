"""Chooses the URL at which senders reach the edges from those that the edges report; pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from flowhook.client import ProcessInfo
from operations import health

LOOPBACK: Final = "127.0.0.1"
_WILDCARDS: Final = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound

# scheme, host and port: an edge's token allows to report anything, and people paste the URL into shells
_URL: Final = re.compile(r"https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


def reported_url(processes: Sequence[ProcessInfo], own_host: str) -> str:
    """Return the URL that an edge reports, one that is ready before others; pure.

    An edge that listens on all addresses is called by the name of its machine, or by the loopback address on
    `own_host`, which is the name of this machine.
    """
    edges = [process for process in processes if process.role == "edge" and process.url]
    for edge in sorted(edges, key=lambda process: (not health.is_ready(process), process.name)):
        url = _reachable(edge, own_host)
        if _URL.fullmatch(url):
            return url
    return ""


def _reachable(edge: ProcessInfo, own_host: str) -> str:
    try:
        parts = urlsplit(edge.url)
        if parts.hostname in _WILDCARDS:
            return f"{parts.scheme}://{LOOPBACK if edge.host == own_host else edge.host}:{parts.port or ''}".rstrip(":")
    except ValueError:
        return ""
    return edge.url
