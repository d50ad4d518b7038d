"""Publishes changes of executions to watchers. All queues are bounded."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Final, NamedTuple

import attrs

from flowhook.errors import FlowhookError
from flowhook.process import logs
from flowhook.sharing import Limit, SharedLimit, current_principal
from router.storage.limits import DEFAULT_PAGE
from router.storage.model import ExecutionRecord

WATCH_QUEUE: Final = 1000
"""Changes queued for one watcher; further ones are dropped, and counted as missed."""

MAX_CHANGED: Final = 10_000
"""Changed executions that are queued to be read for the watchers."""

log = logs.get_logger(__name__)


class WatchedChange(NamedTuple):
    """An execution after a change, and the number of changes that were dropped just before it."""

    record: ExecutionRecord
    missed: int


@attrs.define(eq=False, repr=False)
class ExecutionWatcher:
    """One watcher of changes of executions, of one flow or (empty) of all flows."""

    _flow_id: str
    _queue: deque[WatchedChange] = attrs.field(init=False, factory=deque)
    _missed: int = attrs.field(init=False, default=0)
    _woken: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)

    async def next(self) -> WatchedChange:
        """Wait for the next change."""
        while not self._queue:
            self._woken.clear()
            await self._woken.wait()
        return self._queue.popleft()

    def offer(self, record: ExecutionRecord) -> None:
        """Queue a change, or count it as missed when the queue is full."""
        if self._flow_id and record.flow_id != self._flow_id:
            return
        if len(self._queue) >= WATCH_QUEUE:
            self._missed += 1
            return
        self._queue.append(WatchedChange(record, self._missed))
        self._missed = 0
        self._woken.set()

    def miss(self, changes: int) -> None:
        """Count changes that could not be read."""
        self._missed += changes


class ExecutionWatchers:
    """Publishes changes of executions to watchers; without any watcher, a change costs one test of a set.

    One task reads the changed executions in order: no watcher sees an earlier state after a later one. Changes of an
    execution that follow each other faster than they can be read are merged.
    """

    def __init__(self, read: Callable[[list[int]], Awaitable[Mapping[int, ExecutionRecord]]], limit: Limit) -> None:
        """Publish changes; `read` returns executions by sequence number, in their current state."""
        self._read = read
        self._limit = SharedLimit(limit)
        self._watchers: set[ExecutionWatcher] = set()
        self._changed: dict[int, None] = {}
        self._woken = asyncio.Event()

    def changed(self, seqs: Iterable[int]) -> None:
        """Queue changed executions for all watchers."""
        if not self._watchers:
            return
        for seq in seqs:
            if len(self._changed) < MAX_CHANGED or seq in self._changed:
                self._changed[seq] = None
            else:
                self._miss(1)
        self._woken.set()

    @contextmanager
    def watch(self, flow_id: str) -> Iterator[ExecutionWatcher]:
        """Register a watcher until the block is left: it receives each change from now on, or counts it as missed.

        Raises:
            ExhaustedError: the caller has its share of watchers (`TOO_MANY_WATCHERS`).
            UnavailableError: there is no room for more (`WATCHERS_FULL`).
        """
        with self._limit.acquire(current_principal.get()):
            watcher = ExecutionWatcher(flow_id)
            self._watchers.add(watcher)
            try:
                yield watcher
            finally:
                self._watchers.discard(watcher)

    async def run(self) -> None:
        """Publish changes until cancelled."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            while self._changed:
                seqs = list(islice(self._changed, DEFAULT_PAGE))
                for seq in seqs:
                    del self._changed[seq]
                if self._watchers:
                    await self._publish(seqs)

    async def _publish(self, seqs: list[int]) -> None:
        try:
            records = await self._read(seqs)
        except FlowhookError as error:
            log.debug("changes can't be read", reason=error.reason)
            self._miss(len(seqs))
            return
        for seq in seqs:
            if seq in records:
                for watcher in self._watchers:
                    watcher.offer(records[seq])

    def _miss(self, changes: int) -> None:
        for watcher in self._watchers:
            watcher.miss(changes)
