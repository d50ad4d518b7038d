"""Calls that no client of good will makes: they are answered, and the log stays silent."""

from __future__ import annotations

import asyncio
import logging

import grpc
import pytest
from support.patience import PATIENCE
from support.routers import flow, running_router

from flowhook.client import channel
from flowhook.sharing.table import RouterLimits
from flowhook.wire import status
from router.process.grpc_server import OWNER_SERVICES, SHARD_SERVICE

METHODS = [
    (f"/{service.full_name}/{method.name}", method.client_streaming, method.server_streaming)
    for service in (*OWNER_SERVICES, SHARD_SERVICE)
    for method in service.methods
] + [
    ("/grpc.health.v1.Health/Check", False, False),
    ("/grpc.health.v1.Health/Watch", False, True),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", True, True),
]
MESSAGES = (b"\xff\xff\xff", b"\x0a\x05ab", b"\x0a\x02\xff\xfe", b"\x0a" + b"\xff" * 12, b"\x0b" * 200)
"""No fields; a field that is cut short; text that is no UTF-8; an endless length; groups within groups."""


@pytest.fixture
def faults(caplog, capfd):
    """Return what the log has of errors and tracebacks."""

    def found():
        logged = [each.getMessage() for each in caplog.records if each.exc_info or each.levelno >= logging.ERROR]
        printed = "".join(capfd.readouterr())
        return logged + [line for line in printed.splitlines() if "Traceback" in line or "[error" in line]

    return found


async def call(connection, method, client_streaming, server_streaming, message):
    """Return the status of a call."""
    kind = f"{'stream' if client_streaming else 'unary'}_{'stream' if server_streaming else 'unary'}"
    begun = getattr(connection, kind)(method)([message] if client_streaming else message, timeout=PATIENCE)
    try:
        if server_streaming:
            async for _ in begun:
                begun.cancel()  # it was taken for a request
        else:
            await begun
    except grpc.aio.AioRpcError as error:
        return error.code(), status.from_rpc_error(error).reason
    except asyncio.CancelledError:
        pass
    return None


@pytest.mark.parametrize("number", range(len(MESSAGES)))
async def test_a_message_that_can_not_be_decoded_is_an_invalid_argument(router, faults, number):
    answers = {}
    for name in ("admin", "runner", "edge"):
        connection = channel.connect(router.target, router.token(name))
        for method, client_streaming, server_streaming in METHODS:
            answer = await call(connection, method, client_streaming, server_streaming, MESSAGES[number])
            if answer is not None and answer[0] is not grpc.StatusCode.PERMISSION_DENIED:
                answers.setdefault(answer, []).append(method)
        await connection.close()
    assert faults() == []
    assert {code for code, _ in answers} <= {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}


def frame(kind, flags, stream, payload):
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def literal(name, value):
    """Return a header that is no part of a table (RFC 7541, section 6.2.2)."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


async def answered(target, method, *metadata):
    """Make a call with any bytes as metadata and an empty message; wait for the end of its stream or connection."""
    host, _, port = target.rpartition(":")
    reader, writer = await asyncio.open_connection(host, port)
    fields = [
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", method), (b":authority", b"router"),
        (b"te", b"trailers"), (b"content-type", b"application/grpc"), *metadata,
    ]  # fmt: skip
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
    writer.write(frame(1, 4, 1, b"".join(literal(*each) for each in fields)) + frame(0, 1, 1, bytes(5)))
    try:
        async with asyncio.timeout(PATIENCE):
            while head := await reader.readexactly(9):
                await reader.readexactly(int.from_bytes(head[:3]))
                ends = head[3] in (0, 1) and head[4] & 1
                if int.from_bytes(head[5:9]) == 1 and (ends or head[3] == 3):
                    return
    except asyncio.IncompleteReadError:
        return
    finally:
        writer.close()


@pytest.mark.parametrize("value", [b"\xff", b"Bearer \xc3\x28", b"Bearer fhk_\xed\xa0\x80", b"\x00", b"a\r\nb"])
async def test_metadata_of_any_bytes_cause_no_traceback(router, client, faults, value):
    bearer = (b"authorization", b"Bearer " + router.token("admin").encode())
    for key in (b"authorization", b"x-any", b"user-agent", b"grpc-timeout", b"any-bin", b"grpc-encoding"):
        await answered(router.target, b"/flowhook.v1.FlowService/ListFlows", (key, value))
        await answered(router.target, b"/flowhook.v1.FlowService/ListFlows", bearer, (key, value))
    await client.flows.apply([flow("hello")])
    assert faults() == []


async def test_a_method_of_any_bytes_causes_no_traceback_and_ends_no_server(router, client, faults):
    bearer = (b"authorization", b"Bearer " + router.token("admin").encode())
    for method in (
        b"/\xff",
        b"/flowhook.v1.FlowService/\xff",
        b"",
        b"/",
        b"x",
        b"/a/b/c",
        b"/flowhook.v1.FlowService/",
    ):
        await answered(router.target, method)
        await answered(router.target, method, bearer)
    await client.flows.apply([flow("hello")])
    assert faults() == []


async def test_a_connection_on_which_nobody_speaks_is_closed(tmp_path):
    async with running_router(tmp_path / "data", limits=RouterLimits(handshake_seconds=1.0)) as router:
        host, _, port = router.target.rpartition(":")
        reader, writer = await asyncio.open_connection(host, port)
        async with asyncio.timeout(60):  # without a limit of ours, gRPC closes it after two minutes
            while await reader.read(1000):
                pass
        writer.close()
