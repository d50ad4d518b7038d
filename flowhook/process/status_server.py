"""The private port of a process: `/healthz` and `/readyz` over HTTP, for probes and operators.

It is apart from every port that others reach, so what it says may be detailed: nothing of senders or secrets, but what
the process lacks. Each connection gets one answer and is closed; a request is at most `MAX_HEAD` bytes, and a
connection lasts at most `SECONDS`. Standard library only, so that every role can have it.

Source: RFC 9112.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Mapping
from http import HTTPStatus
from typing import Final, NamedTuple

import attrs
import orjson

import flowhook
from flowhook.errors import UnavailableError
from flowhook.process.process_state import ProcessState

MAX_HEAD: Final = 8192  # bytes of a request that are read
MAX_CONNECTIONS: Final = 64  # connections at a time; further ones are closed
SECONDS: Final = 5.0  # time that a request and its answer may take
JSON: Final = "application/json"
_METHODS: Final = ("GET", "HEAD")


class StatusResponse(NamedTuple):
    """An answer: status code, media type and content."""

    status: int
    content_type: str
    body: bytes


# Answers a path. It neither blocks nor raises.
Responder = Callable[[], StatusResponse]


def health_responders(process_state: ProcessState) -> dict[str, Responder]:
    """Return what answers `/healthz` (the process runs) and `/readyz` (it serves; else 503 and why not)."""

    def healthz() -> StatusResponse:
        return _json(200, {"status": "ok", "process": process_state.name, "build": flowhook.__version__})

    def readyz() -> StatusResponse:
        lack = process_state.lack()
        status = HTTPStatus.SERVICE_UNAVAILABLE if lack else HTTPStatus.OK
        reasons, warnings = [lack] if lack else [], [*process_state.warnings.values()]
        return _json(status, {"ready": not lack, "reasons": reasons, "warnings": warnings})

    return {"/healthz": healthz, "/readyz": readyz}


def _json(status: int, content: Mapping[str, object]) -> StatusResponse:
    return StatusResponse(status, JSON, orjson.dumps(content) + b"\n")


@attrs.define(eq=False, repr=False)
class StatusServer:
    """Answers GET and HEAD for the paths of `responders`, and 404 for all others."""

    _responders: Mapping[str, Responder]
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
            for task in self._connections:
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

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
                writer.write(self._response(head))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (OSError, EOFError, TimeoutError):
            pass  # the client is gone, or never asked
        finally:
            writer.transport.abort()

    def _response(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        path, _, version = rest.partition(" ")
        path = path.partition("?")[0]
        if not version.startswith("HTTP/1."):
            answer = StatusResponse(HTTPStatus.BAD_REQUEST, "text/plain", b"not a request\n")
        elif (responder := self._responders.get(path)) is None:
            answer = StatusResponse(HTTPStatus.NOT_FOUND, "text/plain", b"there is nothing at this path\n")
        elif method not in _METHODS:
            answer = StatusResponse(HTTPStatus.METHOD_NOT_ALLOWED, "text/plain", b"only GET and HEAD\n")
        else:
            answer = responder()
        lines = [
            f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}",
            f"Content-Type: {answer.content_type}",
            f"Content-Length: {len(answer.body)}",
            "Cache-Control: no-store",
            "Connection: close",
        ]
        if answer.status == HTTPStatus.METHOD_NOT_ALLOWED:
            lines.append("Allow: GET, HEAD")
        return "\r\n".join([*lines, "", ""]).encode("ascii") + (b"" if method == "HEAD" else answer.body)
