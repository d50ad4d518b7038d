"""A session with an MCP server for one request, with the MCP SDK."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx2
import mcp_types as types
from mcp.client.session import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, KNOWN_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS
from pydantic import TypeAdapter

import flowhook
from flowhook.asyncio_tasks import end_tasks
from runner.components.base import Context, as_text
from runner.components.http import EvaluatedEndpoint
from runner.components.mcp_call.call import EvaluatedMcpArguments
from runner.components.mcp_call.transports import Outbound, started
from runner.interpreter.errors import Kind, TaskFault, fault, shorten

MAX_MESSAGE_BYTES: Final = 1000  # of a server's error message that an error shows
_RESULT: Final[TypeAdapter[dict[str, Any]]] = TypeAdapter(dict[str, Any])

for _name in ("mcp", "httpx2", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)  # their records contain what servers send


async def request(arguments: EvaluatedMcpArguments, context: Context) -> dict[str, Any]:
    """Initialize a session, make the request and return its result; the caller sets the deadline.

    Raises:
        TaskFault: the server answers with an error (runtime), or can't be talked to (communication, …).
    """
    if arguments.protocol_version not in KNOWN_PROTOCOL_VERSIONS:
        known = ", ".join(KNOWN_PROTOCOL_VERSIONS)
        raise fault(Kind.CONFIGURATION, f"mcp: with.protocolVersion: the known versions are {known}")
    failed: asyncio.Future[TaskFault] = asyncio.get_running_loop().create_future()
    exchange = asyncio.ensure_future(_exchange(arguments, context, failed))
    try:
        await asyncio.wait((exchange, failed), return_when=asyncio.FIRST_COMPLETED)
    finally:
        if not exchange.done():
            await end_tasks([exchange])
    if failed.done():
        if not exchange.cancelled():
            exchange.exception()  # it is the consequence
        raise failed.result()
    failed.cancel()
    return exchange.result()


async def _exchange(
    arguments: EvaluatedMcpArguments, context: Context, failed: asyncio.Future[TaskFault]
) -> dict[str, Any]:
    try:
        async with _streams(arguments, context, failed) as streams, _session(arguments, *streams) as session:
            call = types.Request[Any, Any](method=arguments.method, params=arguments.parameters or None)
            # a result of any shape: the SDK's type variable is limited to its models
            return await session.send_request(call, _RESULT)  # type: ignore[type-var]
    except Exception as problem:  # noqa: BLE001 - whatever the SDK raises, in groups or alone
        raise _fault_of(problem) from None


@asynccontextmanager
async def _streams(
    arguments: EvaluatedMcpArguments, context: Context, failed: asyncio.Future[TaskFault]
) -> AsyncIterator[tuple[Any, Any]]:
    http, stdio = arguments.transport.http, arguments.transport.stdio
    if stdio is not None:
        async with started(stdio, context, failed) as messages:
            yield messages
    elif http is not None:
        endpoint = EvaluatedEndpoint(uri=http.endpoint) if isinstance(http.endpoint, str) else http.endpoint
        headers = {name: as_text(value) for name, value in http.headers.items() if value is not None}
        outbound = Outbound(context, arguments.method, endpoint.authentication, failed)
        async with (
            httpx2.AsyncClient(transport=outbound, headers=headers, timeout=None) as client,
            streamable_http_client(endpoint.uri, http_client=client) as streams,
        ):
            yield streams


@asynccontextmanager
async def _session(arguments: EvaluatedMcpArguments, read: Any, write: Any) -> AsyncIterator[ClientSession]:
    own = arguments.client
    name, version = ("flowhook", flowhook.__version__) if own is None else (own.name, own.version)
    info = types.Implementation(name=name, version=version)
    async with ClientSession(read, write, client_info=info) as session:
        if arguments.protocol_version in MODERN_PROTOCOL_VERSIONS:
            await session.discover()
        else:
            await _initialize(session, arguments.protocol_version, info)
        yield session


async def _initialize(session: ClientSession, version: str, info: types.Implementation) -> None:
    """Shake hands with a version; the SDK's own handshake proposes the latest one."""
    parameters = types.InitializeRequestParams(
        protocol_version=version, capabilities=types.ClientCapabilities(), client_info=info
    )
    result = await session.send_request(types.InitializeRequest(params=parameters), types.InitializeResult)
    if result.protocol_version not in HANDSHAKE_PROTOCOL_VERSIONS:
        raise fault(Kind.COMMUNICATION, "mcp: the server speaks no version of the protocol that is known")
    session.adopt(result)
    await session.send_notification(types.InitializedNotification())


def _fault_of(problem: BaseException) -> TaskFault:
    while isinstance(problem, BaseExceptionGroup):
        problem = problem.exceptions[0]
    if isinstance(problem, TaskFault):
        return problem
    if isinstance(problem, MCPError):
        said = shorten(problem.error.message, MAX_MESSAGE_BYTES)
        return fault(Kind.RUNTIME, f"mcp: the server answered with the error {problem.error.code}: {said}")
    return fault(Kind.RUNTIME, f"mcp: the server's answer is not valid ({type(problem).__name__})")
