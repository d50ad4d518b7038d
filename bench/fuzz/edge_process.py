"""An edge as `flowhook edge` runs it, but that finds every host on this machine, and fetches keys as often as it likes.

`FUZZ_PUBLISHER_PORT` is where it finds them. Nothing else is put in the place of anything.
"""

from __future__ import annotations

import os
import socket
import sys

from aiohttp import connector
from aiohttp.abc import AbstractResolver, ResolveResult

from edge import app, key_cache
from flowhook import process
from flowhook.config import EdgeSettings


class _Here(AbstractResolver):
    """Says of every host that it is this one."""

    def __init__(self, *_arguments: object, **_options: object) -> None:
        """Take what aiohttp's own one takes."""

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
    connector.DefaultResolver = _Here  # type: ignore[misc]
    key_cache.FETCHES_PER_MINUTE = 1_000_000  # type: ignore[misc]
    key_cache.AGAIN_SECONDS = 0.2  # type: ignore[misc]
    settings = EdgeSettings()
    sys.exit(process.run(lambda lifecycle: app.serve(settings, lifecycle), settings, "edge"))
