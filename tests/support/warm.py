"""Processes that are kept from one test to the next, since starting them takes most of the time of many tests.

They are the product's own. What a fork server forks is new for each test; a process for `offload` is handed on when it
has nothing to do, as it is within one router.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections import defaultdict
from functools import cache

from flowhook.sandbox.forking import supports_fork_server
from flowhook.sandbox.worker import WALL_SECONDS, OffloadWorker
from runner.guard.process_starter import ForkServerStarter, InterpreterStarter

FORK_SERVERS = {}
"""By what they pass on of the environment."""

WORKERS = defaultdict(list)
"""Idle processes, with our ends of their sockets, by their limits."""


class _Loop:
    """An event loop in a thread, which outlives those of tests."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, name="kept fork servers", daemon=True).start()

    async def run(self, coroutine):
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self.loop))


@cache
def _kept_loop():
    return _Loop()


class _Child:
    """A process that a fork server forked, for the loop of a test."""

    def __init__(self, forked, loop):
        self._forked = forked
        self._loop = loop
        self.pid = forked.pid

    @property
    def returncode(self):
        return self._forked.returncode

    def kill(self):
        self._forked.kill()

    async def wait(self):
        return await self._loop.run(self._forked.wait())


class KeptForkServer:
    """A `Starter` whose fork server is there already, but for the first one that needs it."""

    def __init__(self):
        self._children = []

    async def start(self, control_fd, record_fd):
        environment = (os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
        if environment not in FORK_SERVERS:
            FORK_SERVERS[environment] = ForkServerStarter()
        loop = _kept_loop()
        child = _Child(await loop.run(FORK_SERVERS[environment].start(control_fd, record_fd)), loop)
        self._children.append(child)
        return child

    async def close(self):
        for child in self._children:
            child.kill()
            await child.wait()


def new_starter():
    """Return what `runner.guard.process_starter.new_starter` does, but kept."""
    return KeptForkServer() if supports_fork_server() else InterpreterStarter()


class KeptWorker(OffloadWorker):
    """An `OffloadWorker` that is kept, instead of being ended, while it is idle."""

    @classmethod
    async def start(cls, limits, *, wall_seconds=WALL_SECONDS, **options):
        while WORKERS[limits]:
            process, ours = WORKERS[limits].pop()
            if process.returncode is None:
                ours.setblocking(False)
                reader, writer = await asyncio.open_connection(sock=ours)
                return cls(process, reader, writer, limits, wall_seconds)
            ours.close()
        return await super().start(limits, wall_seconds=wall_seconds, **options)

    async def close(self):
        if not self.is_alive:
            await super().close()
            return
        descriptor = os.dup(self._writer.get_extra_info("socket").fileno())
        self._writer.close()
        WORKERS[self._limits].append((self._process, socket.socket(fileno=descriptor)))


def end():
    """End what is kept, with the last test."""
    for server in FORK_SERVERS.values():
        asyncio.run_coroutine_threadsafe(server.close(), _kept_loop().loop).result()
    for process, ours in (each for idle in WORKERS.values() for each in idle):
        process.kill()
        asyncio.run(process.wait())
        ours.close()
