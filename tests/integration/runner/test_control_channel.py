"""The control channel between a runner's parent and its child."""

import asyncio
import contextlib
import socket

from support.patience import PATIENCE

from runner import ipc

ENTRY = b"x" * 16_000
BUFFER_BYTES = 4096


async def test_flush_waits_until_the_kernel_has_all():
    """A child exits after its last message, and what its process still buffers then is lost."""
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    theirs.setblocking(False)
    received = bytearray()

    def read():
        with contextlib.suppress(BlockingIOError):
            while chunk := theirs.recv(BUFFER_BYTES):
                received.extend(chunk)

    child = await ipc.ControlChannel.open(ours)
    for _ in range(2):
        child.send(ipc.TaskTraced(ENTRY))
    child.send(ipc.RunEnded(b"{}", None))
    flushed = asyncio.create_task(child.flush())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not flushed.done()
    async with asyncio.timeout(PATIENCE):
        while not flushed.done():
            read()
            await asyncio.sleep(0)
    read()
    assert received.count(b"\n") == 3
    child.close()
    theirs.close()
