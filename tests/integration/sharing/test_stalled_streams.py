"""A caller that does not read a stream: the stream ends, and what it held is free again."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import grpc
from support.patience import PATIENCE
from support.routers import flow, running_router
from support.uploads import uploaded

from flowhook.client.channel import AuthenticatedChannel, connect
from flowhook.limits import KIB, MIB
from flowhook.sharing.table import RouterLimits
from flowhook.v1.execution_service_pb2 import ReadBodyRequest
from flowhook.v1.execution_service_pb2_grpc import ExecutionServiceStub
from flowhook.wire import status

BODY = bytes(4 * MIB)
WINDOW = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 64 * KIB))
"""Options of a channel that receives at most 64 KiB of a stream before it is read."""


async def test_a_stream_that_is_not_read_ends_and_frees_what_it_held(tmp_path):
    downloads = replace(RouterLimits().downloads, total=4, reserved=0)
    limits = replace(RouterLimits(), downloads=downloads, send_seconds=1.0)
    async with (
        running_router(tmp_path / "data", limits=limits) as router,
        router.client() as client,
        grpc.aio.insecure_channel(router.target, options=WINDOW) as stalled,
        connect(router.target, router.token("view")) as reading,
    ):
        await client.flows.apply([flow("hello")])
        request = ReadBodyRequest(execution_id=await uploaded(router, "hello", BODY))
        unread = ExecutionServiceStub(AuthenticatedChannel(stalled, router.token("view"))).ReadBody(request)
        first = (await unread.read()).chunk

        # the caller has one download, which is its share: this one waits for the end of the other
        async with asyncio.timeout(PATIENCE):
            assert await read_when_free(ExecutionServiceStub(reading), request) == len(BODY)

        received, error = await rest_of(unread)
        assert error.reason == "STREAM_NOT_READ"
        assert len(first) + received < len(BODY)


async def test_a_caller_that_leaves_a_stream_that_it_did_not_read_leaves_no_trace(tmp_path, caplog):
    limits = replace(RouterLimits(), send_seconds=0.5)
    async with running_router(tmp_path / "data", limits=limits) as router, router.client() as client:
        await client.flows.apply([flow("hello")])
        request = ReadBodyRequest(execution_id=await uploaded(router, "hello", BODY))
        async with (
            grpc.aio.insecure_channel(router.target, options=WINDOW) as stalled,
            connect(router.target, router.token("view")) as reading,
        ):
            call = ExecutionServiceStub(AuthenticatedChannel(stalled, router.token("view"))).ReadBody(request)
            await call.read()
            await asyncio.sleep(1)  # whether it ends before or after this, nothing may be logged
            assert (await rest_of(ExecutionServiceStub(reading).ReadBody(request)))[0] == len(BODY)
    assert [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")] == []


async def rest_of(call):
    """Read a stream to its end; return the number of bytes and the error that ended it."""
    received = 0
    try:
        while (message := await call.read()) is not grpc.aio.EOF:
            received += len(message.chunk)
    except grpc.aio.AioRpcError as error:
        return received, status.from_rpc_error(error)
    return received, None


async def read_when_free(stub, request):
    """Read a body as soon as the caller's share has room for it."""
    while True:
        received, error = await rest_of(stub.ReadBody(request))
        if error is None or error.reason != "TOO_MANY_READERS":
            return received
        await asyncio.sleep(0.05)
