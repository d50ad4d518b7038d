"""URL and trusted certificates for requests of the admin process to edges."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from flowhook.client import ProcessInfo
from flowhook.process import tls_context
from operations import health

if TYPE_CHECKING:
    from flowhook.client import AsyncClient

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


@dataclass(frozen=True, slots=True)
class EdgeAccess:
    """How edges are reached."""

    public_url: str = ""  # `FLOWHOOK_PUBLIC_URL`: scheme and host that senders use; empty: those that an edge reports
    ca_file: Path | None = None  # PEM certificates of authorities; None: those of the system
    # PEM certificate of the edges of this machine's cluster; comes before `ca_file` where there is no `public_url`,
    # which may be that of a proxy
    cert_file: Path | None = None

    async def url(self, client: AsyncClient) -> str:
        """Return scheme, host and port that senders use, without a slash at the end; empty if nobody knows them.

        Raises:
            UnavailableError: the router did not answer.
        """
        return self.public_url or reported_url(await client.cluster.processes(metrics=False), socket.gethostname())

    def context(self) -> ssl.SSLContext:
        """Return an SSL context. Blocking.

        Raises:
            InvalidError: a file can't be read, or contains no certificate (`TLS_FILE_UNREADABLE`).
        """
        if self.cert_file is not None and not self.public_url:
            return tls_context.context_for_certificate(self.cert_file)
        return tls_context.context_for_authorities(self.ca_file)
