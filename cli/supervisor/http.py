"""The one HTTP question a supervisor asks: which status does this path have?"""

from __future__ import annotations

import asyncio
from typing import Final

TIMEOUT: Final = 2.0


async def status_of(method: str, address: str, path: str) -> int:
    """Return the HTTP status of a request to `address` (`host:port`), or 0 when there is no answer within 2 s."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    try:
        async with asyncio.timeout(TIMEOUT):
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                writer.write(f"{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
                await writer.drain()
                line = await reader.readline()
            finally:
                writer.close()
        return int(line.split()[1])
    except (OSError, TimeoutError, IndexError, ValueError):
        return 0
