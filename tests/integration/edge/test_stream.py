"""A sender's connection as bytes, over a real pair of sockets."""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from types import SimpleNamespace

import pytest
import pytest_asyncio
from support.patience import until
from tornado.iostream import StreamClosedError

from edge.transport import ByteStream

MIB = 1024 * 1024


@pytest.fixture
def budget():
    return SimpleNamespace(received=0, max_received=MIB)


@pytest_asyncio.fixture
async def ends(budget):
    """The edge's end, and the sender's."""
    own, peer = socket.socketpair()
    own.setblocking(False)
    peer.setblocking(False)
    _, stream = await asyncio.get_running_loop().connect_accepted_socket(partial(ByteStream, budget), own)
    with peer:
        yield stream, peer
        stream.close()


async def sent(peer, data):
    await asyncio.get_running_loop().sock_sendall(peer, data)


async def test_what_comes_while_nobody_reads_is_read_later_in_order_and_counted_until_then(ends, budget):
    stream, peer = ends
    await sent(peer, b"abcdef")
    await until(lambda: budget.received == 6)
    assert await stream.read(4) == b"abcd"
    assert budget.received == 2
    assert await stream.read(100) == b"ef"
    assert budget.received == 0


async def test_no_more_is_read_at_a_time_than_was_asked_for(ends, budget):
    stream, peer = ends
    reading = asyncio.ensure_future(stream.read(4))
    await asyncio.sleep(0)
    await sent(peer, b"abcdef")
    assert await reading == b"abcd"
    assert budget.received == 2
    assert await stream.read(1) + await stream.read(1) == b"ef"


async def test_nothing_is_lost_and_nothing_piles_up_however_fast_the_sender_is(ends, budget):
    stream, peer = ends
    content = bytes(range(256)) * (32 * 1024)
    sending = asyncio.ensure_future(sent(peer, content))
    received = bytearray()
    while len(received) < len(content):
        received += await stream.read(64 * 1024)
        assert budget.received <= MIB // 2
    await sending
    assert received == content
    assert budget.received == 0


async def test_a_connection_for_whose_data_there_is_no_memory_ends_and_gives_back_what_it_had(ends, budget):
    stream, peer = ends
    budget.max_received = 3
    await sent(peer, b"abcdef")
    await until(stream.closed)
    assert budget.received == 0
    with pytest.raises(StreamClosedError):
        await stream.read(1)


async def test_what_comes_of_a_connection_that_was_ended_takes_no_memory(ends, budget):
    stream, _ = ends
    stream.close()
    stream.data_received(b"late")  # as asyncio's TLS does while it says goodbye
    assert budget.received == 0


async def test_what_comes_in_the_turn_in_which_its_reader_is_cancelled_is_not_lost(ends, budget):
    stream, peer = ends
    reading = asyncio.ensure_future(stream.read(4))
    await asyncio.sleep(0)
    stream.data_received(b"abc")
    stream.data_received(b"def")
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert budget.received == 6
    await sent(peer, b"ghi")
    assert await stream.read(100) == b"abcdef"
    assert await stream.read(100) == b"ghi"
    assert budget.received == 0


async def test_what_a_reader_leaves_of_a_connection_that_ended_in_the_same_turn_takes_no_memory(ends, budget):
    stream, _ = ends
    reading = asyncio.ensure_future(stream.read(4))
    await asyncio.sleep(0)
    stream.data_received(b"abcdef")
    stream.close()
    assert await reading == b"abcd"
    assert budget.received == 0


async def test_a_sender_that_ended_its_side_still_gets_what_is_written(ends):
    stream, peer = ends
    assert not stream.peer_has_ended()
    await sent(peer, b"last")
    peer.shutdown(socket.SHUT_WR)
    assert await stream.read(100) == b"last"
    with pytest.raises(StreamClosedError):
        await stream.read(100)
    assert stream.peer_has_ended()
    stream.write(b"answer")
    await stream.flush()
    assert await asyncio.get_running_loop().sock_recv(peer, 100) == b"answer"


async def test_flush_waits_until_the_sender_has_taken_everything(ends):
    stream, peer = ends
    content = b"x" * (8 * MIB)
    stream.write(content)
    assert stream.has_unsent()
    flushing = asyncio.ensure_future(stream.flush())
    loop, taken = asyncio.get_running_loop(), 0
    while taken < len(content):
        assert not flushing.done() or not stream.has_unsent()
        taken += len(await loop.sock_recv(peer, MIB))
    await flushing
    assert not stream.has_unsent()


async def test_whoever_waits_learns_that_the_connection_ended(ends):
    stream, _ = ends
    stream.write(b"x" * (8 * MIB))
    reading, flushing = asyncio.ensure_future(stream.read(1)), asyncio.ensure_future(stream.flush())
    await asyncio.sleep(0)
    stream.close()
    for waiting in (reading, flushing, stream.read(1), stream.flush()):
        with pytest.raises(StreamClosedError):
            await waiting
    with pytest.raises(StreamClosedError):
        stream.peer_has_ended()
    stream.write(b"into the void")
    stream.close()
