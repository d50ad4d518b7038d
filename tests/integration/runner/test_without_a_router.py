"""What a runner says while no router takes it: once, and as much as it takes to see why."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import grpc.aio
import pytest
from structlog.testing import capture_logs
from support.patience import PATIENCE

from flowhook.errors import UnauthenticatedError
from runner.worker import attach_client


@pytest.fixture
def reported():
    with capture_logs() as lines:
        yield lines


def warnings(lines):
    """Return event and fields of each warning."""
    fields = [dict(line) for line in lines if line["log_level"] == "warning"]
    return [(each.pop("event"), {key: value for key, value in each.items() if key != "log_level"}) for each in fields]


@pytest.fixture
def refusing(router, reported):
    """Has the router refuse a runner three times; before there is one."""
    router.attach_refusals += [UnauthenticatedError("the token is unknown, revoked or expired")] * 3


async def test_that_no_router_takes_it_is_reported_once_until_one_does(refusing, settings, served, router, reported):
    stream = await router.attached()
    await served.lifecycle.ready.wait()
    assert router.attach_refusals == []
    refused = ("not attached; retrying", {"router": settings.router, "detail": "router: UNAUTHENTICATED"})
    assert warnings(reported) == [refused]
    stream.close()
    await router.attached(2)
    async with asyncio.timeout(PATIENCE):
        while len(warnings(reported)) < 2:
            await asyncio.sleep(0)
    assert warnings(reported)[1][1]["detail"] == "router closed the stream"


@pytest.mark.parametrize("settings", [{"drain_seconds": 3600.0}], indirect=True)
async def test_a_runner_that_is_asked_to_stop_prints_nothing(served, router, reported):
    await router.attached()
    await served.stop()
    assert warnings(reported) == []


async def test_what_grpc_makes_up_for_a_failed_write_is_known_for_that():
    async def end_at_once(requests, _context):
        async for _ in requests:
            return

    server = grpc.aio.server()
    handler = grpc.stream_stream_rpc_method_handler(end_at_once)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", {"end": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        async with asyncio.timeout(PATIENCE):
            while (error := await failed_write(channel.stream_stream("/test/end")())) is None:
                pass
    await server.stop(None)
    assert attach_client.is_write_failure(error)
    assert not attach_client.is_write_failure(grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, (), (), "a defect"))


async def failed_write(call):
    """Write until the stream is over; return the error that it ends with, None when the end was read first."""

    async def write():
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            while True:
                await call.write(b"x" * 1000)

    writing = asyncio.create_task(write())
    try:
        await call.read()
    except grpc.aio.AioRpcError as error:
        return error
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        call.cancel()
    return None
