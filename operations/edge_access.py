"""URL and trusted certificates for requests of the admin process to edges."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flowhook.process import tls_context
from operations.edge_url import reported_url

if TYPE_CHECKING:
    from flowhook.client import AsyncClient


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
