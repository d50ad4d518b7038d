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
from router.dispatch.durable_writes import RetryingWriter
from router.dispatch.live_delivery import LiveDelivery
from router.dispatch.parked_delivery import ParkedDelivery, Unparked
from router.dispatch.transitions import SideEffects, TransitionBatch, runtime_error
from router.scheduling.event_buffer import EventBuffer
from router.scheduling.shard import Shard
from router.scheduling.subscriptions import EventReceiver, Subscriptions, WaitHandle
from router.storage.interface import DEFAULT_PAGE, ShardState
from router.storage.model import Consumed, Delivered, Ended, ExecutionRecord


class CompletionWait(NamedTuple):
    """One wait of an execution for the end of another, and the key of the journal entry for the outcome."""

    seq: int
    wait: WaitHandle
    key: str
    execution_id: str


class ChildResult(NamedTuple):
    """Outcome of an execution, for one that waits for its end; exactly one of the two is set."""

    output: bytes | None
    error: WorkflowError | None


def completion_waits(seq: int, wait: WaitHandle, subscriptions: Sequence[Subscription]) -> list[CompletionWait]:
    """Return the ends that an execution waits for, from its subscriptions."""
    return [CompletionWait(seq, wait, each.key, each.execution_id) for each in subscriptions if each.execution_id]


class ChildCompletions:
    """Registers waits for ends, and delivers ends to the executions that wait for them."""

    def __init__(
        self,
        *,
        core: Shard,
        state: ShardState,
        durable: RetryingWriter,
        subscriptions: Subscriptions,
        kept: EventBuffer,
        deliveries: ParkedDelivery,
        offers: LiveDelivery,
        conclude: Callable[[TransitionBatch], Awaitable[None]],
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
    def is_needed(self) -> bool:
        """Whether an execution waits for an end, or an event is buffered for a certain execution."""
        return bool(self._subscriptions.ends_awaited or self._kept.addressed)

    async def side_effects(self, ends: Sequence[Ended]) -> SideEffects:
        """Unpark executions that wait for those that are ending, and drop events buffered for the latter.

        Returns:
            The changes to store with the ends; its `ends` include those of waiting executions whose journal is full.
        """
        result = SideEffects([], [], list(ends))
        for end in result.ends:  # the list grows during the loop
            result.consumed.extend(Consumed(number) for number in self._kept.ended(end.seq))
            taken = self._deliveries.take(self._subscriptions.end_receivers(end.seq))
            if taken:
                fitting = await self._deliveries.check_room(taken)
                outcome = _outcome(end.status, end.output, end.error)
                result.delivered.extend(_told(each, outcome) for each in fitting.taken)
                result.ends.extend(fitting.ends)
        return result

    def told(self, ends: Sequence[Ended]) -> None:
        """Offer ends that are now durable to the executions that wait for them while they run."""
        for end in ends:
            for receiver in self._subscriptions.end_receivers(end.seq):
                self._offer(receiver, _outcome(end.status, end.output, end.error))

    def _offer(self, receiver: EventReceiver, outcome: ChildResult) -> None:
        # a declined offer needs no retry: the execution finds the end in storage when it waits again
        offer = self._offers.offer(receiver, 0, lambda: None)
        if offer is not None:
            self._offers.hand_over(offer, *outcome)

    async def expect(self, waits: Sequence[CompletionWait]) -> None:
        """Register waits for ends; an end that is stored already is delivered at once."""
        remaining = iter(waits)
        while portion := list(islice(remaining, DEFAULT_PAGE)):
            await self._expect(portion)

    async def _expect(self, waits: Sequence[CompletionWait]) -> None:
        records = await self._identify(waits)
        for seq, _, key, execution_id in self._current(waits):
            record = records.get(execution_id)
            if record is not None and not record.status.ended:
                self._subscriptions.await_end(seq, key, record.seq)
        # an end that is being stored now did not see these waits: let it become durable, then read it back
        seqs = [record.seq for record in records.values()]
        await self._durable.until(lambda: not any(map(self._core.pending.is_ending, seqs)))
        records = await self._identify(waits)
        for each in self._current(waits):
            record = records.get(each.execution_id)
            if record is None or record.status.ended:
                await self._tell(each, record)

    def _current(self, waits: Sequence[CompletionWait]) -> Iterator[CompletionWait]:
        return (each for each in waits if self._subscriptions.is_current(each.seq, each.wait))

    async def _identify(self, waits: Collection[CompletionWait]) -> dict[str, ExecutionRecord]:
        ids = {each.execution_id for each in waits}
        return await self._durable.call_with_retry(lambda: self._state.find_by_ids(ids))

    async def _tell(self, awaiting: CompletionWait, record: ExecutionRecord | None) -> None:
        if record is None:
            outcome = ChildResult(None, runtime_error(f"{awaiting.execution_id} is unknown, or past retention"))
        else:
            seq = record.seq
            output, _ = await self._durable.call_with_retry(lambda: self._state.answer(seq))
            outcome = _outcome(record.status, output, record.error)
        if not self._subscriptions.is_current(awaiting.seq, awaiting.wait):
            return
        receiver = EventReceiver(awaiting.seq, awaiting.key)
        taken = self._deliveries.take([receiver])
        if not taken:
            self._offer(receiver, outcome)
            return
        fitting = await self._deliveries.check_room(taken)
        delivered = [_told(each, outcome) for each in fitting.taken]
        await self._conclude(TransitionBatch(ends=fitting.ends, delivered=delivered))


def _outcome(status: Status, output: bytes | None, error: WorkflowError | None) -> ChildResult:
    if status is Status.COMPLETED:
        return ChildResult(b"null" if output is None else output, None)
    return ChildResult(None, error or runtime_error("the execution that it waits for was cancelled"))


def _told(taken: Unparked, outcome: ChildResult) -> Delivered:
    return Delivered(taken.seq, JournalEntry(taken.key, *outcome), taken.attempts)
