"""Reads from storage what runners need of executions that are not fresh: a little at a time, and each runner's apart.

So no runner's work waits for another's, for a runner that is slow to take what it was given, or for one execution that
can't be read; and what was read and is not sent yet is bounded. What a runner that goes away was yet to get is given
back, uncharged.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, Final

from flowhook import limits, logs
from flowhook.errors import FlowhookError, UnavailableError
from router.dispatch.link import Delivery, RunnerLink
from router.scheduling.changes import Assigned, Loss
from router.scheduling.shard import Shard
from router.storage.interface import ShardState
from router.storage.model import Started, StateChange, Work

CHUNK: Final = 128
"""Executions that are read at a time."""

MAX_WAITING: Final = 2 * CHUNK
"""Executions that wait to be read for one runner before it is assigned no more: they may do better elsewhere."""

RETRY_DELAY: Final = 0.5
"""Seconds between tries to read, while storage is away."""

MAX_ASSIGNMENT_BYTES: Final = limits.MAX_MESSAGE_BYTES - limits.MIB
"""An event with its journal that has more fits into no message."""

log = logs.get_logger(__name__)


class Loader:
    """See the module. One task for each runner that has something to load."""

    def __init__(
        self,
        *,
        core: Shard,
        state: ShardState,
        write: Callable[[Sequence[StateChange]], Awaitable[None]],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        wake: Callable[[], None],
        lost: Callable[[Sequence[Loss]], None],
        fault: Callable[[Assigned, str], None],
    ) -> None:
        """Load from `state`.

        Args:
            core: tells which leases are still good.
            state: where to read.
            write: stores changes, if storage can serve.
            spawn: runs a coroutine beside the caller.
            wake: is called when a runner that was `full` may not be so any more.
            lost: is told of leases that were given back.
            fault: ends an execution that no runner can ever get, for a reason.
        """
        self._core = core
        self._state = state
        self._write = write
        self._spawn = spawn
        self._wake = wake
        self._lost = lost
        self._fault = fault
        self._waiting: dict[RunnerLink, deque[Assigned]] = {}
        self.recovered_up_to = 0
        """Sequence number up to which executions were here when the router started. One of them may be why it had
        to: an attempt at such a one is written down before it begins, so that it counts whatever it does, and no runner
        goes on with one before it."""

    def full(self, link: RunnerLink) -> bool:
        """Whether a runner has so much to load that it should be assigned no more for now."""
        return len(self._waiting.get(link, ())) >= MAX_WAITING

    def add(self, link: RunnerLink, assigned: Sequence[Assigned]) -> None:
        """Have a runner get what it was assigned as soon as that is read."""
        waiting = self._waiting.get(link)
        if waiting is None:
            self._waiting[link] = deque(assigned)
            self._spawn(self._load(link, self._waiting[link]))
        else:
            waiting.extend(assigned)

    def leave(self, link: RunnerLink) -> None:
        """Give back what a runner was yet to get: its stream ended, or is about to."""
        waiting = self._waiting.pop(link, ())
        self._lost([loss for item in waiting if (loss := self._core.release(item.token, charged=False)) is not None])

    def leave_all(self) -> None:
        """Give back what all runners were yet to get."""
        for link in list(self._waiting):
            self.leave(link)

    async def _load(self, link: RunnerLink, waiting: deque[Assigned]) -> None:
        """Hand over what waits for a runner, until nothing does or the runner left."""
        alone = 0
        while waiting:
            await link.room()
            chunk = [waiting[position] for position in range(1 if alone else min(CHUNK, len(waiting)))]
            alone = max(0, alone - 1)
            try:
                found = await self._read(chunk)
            except FlowhookError as error:
                log.warning("work can't be read", reason=error.reason, executions=len(chunk))
                if isinstance(error, UnavailableError):
                    await asyncio.sleep(RETRY_DELAY)
                if self._waiting.get(link) is not waiting:
                    return
                if len(chunk) > 1:
                    alone = len(chunk)  # to find out which of them it is
                elif isinstance(error, UnavailableError):
                    waiting.rotate(-1)
                else:
                    self._fault(waiting.popleft(), "what is stored of it can't be read")
                continue
            if self._waiting.get(link) is not waiting:
                return
            self._hand_over(link, waiting, [waiting.popleft() for _ in chunk], found)
            self._wake()
        if self._waiting.get(link) is waiting:
            del self._waiting[link]

    async def _read(self, chunk: Iterable[Assigned]) -> dict[int, Work]:
        good = [item for item in chunk if self._core.lease_of(item.token) is not None]
        begun = [
            Started(item.seq, item.attempt, self._core.term_of(item.seq))
            for item in good
            if item.seq <= self.recovered_up_to
        ]
        if begun:
            await self._write(begun)
        return await self._state.work([item.seq for item in good]) if good else {}

    def _hand_over(
        self, link: RunnerLink, waiting: deque[Assigned], chunk: Sequence[Assigned], found: dict[int, Work]
    ) -> None:
        deliveries: list[Delivery] = []
        unread: list[Assigned] = []
        for item in chunk:
            work = found.get(item.seq)
            if self._core.lease_of(item.token) is None:
                self._core.refund(link.runner_id)  # cancelled meanwhile: the runner never hears of it
            elif work is None:
                unread.append(item)
            elif _size(work) > MAX_ASSIGNMENT_BYTES:
                self._fault(item, "its event and its journal together are larger than a message may be")
            else:
                _, revision, payload, journal, start, scope = work
                deliveries.append(Delivery(item.token, item.attempt, revision, payload, journal, start, scope))
        if deliveries:
            link.assign(deliveries, urgent=any(self._core.is_quiet(delivery.token) for delivery in deliveries))
        if found:
            waiting.extendleft(reversed(unread))  # large ones come a few at a time
        else:
            for item in unread:
                self._fault(item, "its event is missing from storage")


def _size(work: Work) -> int:
    journal = sum(128 + len(entry.key) + len(entry.output or b"") for entry in work.journal)
    return len(work.payload) + journal
