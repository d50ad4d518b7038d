"""The HTTP server that flows of the benchmark call; it answers every request with the same small JSON."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, cast

import uvloop

BODY: Final = b'{"accepted":true}'
ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
_HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class EchoProtocol(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its bases

    def data_received(self, data: bytes) -> None:
        """Answer each request that was received in whole."""
        self._received += data
        while (end := self._received.find(_HEAD_END)) >= 0:
            length = _LENGTH.search(self._received, 0, end)
            whole = end + len(_HEAD_END) + (int(length[1]) if length else 0)
            if len(self._received) < whole or self._transport is None:
                return
            self._received = self._received[whole:]
            self._transport.write(ANSWER)


async def main() -> None:
    """Serve on a port, by default a free one, which is printed, until standard input ends."""
    port = int(sys.argv[1]) if sys.argv[1:] else 0
    server = await asyncio.get_running_loop().create_server(EchoProtocol, "127.0.0.1", port, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


@asynccontextmanager
async def echo_server(port: int = 0) -> AsyncIterator[str]:
    """Run the server as a process of its own, and yield its URL."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.echo_server", str(port)), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None  # noqa: S101 - a pipe was asked for
    try:
        yield f"http://127.0.0.1:{int(await process.stdout.readline())}"
    finally:
        await process.communicate(b"")


if __name__ == "__main__":
    uvloop.run(main())
