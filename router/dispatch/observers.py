"""Callers that wait for the end of an execution, and watchers of every change. All queues are bounded."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from flowhook.errors import ExhaustedError
from router.storage.interface import Ended, ExecutionRecord

MAX_WAITERS: Final = 10_000
MAX_WATCHERS: Final = 100
WATCH_QUEUE: Final = 1000
"""Changes that a slow watcher may lag behind before it misses some."""


class EndWaiters:
    """Callers that wait for executions to end."""

    def __init__(self) -> None:
        self._waiters: dict[int, list[asyncio.Future[Ended]]] = {}
        self._count = 0

    @contextmanager
    def wait(self, seq: int) -> Iterator[asyncio.Future[Ended]]:
        """Give a future of the execution's end, forgotten when the block is left.

        Raises:
            ExhaustedError: too many callers wait already (`TOO_MANY_WAITERS`).
        """
        if self._count >= MAX_WAITERS:
            raise ExhaustedError("too many callers wait for replies", reason="TOO_MANY_WAITERS")
        future: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(seq, []).append(future)
        self._count += 1
        try:
            yield future
        finally:
            self._count -= 1
            waiters = self._waiters.get(seq, [])
            if future in waiters:
                waiters.remove(future)
            if not waiters:
                self._waiters.pop(seq, None)

    def ended(self, end: Ended) -> None:
        """Tell those who wait for this execution."""
        for future in self._waiters.pop(end.seq, ()) if self._waiters else ():
            if not future.done():
                future.set_result(end)


class ExecutionChange(NamedTuple):
    """An execution after a change, and how many changes were missed just before it."""

    record: ExecutionRecord
    missed: int


class _Watcher:
    def __init__(self, flow_id: str) -> None:
        self.flow_id = flow_id
        self.queue: deque[ExecutionChange] = deque()
        self.missed = 0
        self.woken = asyncio.Event()

    def offer(self, record: ExecutionRecord) -> None:
        if self.flow_id and record.flow_id != self.flow_id:
            return
        if len(self.queue) >= WATCH_QUEUE:
            self.missed += 1
            return
        self.queue.append(ExecutionChange(record, self.missed))
        self.missed = 0
        self.woken.set()


class ExecutionWatchers:
    """Watchers of changes of executions; without any, a change costs one test of a set."""

    def __init__(self) -> None:
        self._watchers: set[_Watcher] = set()

    @property
    def any(self) -> bool:
        """Whether somebody watches."""
        return bool(self._watchers)

    def publish(self, records: Iterable[ExecutionRecord]) -> None:
        """Tell all watchers."""
        for record in records:
            for watcher in self._watchers:
                watcher.offer(record)

    async def watch(self, flow_id: str) -> AsyncGenerator[ExecutionChange, None]:
        """Yield changes from now on, of one flow or (empty) of all, until the iterator is closed.

        Raises:
            ExhaustedError: there are too many watchers (`TOO_MANY_WATCHERS`).
        """
        if len(self._watchers) >= MAX_WATCHERS:
            raise ExhaustedError("too many watchers", reason="TOO_MANY_WATCHERS", retry_after=10)
        watcher = _Watcher(flow_id)
        self._watchers.add(watcher)
        try:
            while True:
                await watcher.woken.wait()
                watcher.woken.clear()
                while watcher.queue:
                    yield watcher.queue.popleft()
        finally:
            self._watchers.discard(watcher)
