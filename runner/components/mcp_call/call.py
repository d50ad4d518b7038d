"""One call of an MCP server."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from flowhook.document.models.calls import McpArguments, McpClient, McpHttpTransport, McpStdioTransport, McpTransport
from flowhook.document.models.tasks import MAX_ARGUMENTS
from flowhook.document.quantities import parse_duration
from flowhook.errors import InvalidError
from runner.components.base import Context, component, load_optional
from runner.components.http import EvaluatedEndpoint
from runner.components.run_process import Text, Variable
from runner.interpreter.errors import Kind, fault


def _seconds(value: Any) -> float:
    try:
        return parse_duration(value)
    except InvalidError as problem:
        raise ValueError(problem.message) from None


class EvaluatedHttpTransport(McpHttpTransport):
    """`transport.http`, evaluated."""

    endpoint: str | EvaluatedEndpoint
    headers: dict[str, Any] = Field(default_factory=dict)


class EvaluatedStdioTransport(McpStdioTransport):
    """`transport.stdio`, evaluated."""

    command: Annotated[str, Field(min_length=1)]
    arguments: tuple[Text, ...] = Field(default=(), max_length=MAX_ARGUMENTS)  # type: ignore[assignment] # evaluated
    environment: dict[Variable, Text] = Field(default_factory=dict, max_length=MAX_ARGUMENTS)


class EvaluatedTransport(McpTransport):
    """`transport`, evaluated."""

    http: EvaluatedHttpTransport | None = None
    stdio: EvaluatedStdioTransport | None = None


class EvaluatedClient(McpClient):
    """`client`, evaluated."""

    name: str
    version: str


class EvaluatedMcpArguments(McpArguments):
    """Evaluated arguments of a `call: mcp`."""

    parameters: dict[str, Any] = Field(default_factory=dict)
    timeout: Annotated[Any, AfterValidator(_seconds)] = None
    transport: EvaluatedTransport
    client: EvaluatedClient | None = None


@component("mcp")
async def call(arguments: EvaluatedMcpArguments, context: Context) -> Any:
    """Make a request to an MCP server and return its result."""
    session = await load_optional("mcp", f"{__package__}.session", "mcp")
    try:
        async with asyncio.timeout(arguments.timeout):
            return await session.request(arguments, context)
    except TimeoutError:
        raise fault(Kind.TIMEOUT, f"mcp: no result within {arguments.timeout:g} s") from None
