"""Delivers the ends of executions to the executions that wait for them.

The outcome is appended to the journal of the waiting execution in the same write that stores the end. An execution that
begins to wait after the end receives the stored outcome. No end is missed in between: a waiting execution is registered
first, and only then is storage checked for an end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from flowhook.model import JournalEntry, Status, Subscription, WorkflowError
from router.dispatch.conclusions import Conclusion, Consequences, runtime_error
from router.dispatch.deliveries import Deliveries, Taken
from router.dispatch.durable import Durable
from router.dispatch.offers import Offers
from router.scheduling.kept import KeptArrivals
from router.scheduling.shard import Shard
from router.scheduling.subscriptions import Receiver, Subscriptions, Wait
from router.storage.interface import DEFAULT_PAGE, ShardState
from router.storage.model import Consumed, Delivered, Ended, ExecutionRecord


class Awaiting(NamedTuple):
    """One wait of an execution for the end of another, and the key of the journal entry for the outcome."""

    seq: int
    wait: Wait
    key: str
    execution_id: str


class Outcome(NamedTuple):
    """Outcome of an execution, for one that waits for its end; exactly one of the two is set."""

    output: bytes | None
    error: WorkflowError | None


def awaiting(seq: int, wait: Wait, subscriptions: Sequence[Subscription]) -> list[Awaiting]:
    """Return the ends that an execution waits for, from its subscriptions."""
    return [Awaiting(seq, wait, each.key, each.execution_id) for each in subscriptions if each.execution_id]


class AwaitedEnds:
    """Registers waits for ends, and delivers ends to the executions that wait for them."""

    def __init__(
        self,
        *,
        core: Shard,
        state: ShardState,
        durable: Durable,
        subscriptions: Subscriptions,
        kept: KeptArrivals,
        deliveries: Deliveries,
        offers: Offers,
        conclude: Callable[[Conclusion], Awaitable[None]],
    ) -> None:
        self._core = core
        self._state = state
        self._durable = durable
        self._subscriptions = subscriptions
        self._kept = kept
        self._deliveries = deliveries
        self._offers = offers
        self._conclude = conclude

    @property
    def matter(self) -> bool:
        """Whether an execution waits for an end, or an event is buffered for a certain execution."""
        return bool(self._subscriptions.ends_awaited or self._kept.addressed)

    async def consequences(self, ends: Sequence[Ended]) -> Consequences:
        """Unpark executions that wait for those that are ending, and drop events buffered for the latter.

        Returns:
            The changes to store with the ends; its `ends` include those of waiting executions whose journal is full.
        """
        result = Consequences([], [], list(ends))
        for end in result.ends:  # the list grows during the loop
            result.consumed.extend(Consumed(number) for number in self._kept.ended(end.seq))
            taken = self._deliveries.take(self._subscriptions.awaiting(end.seq))
            if taken:
                fitting = await self._deliveries.fitting(taken)
                outcome = _outcome(end.status, end.output, end.error)
                result.delivered.extend(_told(each, outcome) for each in fitting.taken)
                result.ends.extend(fitting.ends)
        return result

    def told(self, ends: Sequence[Ended]) -> None:
        """Offer ends that are now durable to the executions that wait for them while they run."""
        for end in ends:
            for receiver in self._subscriptions.awaiting(end.seq):
                self._offer(receiver, _outcome(end.status, end.output, end.error))

    def _offer(self, receiver: Receiver, outcome: Outcome) -> None:
        # a declined offer needs no retry: the execution finds the end in storage when it waits again
        offer = self._offers.offer(receiver, 0, lambda: None)
        if offer is not None:
            self._offers.hand_over(offer, *outcome)

    async def expect(self, waits: Sequence[Awaiting]) -> None:
        """Register waits for ends; an end that is stored already is delivered at once."""
        remaining = iter(waits)
        while portion := list(islice(remaining, DEFAULT_PAGE)):
            await self._expect(portion)

    async def _expect(self, waits: Sequence[Awaiting]) -> None:
        records = await self._identify(waits)
        for seq, _, key, execution_id in self._current(waits):
            record = records.get(execution_id)
            if record is not None and not record.status.ended:
                self._subscriptions.expect_end(seq, key, record.seq)
        # an end that is being stored now did not see these waits: let it become durable, then read it back
        seqs = [record.seq for record in records.values()]
        await self._durable.until(lambda: not any(map(self._core.is_ending, seqs)))
        records = await self._identify(waits)
        for each in self._current(waits):
            record = records.get(each.execution_id)
            if record is None or record.status.ended:
                await self._tell(each, record)

    def _current(self, waits: Sequence[Awaiting]) -> Iterator[Awaiting]:
        return (each for each in waits if self._subscriptions.is_current(each.seq, each.wait))

    async def _identify(self, waits: Collection[Awaiting]) -> dict[str, ExecutionRecord]:
        ids = {each.execution_id for each in waits}
        return await self._durable.insist(lambda: self._state.identify(ids))

    async def _tell(self, awaiting: Awaiting, record: ExecutionRecord | None) -> None:
        if record is None:
            outcome = Outcome(None, runtime_error(f"{awaiting.execution_id} is unknown, or past retention"))
        else:
            seq = record.seq
            output, _ = await self._durable.insist(lambda: self._state.answer(seq))
            outcome = _outcome(record.status, output, record.error)
        if not self._subscriptions.is_current(awaiting.seq, awaiting.wait):
            return
        receiver = Receiver(awaiting.seq, awaiting.key)
        taken = self._deliveries.take([receiver])
        if not taken:
            self._offer(receiver, outcome)
            return
        fitting = await self._deliveries.fitting(taken)
        delivered = [_told(each, outcome) for each in fitting.taken]
        await self._conclude(Conclusion(ends=fitting.ends, delivered=delivered))


def _outcome(status: Status, output: bytes | None, error: WorkflowError | None) -> Outcome:
    if status is Status.COMPLETED:
        return Outcome(b"null" if output is None else output, None)
    return Outcome(None, error or runtime_error("the execution that it waits for was cancelled"))


def _told(taken: Taken, outcome: Outcome) -> Delivered:
    return Delivered(taken.seq, JournalEntry(taken.key, *outcome), taken.attempts)
