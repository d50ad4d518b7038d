"""The standard streams of an MCP server that is a process, started with the limits of all processes of flows."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from typing import Any, Final

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter
from pydantic import ValidationError

from flowhook import limits
from runner.components.base import Context
from runner.components.mcp_call.call import EvaluatedStdioTransport
from runner.components.mcp_call.http import MAX_BYTES
from runner.components.run_process import check_allowed
from runner.interpreter.errors import Kind, TaskFault, fault
from runner.processes.flow_processes import PATH, FlowProcesses, ProcessSpec

_CHUNK_BYTES: Final = 64 * limits.KIB

Messages = tuple[MemoryObjectReceiveStream[SessionMessage | Exception], MemoryObjectSendStream[SessionMessage]]


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
        seconds=max(1.0, context.deadline - asyncio.get_running_loop().time()),
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
    stdout: asyncio.StreamReader, incoming: MemoryObjectSendStream[SessionMessage | Exception], failed: Any
) -> None:
    buffer, size = b"", 0
    while part := await stdout.read(_CHUNK_BYTES):
        size += len(part)
        if size > MAX_BYTES:
            _fail(failed, Kind.COMMUNICATION, f"mcp: the server sends more than {MAX_BYTES} bytes, and was cut off")
            return
        *lines, buffer = (buffer + part).split(b"\n")
        for line in lines:
            with contextlib.suppress(ValidationError):  # not a message: some servers write logs there
                await incoming.send(SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False)))
    _fail(failed, Kind.RUNTIME, "mcp: the process of the server ended")


async def _send(stdin: asyncio.StreamWriter, outgoing: MemoryObjectReceiveStream[SessionMessage]) -> None:
    with contextlib.suppress(ConnectionError):  # the end of the process is reported by its output
        async for message in outgoing:
            stdin.write(message.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")
            await stdin.drain()


def _fail(failed: asyncio.Future[TaskFault], kind: Kind, detail: str) -> None:
    if not failed.done():
        failed.set_result(fault(kind, detail))
