"""The HTTP requests of the MCP SDK, sent by the runner's own client, under its address policy and bounds.

The SDK handles failures of requests by itself: it logs them, and repeats some. What ends a call for good is therefore
reported beside it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Any, Final

import aiohttp
import httpx2
import orjson

from flowhook import limits
from runner.authentication.policy import Policy
from runner.components.base import Context
from runner.interpreter.errors import Kind, TaskFault, fault
from runner.outbound.bound_client import IDEMPOTENCY_KEY
from runner.outbound.http_response import response_fault

MAX_BYTES: Final = 4 * limits.MAX_RESULT_BYTES  # limit for all that a server sends in one call
MAX_RESPONSES: Final = 32  # limit for the HTTP requests of one call
_BAD_REQUEST: Final = 400
_METHOD_NOT_ALLOWED: Final = 405
# the client sets them, or the response is decoded already
_NOT_SENT: Final = frozenset({"accept-encoding", "connection", "content-length", "host", "user-agent"})
_NOT_PASSED: Final = frozenset({"content-encoding", "content-length", "transfer-encoding"})


class Outbound(httpx2.AsyncBaseTransport):
    """Sends the requests of one call."""

    def __init__(
        self, context: Context, method: str, authentication: Policy | None, failed: asyncio.Future[TaskFault]
    ) -> None:
        """Set `failed` to the fault that ends the call."""
        self._failed = failed
        self._context = context
        self._method = method
        self._authentication = authentication
        self._bytes = 0
        self._responses = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "GET":
            # the stream of messages that belong to no request: nobody would read them
            return httpx2.Response(_METHOD_NOT_ALLOWED)
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
            if response.status >= _BAD_REQUEST and request.method == "POST":
                read = await client.read(response)
                said = f"POST {read.url} answered {read.status} {read.reason}".rstrip()
                raise response_fault(read, Kind.COMMUNICATION, f"mcp: {said}")
            passed = [(name, value) for name, value in response.headers.items() if name.lower() not in _NOT_PASSED]
            stream = _Body(self, response, stack.pop_all())
            return httpx2.Response(response.status, headers=passed, stream=stream)
        raise AssertionError("unreachable")

    def count(self, size: int) -> None:
        self._bytes += size
        if self._bytes > MAX_BYTES:
            detail = f"mcp: the server sends more than {MAX_BYTES} bytes, and was cut off"
            raise self._fail(fault(Kind.COMMUNICATION, detail))

    def _fail(self, problem: TaskFault) -> httpx2.TransportError:
        if not self._failed.done():
            self._failed.set_result(problem)
        return httpx2.TransportError("the call failed")


class _Body(httpx2.AsyncByteStream):
    """The body of a response, which is read while it arrives."""

    def __init__(self, outbound: Outbound, response: aiohttp.ClientResponse, stack: AsyncExitStack) -> None:
        self._outbound = outbound
        self._response = response
        self._stack = stack

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
