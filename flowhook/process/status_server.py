"""The private port of a process: `/healthz`, `/readyz` and `/metrics` over HTTP, for probes and operators.

It is apart from every port that others reach, so what it says may be detailed: nothing of senders or secrets, but what
the process lacks. Each connection gets one answer and is closed; a request is at most `MAX_HEAD` bytes, and a
connection lasts at most `SECONDS`. Standard library only, so that every role can have it.

Source: RFC 9112.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Final

import attrs
import orjson

import flowhook
from flowhook.asyncio_tasks import end_tasks
from flowhook.errors import UnavailableError
from flowhook.process.process_state import ProcessState

MAX_HEAD: Final = 8192  # bytes of a request that are read
MAX_CONNECTIONS: Final = 64  # connections at a time; further ones are closed
SECONDS: Final = 5.0  # time that a request and its answer may take
_METHODS: Final = ("GET", "HEAD")


@attrs.define(eq=False, repr=False)
class StatusServer:
    """Answers GET and HEAD: `/healthz` (the process runs), `/readyz` (it serves; else 503, why not), `/metrics`."""

    _process_state: ProcessState
    _max_connections: int = attrs.field(default=MAX_CONNECTIONS, kw_only=True)
    _seconds: float = attrs.field(default=SECONDS, kw_only=True)
    _connections: set[asyncio.Task[None]] = attrs.field(init=False, factory=set)

    @contextlib.asynccontextmanager
    async def serving(self, host: str, port: int) -> AsyncIterator[int]:
        """Serve within the context, whose value is the port; 0 lets the system choose one.

        Raises:
            UnavailableError: the port can't be bound (`PORT_UNAVAILABLE`).
        """
        try:
            server = await asyncio.start_server(self._connected, host, port, limit=MAX_HEAD)
        except OSError as error:
            cause = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
            raise UnavailableError(
                f"can't listen on {host}:{port} for health checks: {cause}", reason="PORT_UNAVAILABLE"
            ) from None
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            await end_tasks(self._connections)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= self._max_connections:
            writer.transport.abort()
            return
        task = asyncio.create_task(self._answer(reader, writer), name="health check")
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                try:
                    head = await reader.readuntil(b"\r\n\r\n")
                except asyncio.LimitOverrunError:
                    head = b""
                for piece in await self._response(head):
                    writer.write(piece)  # one by one: all that ask share the text of the metrics
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (OSError, EOFError, TimeoutError):
            pass  # the client is gone, or never asked
        finally:
            writer.transport.abort()

    async def _response(self, head: bytes) -> tuple[bytes, bytes]:
        method, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        path, _, version = rest.partition(" ")
        path = path.partition("?")[0]
        status, kind = HTTPStatus.OK, "text/plain"
        if not version.startswith("HTTP/1."):
            status, body = HTTPStatus.BAD_REQUEST, b"not a request\n"
        elif path not in ("/healthz", "/readyz", "/metrics"):
            status, body = HTTPStatus.NOT_FOUND, b"there is nothing at this path\n"
        elif method not in _METHODS:
            status, body = HTTPStatus.METHOD_NOT_ALLOWED, b"only GET and HEAD\n"
        elif path == "/metrics":
            status, kind, body = await self._metrics(head)
        else:
            status, content = self._health() if path == "/healthz" else self._readiness()
            kind, body = "application/json", orjson.dumps(content) + b"\n"
        lines = [
            f"HTTP/1.1 {status} {status.phrase}",
            f"Content-Type: {kind}",
            f"Content-Length: {len(body)}",
            "Cache-Control: no-store",
            "Connection: close",
            *(["Allow: GET, HEAD"] if status is HTTPStatus.METHOD_NOT_ALLOWED else ()),
        ]
        return "\r\n".join([*lines, "", ""]).encode("ascii"), b"" if method == "HEAD" else body

    async def _metrics(self, head: bytes) -> tuple[HTTPStatus, str, bytes]:
        from flowhook.process.metrics import negotiated  # noqa: PLC0415 - not every process that has a port measures

        accepted = [line[7:] for line in head.decode("latin-1").split("\r\n") if line[:7].lower() == "accept:"]
        try:
            return HTTPStatus.OK, *negotiated(",".join(accepted), await self._process_state.metrics())
        except TimeoutError:
            return HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", b"the process is too busy\n"

    def _health(self) -> tuple[HTTPStatus, dict[str, object]]:
        state = self._process_state
        return HTTPStatus.OK, {"status": "ok", "process": state.name, "build": flowhook.__version__}

    def _readiness(self) -> tuple[HTTPStatus, dict[str, object]]:
        lack, warnings = self._process_state.lack(), [*self._process_state.warnings.values()]
        status = HTTPStatus.SERVICE_UNAVAILABLE if lack else HTTPStatus.OK
        return status, {"ready": not lack, "reasons": [lack] if lack else [], "warnings": warnings}
