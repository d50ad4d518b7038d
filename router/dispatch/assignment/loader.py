"""Loads assignments from storage that are not in the memory cache: in chunks, with one task for each runner.

So no runner's work waits for another's, for a runner that is slow to receive, or for an execution that can't be read;
and the amount that was read and is not sent yet is bounded. When a runner detaches, the assignments it has not received
are released, uncharged.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

import attrs

from flowhook import limits
from flowhook.attach.messages import Assignment
from flowhook.errors import FlowhookError, UnavailableError
from flowhook.process import logs
from router.dispatch.effects import ASSIGN_READY, EffectQueue
from router.dispatch.persistence.retrying_writer import RetryingWriter
from router.dispatch.runner_port import RunnerPort
from router.dispatch.transitions import TransitionWriter
from router.scheduling.changes import LeaseGranted
from router.scheduling.shard import Shard
from router.storage.interface import ShardState
from router.storage.model import Started, Work

CHUNK: Final = 128
"""Most executions in one read."""

MAX_QUEUED: Final = 2 * CHUNK
"""Executions queued for one runner beyond which it is assigned no more: another runner may take them sooner."""

RETRY_DELAY: Final = 0.5
"""Seconds between tries to read while storage is unavailable."""

MAX_ASSIGNMENT_BYTES: Final = limits.MAX_MESSAGE_BYTES - limits.MIB
"""Largest event with its journal, in bytes; a larger one does not fit into a message."""

log = logs.get_logger(__name__)


@attrs.define(eq=False, repr=False, kw_only=True)
class AssignmentLoader:
    """Loads assignments; runs one task for each runner with assignments to load."""

    _core: Shard
    _state: ShardState
    _writer: RetryingWriter
    _transitions: TransitionWriter
    _effects: EffectQueue
    _queued: dict[RunnerPort, deque[LeaseGranted]] = attrs.field(init=False, factory=dict)

    def full(self, runner: RunnerPort) -> bool:
        """Whether so much is queued for a runner that it should be assigned no more for now."""
        return len(self._queued.get(runner, ())) >= MAX_QUEUED

    def add(self, runner: RunnerPort, assigned: Sequence[LeaseGranted]) -> None:
        """Queue assignments for a runner; they are sent when they have been read."""
        queued = self._queued.get(runner)
        if queued is None:
            self._queued[runner] = deque(assigned)
            self._writer.spawn(self._load(runner, self._queued[runner]))
        else:
            queued.extend(assigned)

    def leave(self, runner: RunnerPort) -> None:
        """Release the assignments that a runner has not received: its stream ended, or is about to."""
        queued = self._queued.pop(runner, ())
        self._transitions.lose(
            [loss for item in queued if (loss := self._core.losses.release(item.token, charged=False)) is not None]
        )

    def leave_all(self) -> None:
        """Release the assignments that runners have not received."""
        for runner in list(self._queued):
            self.leave(runner)

    async def _load(self, runner: RunnerPort, queued: deque[LeaseGranted]) -> None:
        """Read and send the assignments queued for a runner, until there are none or the runner has left."""
        alone = 0
        while queued:
            await runner.room()
            chunk = [queued[position] for position in range(1 if alone else min(CHUNK, len(queued)))]
            alone = max(0, alone - 1)
            try:
                found = await self._read(chunk)
            except FlowhookError as error:
                log.warning("work can't be read", reason=error.reason, executions=len(chunk))
                if isinstance(error, UnavailableError):
                    await asyncio.sleep(RETRY_DELAY)
                if self._queued.get(runner) is not queued:
                    return
                if len(chunk) > 1:
                    alone = len(chunk)  # read one at a time, to find the one that can't be read
                elif isinstance(error, UnavailableError):
                    queued.rotate(-1)
                else:
                    self._transitions.fault(queued.popleft(), "what is stored of it can't be read")
                continue
            if self._queued.get(runner) is not queued:
                return
            self._send(runner, queued, [queued.popleft() for _ in chunk], found)
            self._effects.add(ASSIGN_READY)
        if self._queued.get(runner) is queued:
            del self._queued[runner]

    async def _read(self, chunk: Iterable[LeaseGranted]) -> dict[int, Work]:
        good = [item for item in chunk if self._core.leases.seq_of(item.token) is not None]
        # an execution found at the start may have crashed the router: an attempt at it is stored before it begins, so
        # that it counts whatever happens, and no runner resumes an attempt from before it
        begun = [
            Started(item.seq, item.attempt, self._core.leases.term_of(item.seq))
            for item in good
            if self._core.leases.is_recovered(item.seq)
        ]
        if begun:
            await self._writer.write_once(begun)
        return await self._state.work([item.seq for item in good]) if good else {}

    def _send(
        self, runner: RunnerPort, queued: deque[LeaseGranted], chunk: Sequence[LeaseGranted], found: dict[int, Work]
    ) -> None:
        assignments: list[Assignment] = []
        unread: list[LeaseGranted] = []
        for item in chunk:
            work = found.get(item.seq)
            if self._core.leases.seq_of(item.token) is None:
                self._core.runners.return_credit(runner.runner_id)  # cancelled meanwhile, and never sent
            elif work is None:
                unread.append(item)
            elif _size(work) > MAX_ASSIGNMENT_BYTES:
                self._transitions.fault(item, "its event and its journal together are larger than a message may be")
            else:
                _, revision, payload, journal, start, scope = work
                assignments.append(Assignment(item.token, item.attempt, revision, payload, journal, start, scope))
        if assignments:
            runner.assign(assignments, urgent=any(self._core.leases.is_quiet(each.lease) for each in assignments))
        if found:
            queued.extendleft(reversed(unread))  # storage bounds the bytes of one read: read the rest next
        else:
            for item in unread:
                self._transitions.fault(item, "its event is missing from storage")


def _size(work: Work) -> int:
    journal = sum(128 + len(entry.key) + len(entry.output or b"") for entry in work.journal)
    return len(work.payload) + journal
