"""Notifies callers that wait for an execution's reply or end, and watchers of changes. All queues are bounded."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Final, NamedTuple

from flowhook import limits, logs
from flowhook.errors import ExhaustedError, FlowhookError
from router.storage.interface import DEFAULT_PAGE
from router.storage.model import Ended, ExecutionRecord, Replied

MAX_WAITERS: Final = 10_000
MAX_WAITING_BYTES: Final = 256 * limits.MIB
"""Bytes of the requests of waiting callers, which stay in memory until they are answered."""
MAX_WATCHERS: Final = 100
WATCH_QUEUE: Final = 1000
"""Changes queued for one watcher; further ones are dropped, and counted as missed."""

MAX_CHANGED: Final = 10_000
"""Changed executions that are queued to be read for the watchers."""

log = logs.get_logger(__name__)


Answer = Replied | Ended
"""The result of a wait: a reply, or the end of an execution that gave none."""


class ReplyWaiter:
    """The registration of one waiting caller."""

    def __init__(self, waiters: dict[int, list[asyncio.Future[Answer]]]) -> None:
        self._waiters = waiters
        self._seq = 0
        self._future: asyncio.Future[Answer] | None = None

    def wait_for(self, seq: int) -> asyncio.Future[Answer]:
        """Return a future of an execution's next reply, or its end. Call it once; an earlier reply is not seen."""
        self._seq, self._future = seq, asyncio.get_running_loop().create_future()
        self._waiters.setdefault(seq, []).append(self._future)
        return self._future

    def leave(self) -> None:
        """Unregister."""
        waiting = self._waiters.get(self._seq, [])
        if self._future in waiting:
            waiting.remove(self._future)
            if not waiting:
                del self._waiters[self._seq]


class ReplyWaiters:
    """Callers that wait for executions to reply, or to end without a reply."""

    def __init__(self, limit: int = MAX_WAITERS, max_bytes: int = MAX_WAITING_BYTES) -> None:
        self._limit = limit
        self._max_bytes = max_bytes
        self._bytes = 0
        self._waiters: dict[int, list[asyncio.Future[Answer]]] = {}
        self._count = 0

    @contextmanager
    def place(self, size: int = 0) -> Iterator[ReplyWaiter]:
        """Reserve capacity for a waiting caller, before any irreversible work; freed when the block is left.

        Args:
            size: bytes of the caller's request.

        Raises:
            ExhaustedError: too many callers wait already, or their requests are too large (`TOO_MANY_WAITERS`).
        """
        if self._count >= self._limit or self._bytes + size > self._max_bytes:
            raise ExhaustedError("too many callers wait for replies", reason="TOO_MANY_WAITERS")
        waiter = ReplyWaiter(self._waiters)
        self._count += 1
        self._bytes += size
        try:
            yield waiter
        finally:
            self._count -= 1
            self._bytes -= size
            waiter.leave()

    def ended(self, end: Ended) -> None:
        """Notify callers that wait for this execution."""
        self._answer(end)

    def replied(self, reply: Replied) -> None:
        """Pass a reply, which must be durable, to callers that wait for its execution."""
        self._answer(reply)

    def _answer(self, answer: Answer) -> None:
        for future in self._waiters.pop(answer.seq, ()) if self._waiters else ():
            if not future.done():
                future.set_result(answer)


class EndFeed:
    """Passes the ends of certain executions to readers, which take them when they are ready."""

    def __init__(self) -> None:
        self._readers: list[EndReader] = []

    def reader(self, changed: asyncio.Event) -> EndReader:
        """Add a reader; `changed` is set when there are ends for it to take."""
        reader = EndReader(changed)
        self._readers.append(reader)
        return reader

    def publish(self, ends: Sequence[Ended]) -> None:
        """Pass on ends that are durable."""
        for reader in self._readers if ends else ():
            reader.put(ends)


class EndReader:
    """The ends of the executions that one reader awaits."""

    def __init__(self, changed: asyncio.Event) -> None:
        self._changed = changed
        self._awaited: set[int] = set()
        self._ended: list[Ended] = []

    def await_end(self, seq: int) -> None:
        """Await the end of an execution that is not yet durable."""
        self._awaited.add(seq)

    def forget(self, seq: int) -> None:
        """Await the end of an execution no more."""
        self._awaited.discard(seq)

    def put(self, ends: Sequence[Ended]) -> None:
        """Add ends, if they are awaited."""
        found = [end for end in ends if end.seq in self._awaited] if self._awaited else ()
        if found:
            self._awaited.difference_update(end.seq for end in found)
            self._ended += found
            self._changed.set()

    def take(self) -> list[Ended]:
        """Return the awaited ends since the last call."""
        ended, self._ended = self._ended, []
        return ended


class WatchedChange(NamedTuple):
    """An execution after a change, and the number of changes that were dropped just before it."""

    record: ExecutionRecord
    missed: int


class ExecutionWatcher:
    """One watcher of changes of executions, of one flow or (empty) of all flows."""

    def __init__(self, flow_id: str) -> None:
        self._flow_id = flow_id
        self._queue: deque[WatchedChange] = deque()
        self._missed = 0
        self._woken = asyncio.Event()

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

    def __init__(self, read: Callable[[list[int]], Awaitable[Mapping[int, ExecutionRecord]]]) -> None:
        """Publish changes; `read` returns executions by sequence number, in their current state."""
        self._read = read
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
            ExhaustedError: there are too many watchers (`TOO_MANY_WATCHERS`).
        """
        if len(self._watchers) >= MAX_WATCHERS:
            raise ExhaustedError("too many watchers", reason="TOO_MANY_WATCHERS", retry_after=10)
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
