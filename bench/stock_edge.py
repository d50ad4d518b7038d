"""An edge on Tornado's own `HTTPServer`: a yardstick for the server of the edge, and proof that it can be exchanged."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerConnectionDelegate

from edge import app
from edge.http.receive_budget import ReceiveBudget
from edge.metrics import EdgeMetrics
from flowhook import limits
from flowhook.process import lifecycle
from flowhook.process.server_certificates import Certificates
from flowhook.process.settings import EdgeSettings

UNLIMITED: Final = 1 << 60
"""Bytes of a body that the server lets through; the edge has limits of its own."""


class StockServer(HTTPServer):
    """Tornado's server with the constructor of `edge.http.server.Server`; what it has no option for is ignored."""

    def initialize(  # type: ignore[override]
        self,
        application: HTTPServerConnectionDelegate,
        settings: EdgeSettings,
        counts: EdgeMetrics,
        *,
        max_connections: int,
        budget: ReceiveBudget | None = None,
        shared: Callable[[IPv4Address | IPv6Address], bool] = lambda _: False,
        certificates: Certificates | None = None,
    ) -> None:
        """Create a server."""
        del counts, max_connections, budget, shared
        super().initialize(
            application,
            ssl_options=None if certificates is None else certificates.context,
            max_header_size=limits.MAX_HEADER_BYTES,
            idle_connection_timeout=settings.idle_timeout,
            max_body_size=UNLIMITED,
        )

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return len(self._connections)

    async def sweep(self) -> None:
        """Do nothing until cancelled: the server has timers of its own."""
        await asyncio.Event().wait()

    async def drain(self, seconds: float) -> None:
        """Stop accepting, and close all connections, for at most `seconds`."""
        self.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.close_all_connections()

    async def ended(self) -> None:
        """Do nothing: `drain` has closed all connections."""


if __name__ == "__main__":
    chosen = EdgeSettings()
    sys.exit(lifecycle.run(lambda lifecycle: app.serve(chosen, lifecycle, server=StockServer), chosen, "edge"))
