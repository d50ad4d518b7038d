"""Notifies callers that wait for an execution to reply, or to end without a reply."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from flowhook import limits
from flowhook.errors import ExhaustedError
from router.storage.model import Ended, Replied

MAX_WAITERS: Final = 10_000
MAX_WAITING_BYTES: Final = 256 * limits.MIB
"""Bytes of the requests of waiting callers, which stay in memory until they are answered."""

WaitResult = Replied | Ended
"""The result of a wait: a reply, or the end of an execution that gave none."""


class ReplyWaiter:
    """The registration of one waiting caller."""

    def __init__(self, waiters: dict[int, list[asyncio.Future[WaitResult]]]) -> None:
        self._waiters = waiters
        self._seq = 0
        self._future: asyncio.Future[WaitResult] | None = None

    def wait_for(self, seq: int) -> asyncio.Future[WaitResult]:
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
        self._waiters: dict[int, list[asyncio.Future[WaitResult]]] = {}
        self._count = 0

    @contextmanager
    def place(self, size: int = 0) -> Iterator[ReplyWaiter]:
        """Reserve capacity for a waiting caller, before any irreversible work; freed when the block is left.

        `size` is that of the caller's request, in bytes.

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

    def _answer(self, answer: WaitResult) -> None:
        for future in self._waiters.pop(answer.seq, ()) if self._waiters else ():
            if not future.done():
                future.set_result(answer)
