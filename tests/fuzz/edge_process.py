"""Runs an edge like `flowhook edge`, with every host name resolved to the publisher, and no limit on fetches of keys.

`FUZZ_PUBLISHER_PORT` is the publisher's port on 127.0.0.1. Nothing else is replaced.
"""

from __future__ import annotations

import os
import socket
import sys

from aiohttp import connector
from aiohttp.abc import AbstractResolver, ResolveResult

from edge import app
from edge.webhook import key_cache
from flowhook.process import lifecycle
from flowhook.process.settings import EdgeSettings


class _PublisherResolver(AbstractResolver):
    """Resolves every host name to the publisher."""

    def __init__(self, *_arguments: object, **_options: object) -> None:
        """Take the arguments of aiohttp's resolver."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the publisher's address."""
        del family
        port = int(os.environ.get("FUZZ_PUBLISHER_PORT", port))
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0)]

    async def close(self) -> None:
        """Do nothing."""


if __name__ == "__main__":
    connector.DefaultResolver = _PublisherResolver  # type: ignore[misc]
    key_cache.FETCHES_PER_MINUTE = 1_000_000  # type: ignore[misc]
    key_cache.AGAIN_SECONDS = 0.2  # type: ignore[misc]
    settings = EdgeSettings()
    sys.exit(lifecycle.run(lambda lifecycle: app.serve(settings, lifecycle), settings, "edge"))
