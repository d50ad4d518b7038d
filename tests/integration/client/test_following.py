"""A channel over several routers: calls go to the owner, and are not lost with it."""

from __future__ import annotations

import asyncio
import gc

import grpc
import pytest
from support.patience import PATIENCE, until
from support.shard_routers import shard_routers

from flowhook.client import channel
from flowhook.client.owner_watch import OwnerWatch
from flowhook.client.router_errors import TAKEOVER
from flowhook.errors import UnavailableError
from flowhook.wire import status


class Echo:
    """A service with a method of each kind, which answers what it gets once `gate` is set."""

    def __init__(self):
        self.gate = asyncio.Event()
        self.gate.set()

    async def unary(self, request, _context):
        await self.gate.wait()
        return request

    async def unary_stream(self, request, _context):
        yield b"first"
        await self.gate.wait()
        yield request

    async def stream_unary(self, requests, context):
        await context.send_initial_metadata((("admitted", "1"),))
        received = [request async for request in requests]
        await self.gate.wait()
        return b"".join(received)

    async def stream_stream(self, requests, _context):
        async for request in requests:
            await self.gate.wait()
            yield request

    def __call__(self, server):
        handlers = {
            "UnaryUnary": grpc.unary_unary_rpc_method_handler(self.unary),
            "UnaryStream": grpc.unary_stream_rpc_method_handler(self.unary_stream),
            "StreamUnary": grpc.stream_unary_rpc_method_handler(self.stream_unary),
            "StreamStream": grpc.stream_stream_rpc_method_handler(self.stream_stream),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))


@pytest.fixture
async def echo():
    return Echo()


@pytest.fixture
async def routers(echo):
    async with shard_routers(3, echo) as running:
        yield running


@pytest.fixture
async def connection(routers):
    async with channel.connect(routers.target, "fhk_t") as connected:
        yield connected


@pytest.fixture
def call(connection):
    """Start a unary call in a task; return it."""
    method = connection.unary_unary("/test.Echo/UnaryUnary")

    def start(*, wait_for_ready=True, timeout=PATIENCE):
        return asyncio.ensure_future(method(b"answer", timeout=timeout, wait_for_ready=wait_for_ready))

    return start


def reason(failed):
    return status.from_rpc_error(failed.value).reason


async def answer_to(call):
    """Call until there is an answer, as callers do while another router takes over."""
    while True:
        try:
            return await call()
        except grpc.aio.AioRpcError as failed:
            if status.from_rpc_error(failed).reason not in TAKEOVER:
                raise


async def until_unowned(call):
    """Call until the channel knows that nobody serves."""
    while True:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await call(timeout=0.05)
        if reason(failed) == "NO_SERVING_ROUTER":
            return


async def test_every_kind_of_call_goes_to_the_owner(routers, connection):
    routers.move(1, 1)
    assert await connection.unary_unary("/test.Echo/UnaryUnary")(b"a") == b"a"
    assert [item async for item in connection.unary_stream("/test.Echo/UnaryStream")(b"b")] == [b"first", b"b"]
    upload = connection.stream_unary("/test.Echo/StreamUnary")(None)
    assert dict(await upload.initial_metadata())["admitted"] == "1"
    await upload.write(b"c")
    await upload.write(b"d")
    assert not upload.done()
    await upload.done_writing()
    assert await upload == b"cd"
    assert upload.done()
    both = connection.stream_stream("/test.Echo/StreamStream")(None)
    await both.write(b"e")
    assert await both.read() == b"e"
    await both.done_writing()
    assert await both.read() is grpc.aio.EOF
    assert [router.calls for router in routers] == [
        [],
        ["UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream"],
        [],
    ]


async def test_a_method_that_was_made_once_follows_the_owner(routers, call):
    routers.move(0, 1)
    assert await call() == b"answer"
    routers.move(2, 2)
    await until(lambda: routers[2].watches)
    assert await answer_to(call) == b"answer"
    assert routers[2].calls == ["UnaryUnary"]
    assert routers[1].calls == []


async def test_a_call_that_hangs_on_a_paused_owner_ends_when_another_one_is_known(routers, echo, call):
    routers.move(0, 1)
    echo.gate.clear()
    hanging = call()
    await until(lambda: routers[0].calls)
    routers[0].pause()
    routers.move(1, 2)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await hanging
    assert (failed.value.code(), reason(failed)) == (grpc.StatusCode.UNAVAILABLE, "ROUTER_REPLACED")
    echo.gate.set()
    assert await call() == b"answer"
    assert routers[1].calls == ["UnaryUnary"]


@pytest.mark.parametrize("kind", ["unary_stream", "stream_unary", "stream_stream"])
async def test_so_does_a_stream(routers, echo, connection, kind):
    routers.move(0, 1)
    echo.gate.clear()
    name = {"unary_stream": "UnaryStream", "stream_unary": "StreamUnary", "stream_stream": "StreamStream"}[kind]
    stream = getattr(connection, kind)(f"/test.Echo/{name}")(b"" if kind == "unary_stream" else None)
    ended = asyncio.Event()
    stream.add_done_callback(lambda _call: ended.set())
    if kind == "unary_stream":
        assert await stream.read() == b"first"
        hanging = asyncio.ensure_future(stream.read())
    elif kind == "stream_unary":
        await stream.write(b"piece")
        await stream.done_writing()
        hanging = asyncio.ensure_future(stream)
    else:
        await stream.write(b"piece")
        hanging = asyncio.ensure_future(stream.read())
    await until(lambda: routers[0].calls)
    routers[0].pause()
    routers.move(1, 2)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await hanging
    assert reason(failed) == "ROUTER_REPLACED"
    await asyncio.wait_for(ended.wait(), PATIENCE)
    assert stream.done()


async def test_a_call_that_its_caller_gives_up_is_cancelled_and_nothing_else(routers, echo, call):
    routers.move(0, 1)
    echo.gate.clear()
    given_up = call()
    await until(lambda: routers[0].calls)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up


async def test_calls_in_progress_outlast_a_handover_until_the_next_owner_is_known(routers, echo, call):
    routers.move(0, 1)
    echo.gate.clear()
    begun = call()
    await until(lambda: routers[0].calls)
    routers.move(0, 1, serving=False)
    await until_unowned(call)
    later = call()
    echo.gate.set()
    assert await begun == b"answer"
    assert not later.done()
    routers.move(1, 2, serving=False)
    routers.move(1, 2)
    assert await later == b"answer"
    assert routers[1].calls == ["UnaryUnary"]


async def test_calls_wait_while_nobody_owns_the_shard(routers, call):
    waiting = [call() for _ in range(3)]
    await until(lambda: all(router.watches for router in routers))
    routers.move(1, 1, serving=False)
    assert not any(each.done() for each in waiting)
    routers.move(2, 2)
    assert await asyncio.gather(*waiting) == [b"answer"] * 3


async def test_a_stream_that_waits_for_an_owner_can_be_cancelled(routers, connection):
    stream = connection.stream_stream("/test.Echo/StreamStream")(None, wait_for_ready=True)
    reading = asyncio.ensure_future(stream.read())
    await until(lambda: all(router.watches for router in routers))
    assert stream.cancel()
    routers.move(0, 1)
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert stream.done()


async def test_a_writer_that_waits_for_a_connection_to_an_owner_that_died_ends_when_another_is_known(
    routers, connection, call
):
    routers.move(0, 1)
    assert await call() == b"answer"
    await routers[0].kill()
    stream = connection.stream_stream("/test.Echo/StreamStream")(None, wait_for_ready=True)
    writing = asyncio.ensure_future(stream.write(b"piece"))
    routers.move(1, 2)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await writing
    assert reason(failed) == "ROUTER_REPLACED"


async def test_a_call_whose_timeout_is_over_before_there_is_an_owner_says_what_the_routers_say(routers, call):
    await routers[1].kill()
    known, dead, _ = (router.address for router in routers)
    async with asyncio.timeout(PATIENCE):
        while True:
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await call(timeout=0.3)
            assert reason(failed) == "NO_SERVING_ROUTER"
            if f"can't reach {dead}" in failed.value.details():  # it may not be known so soon
                break
    assert f"{known} knows no owner that serves" in failed.value.details()


async def test_a_call_that_is_not_to_wait_fails_soon(routers, call):
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call(wait_for_ready=False)
    assert reason(failed) == "NO_SERVING_ROUTER"


async def test_one_live_router_of_three_suffices(routers, call):
    routers.move(2, 5)
    await routers[0].kill()
    routers[1].pause()
    assert await call() == b"answer"


async def test_a_killed_owner_is_waited_for_until_the_next_one_is_known(routers, echo, call):
    routers.move(0, 1)
    echo.gate.clear()
    broken = call()
    await until(lambda: routers[0].calls)
    await routers[0].kill()
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await broken
    assert reason(failed) == "ROUTER_LOST"
    echo.gate.set()
    waiting = asyncio.ensure_future(answer_to(call))
    routers.move(1, 2)
    assert await waiting == b"answer"


async def test_a_paused_owner_that_comes_back_does_not_win_over_the_next_one(routers, call):
    routers.move(0, 1)
    assert await call() == b"answer"
    routers[0].pause()
    routers[1].report(2, routers[1].address)
    routers[1].owns = True
    routers[2].report(1, routers[0].address)
    assert await answer_to(call) == b"answer"
    routers[0].resume()
    for _ in range(20):
        assert await call() == b"answer"
    assert routers[1].calls == ["UnaryUnary"] * 21


async def test_the_owner_may_be_a_router_that_the_setting_does_not_name(routers, echo):
    async with channel.connect(f"{routers[0].address},{routers[1].address}", "fhk_t") as connection:
        method = connection.unary_unary("/test.Echo/UnaryUnary")
        routers.move(2, 1)
        assert await method(b"a", timeout=PATIENCE, wait_for_ready=True) == b"a"
        assert (routers[2].calls, routers[2].watches) == (["UnaryUnary"], 0)
        routers.move(0, 2)
        gc.collect()  # gRPC 1.83 ends the connection of a closed channel when the channel is collected, not before
        await until(lambda: routers[2].connections == 0)
        assert await method(b"b", timeout=PATIENCE, wait_for_ready=True) == b"b"


async def test_a_refused_token_is_an_error_at_once(routers, call):
    for router in routers:
        router.refuses_tokens = True
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call()
    assert failed.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_watch_that_is_silent_is_begun_anew(routers):
    watch = OwnerWatch([routers[0].address], lambda address: channel.connect(address, "fhk_t"), silence_seconds=0.01)
    routers.move(0, 1)
    owner = await watch.owner(PATIENCE)
    await until(lambda: routers[0].watches > 3)
    assert await watch.owner(PATIENCE) is owner
    await watch.close(None)


async def test_a_channel_that_was_closed_starts_no_calls(routers, call, connection):
    waiting = call()
    await until(lambda: routers[0].watches)
    await connection.close()
    for each in (waiting, call()):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await each
        assert isinstance(status.from_rpc_error(failed.value), UnavailableError)
