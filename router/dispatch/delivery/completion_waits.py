"""Registers executions that wait for the ends of others, and delivers ends that are stored already.

No end is missed: a waiting execution is registered first, and only then is storage checked for an end. Later ends are
delivered by `child_completion`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import attrs

from flowhook.model import Subscription
from router.dispatch.faults import runtime_error
from router.dispatch.persistence.retrying_writer import RetryingWriter
from router.dispatch.transitions import TransitionBatch, TransitionWriter
from router.dispatch.waiting.child_completion import ChildCompletions, ChildResult
from router.dispatch.waiting.parked_delivery import ParkedDelivery
from router.scheduling.shard import Shard
from router.scheduling.subscriptions import EventReceiver, Subscriptions, WaitHandle
from router.storage.interface import ShardState
from router.storage.limits import DEFAULT_PAGE
from router.storage.model import ExecutionRecord


class CompletionWait(NamedTuple):
    """One wait of an execution for the end of another, and the key of the journal entry for the outcome."""

    seq: int
    wait: WaitHandle
    key: str
    execution_id: str


def completion_waits(seq: int, wait: WaitHandle, subscriptions: Sequence[Subscription]) -> list[CompletionWait]:
    """Return the ends that an execution waits for, from its subscriptions."""
    return [CompletionWait(seq, wait, each.key, each.execution_id) for each in subscriptions if each.execution_id]


@attrs.define(eq=False, repr=False, kw_only=True)
class CompletionWaits:
    """Registers waits for ends."""

    _core: Shard
    _state: ShardState
    _writer: RetryingWriter
    _subscriptions: Subscriptions
    _parked: ParkedDelivery
    _completions: ChildCompletions
    _transitions: TransitionWriter

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
        await self._writer.until(lambda: not any(map(self._core.pending.is_ending, seqs)))
        records = await self._identify(waits)
        for each in self._current(waits):
            record = records.get(each.execution_id)
            if record is None or record.status.ended:
                await self._deliver(each, record)

    def _current(self, waits: Sequence[CompletionWait]) -> Iterator[CompletionWait]:
        return (each for each in waits if self._subscriptions.is_current(each.seq, each.wait))

    async def _identify(self, waits: Collection[CompletionWait]) -> dict[str, ExecutionRecord]:
        ids = {each.execution_id for each in waits}
        return await self._writer.call_with_retry(lambda: self._state.find_by_ids(ids))

    async def _deliver(self, awaiting: CompletionWait, record: ExecutionRecord | None) -> None:
        if record is None:
            outcome = ChildResult(None, runtime_error(f"{awaiting.execution_id} is unknown, or past retention"))
        else:
            seq = record.seq
            output, _ = await self._writer.call_with_retry(lambda: self._state.answer(seq))
            outcome = ChildResult.of(record.status, output, record.error)
        if not self._subscriptions.is_current(awaiting.seq, awaiting.wait):
            return
        receiver = EventReceiver(awaiting.seq, awaiting.key)
        taken = self._parked.take([receiver])
        if not taken:
            self._completions.offer(receiver, outcome)
            return
        fitting = await self._parked.check_room(taken)
        delivered = list(map(outcome.delivered, fitting.taken))
        await self._transitions.apply(TransitionBatch(ends=fitting.ends, delivered=delivered))
