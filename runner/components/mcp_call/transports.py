"""Transports of the MCP SDK: HTTP requests sent by the runner's own client, and a process's standard streams.

Requests are sent under the client's address policy and bounds, processes started with the limits of all processes of
flows. The SDK handles failures by itself: it logs them, and repeats some requests. What ends a call for good is
therefore reported beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from http import HTTPStatus
from typing import Any, Final

import aiohttp
import anyio
import attrs
import httpx2
import orjson
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter
from pydantic import ValidationError

from flowhook import limits
from runner.components.base import Context, time_left
from runner.components.mcp_call.call import EvaluatedStdioTransport
from runner.components.run_process import check_allowed
from runner.interpreter.errors import Kind, TaskFault, fault
from runner.outbound.bound_client import IDEMPOTENCY_KEY
from runner.outbound.http_response import refusal
from runner.outbound.policies import Policy
from runner.processes.flow_processes import PATH, FlowProcesses, ProcessSpec

MAX_BYTES: Final = 4 * limits.MAX_RESULT_BYTES  # limit for all that a server sends in one call
MAX_RESPONSES: Final = 32  # limit for the HTTP requests of one call
# the client sets them, or the response is decoded already
_NOT_SENT: Final = frozenset({"accept-encoding", "connection", "content-length", "host", "user-agent"})
_NOT_PASSED: Final = frozenset({"content-encoding", "content-length", "transfer-encoding"})
_CHUNK_BYTES: Final = 64 * limits.KIB

Messages = tuple[MemoryObjectReceiveStream[SessionMessage | Exception], MemoryObjectSendStream[SessionMessage]]


@attrs.define(eq=False, repr=False)
class Outbound(httpx2.AsyncBaseTransport):
    """Sends the requests of one call."""

    _context: Context
    _method: str
    _authentication: Policy | None
    _failed: asyncio.Future[TaskFault]  # set to the fault that ends the call
    _bytes: int = attrs.field(init=False, default=0)
    _responses: int = attrs.field(init=False, default=0)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "GET":
            # the stream of messages that belong to no request: nobody would read them
            return httpx2.Response(HTTPStatus.METHOD_NOT_ALLOWED)
        try:
            return await self._send(request)
        except TaskFault as problem:
            raise self._fail(problem) from None

    async def _send(self, request: httpx2.Request) -> httpx2.Response:
        self._responses += 1
        if self._responses > MAX_RESPONSES:
            raise fault(Kind.COMMUNICATION, f"mcp: the call takes more than {MAX_RESPONSES} HTTP requests")
        body = await request.aread()
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _NOT_SENT}
        client = self._context.http.without_key()
        if _method_of(body) == self._method:
            headers[IDEMPOTENCY_KEY] = self._context.idempotency_key
        async with AsyncExitStack() as stack:
            url, policy = str(request.url), self._authentication
            exchange = client.stream(request.method, url, headers=headers, body=body or None, authentication=policy)
            response = await stack.enter_async_context(exchange)
            if response.status >= HTTPStatus.BAD_REQUEST and request.method == "POST":
                raise refusal(await client.read(response), "POST", prefix="mcp: ")
            passed = [(name, value) for name, value in response.headers.items() if name.lower() not in _NOT_PASSED]
            stream = _Body(self, response, stack.pop_all())
            return httpx2.Response(response.status, headers=passed, stream=stream)
        raise AssertionError("unreachable")

    def count(self, size: int) -> None:
        self._bytes += size
        if self._bytes > MAX_BYTES:
            raise self._fail(_too_much())

    def _fail(self, problem: TaskFault) -> httpx2.TransportError:
        _fail(self._failed, problem)
        return httpx2.TransportError("the call failed")


@attrs.define(eq=False, repr=False)
class _Body(httpx2.AsyncByteStream):
    """The body of a response, which is read while it arrives."""

    _outbound: Outbound
    _response: aiohttp.ClientResponse
    _stack: AsyncExitStack

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._response.content.iter_any():
            self._outbound.count(len(part))
            yield part

    async def aclose(self) -> None:
        """See `httpx2.AsyncByteStream`."""
        self._response.close()
        await self._stack.aclose()


def _method_of(body: bytes) -> Any:
    message = orjson.loads(body) if body else None
    return message.get("method") if isinstance(message, Mapping) else None


@contextlib.asynccontextmanager
async def started(
    transport: EvaluatedStdioTransport, context: Context, failed: asyncio.Future[TaskFault]
) -> AsyncIterator[Messages]:
    """Start a server and provide the streams of its messages; on exit it is ended with all its descendants.

    `failed` is set to the fault that ends the call: the process writes too much, or ends.

    Raises:
        TaskFault: processes are not allowed, or there is no such command (configuration).
    """
    check_allowed("mcp", context)
    path = shutil.which(transport.command, path=PATH)
    if path is None:
        raise fault(Kind.CONFIGURATION, f"mcp: the command is not installed on this runner; it is looked for in {PATH}")
    program = ProcessSpec(
        argv=(path, *map(str, transport.arguments)),
        environment={name: str(value) for name, value in transport.environment.items()},
        stdin=b"",
        files={},
        seconds=time_left(context, 1.0),
    )
    incoming, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    write, outgoing = anyio.create_memory_object_stream[SessionMessage](0)
    async with (
        context.shared.get(FlowProcesses).converse(program) as (stdin, stdout),
        incoming,
        read,
        write,
        outgoing,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(_receive, stdout, incoming, failed)
        tasks.start_soon(_send, stdin, outgoing)
        try:
            yield read, write
        finally:
            tasks.cancel_scope.cancel()


async def _receive(
    stdout: asyncio.StreamReader,
    incoming: MemoryObjectSendStream[SessionMessage | Exception],
    failed: asyncio.Future[TaskFault],
) -> None:
    buffer, size = b"", 0
    while part := await stdout.read(_CHUNK_BYTES):
        size += len(part)
        if size > MAX_BYTES:
            _fail(failed, _too_much())
            return
        *lines, buffer = (buffer + part).split(b"\n")
        for line in lines:
            with contextlib.suppress(ValidationError):  # not a message: some servers write logs there
                await incoming.send(SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False)))
    _fail(failed, fault(Kind.RUNTIME, "mcp: the process of the server ended"))


async def _send(stdin: asyncio.StreamWriter, outgoing: MemoryObjectReceiveStream[SessionMessage]) -> None:
    with contextlib.suppress(ConnectionError):  # the end of the process is reported by its output
        async for message in outgoing:
            stdin.write(message.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")
            await stdin.drain()


def _too_much() -> TaskFault:
    return fault(Kind.COMMUNICATION, f"mcp: the server sends more than {MAX_BYTES} bytes, and was cut off")


def _fail(failed: asyncio.Future[TaskFault], problem: TaskFault) -> None:
    if not failed.done():
        failed.set_result(problem)
