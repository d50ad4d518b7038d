"""Delivers events, and ends that are stored already, to the executions that wait for them.

**Events** that no execution waits for yet are buffered (`router.scheduling.matching.InboundEvent` has the states of an
event). An event is durable before anybody is notified of it. Its receivers are chosen at that moment: every matching
execution that is parked; if none is parked, the first matching one that listens while it is running (see
`LiveDelivery`). An event for a callback goes to one execution, unless its flow says otherwise: while several wait for
it the receiver is ambiguous, and the event is refused. If a second execution begins to wait only while such an event is
being stored, the first one receives it. A suspended execution receives nothing; its subscriptions are matched when it
waits again. The journal entries of all receivers and the removal of the event are one write: after a crash the delivery
is either complete, or the event is still there to be delivered again.

**Ends** of other executions: none is missed, because a waiting execution is registered first, and only then is storage
checked for an end. Later ends are delivered by `ChildCompletions`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Container, Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

import attrs

from flowhook import limits
from flowhook.attach.limits import split
from flowhook.attach.messages import SubscriptionUpdate
from flowhook.errors import ConflictError, ExhaustedError
from flowhook.model import JournalEntry, Subscription
from flowhook.process import logs
from router.dispatch.effects import ListenAgain
from router.dispatch.parts import ShardParts
from router.dispatch.receivers import (
    ChildCompletions,
    ChildResult,
    LiveDelivery,
    Offer,
    ParkedDelivery,
    Unparked,
    runtime_error,
)
from router.dispatch.transitions import TransitionBatch, TransitionWriter
from router.scheduling.leases import Lease, Loss
from router.scheduling.matching import ANYTHING, EventContent, FilterShape, InboundEvent
from router.scheduling.subscriptions import EventReceiver, WaitHandle
from router.storage import model as stored
from router.storage.limits import DEFAULT_PAGE

EVENTS_PER_READ: Final = 128

CALL_BYTES: Final = 8 * limits.MIB  # bytes of events in one call of storage
FULL_RETRY_SECONDS: Final = 10  # seconds after which a publisher may retry when too many events of a flow are buffered
log = logs.get_logger(__name__)


@attrs.define(eq=False, repr=False)
class EventDispatcher:
    """Stores events of one shard for executions that listen, then delivers or buffers them.

    Those that no execution waits for are buffered for `buffer_seconds`.
    """

    _parts: ShardParts
    _parked: ParkedDelivery
    _live: LiveDelivery
    _transitions: TransitionWriter
    _buffer_seconds: float
    _storing: Counter[str] = attrs.field(init=False, factory=Counter)
    _contents: WeakValueDictionary[int, EventContent] = attrs.field(init=False, factory=WeakValueDictionary)

    def __attrs_post_init__(self) -> None:
        self._parts.state.follow_inbound(self._on_logged)

    @property
    def buffered(self) -> int:
        self._parts.buffer.expire(self._parts.now_ms())
        return len(self._parts.buffer)

    def waiting_flows(self, event: InboundEvent, *, besides: Container[str]) -> list[str]:
        """Return the flows with an execution, whatever its revision, that waits for an event, except `besides`."""
        return [
            flow_id
            for flow_id in self._parts.subscriptions.flows(event.type)
            if flow_id not in besides and self._parts.subscriptions.listening(event._replace(flow_id=flow_id), 1)
        ]

    def shapes(self, flow_id: str, type_: str, *, callback: bool) -> list[FilterShape]:
        """Return where filters will look for values in an event when it is published to a flow."""
        kind = (flow_id, callback, type_)
        return sorted((self._parts.subscriptions.shapes(kind) | self._parts.buffer.shapes(kind)) - {ANYTHING})

    # --- buffered for others than executions ------------------------------------------------------------------------

    def buffered_for(self, flow_id: str, *, after: int = 0) -> list[tuple[int, str]]:
        """Return number and type of the emitted events buffered for a flow, oldest first: those after a number."""
        self._parts.buffer.expire(self._parts.now_ms())
        return self._parts.buffer.emitted(flow_id, after=after)

    def is_buffered(self, number: int) -> bool:
        self._parts.buffer.expire(self._parts.now_ms())
        return number in self._parts.buffer

    def forget(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._parts.buffer.pop(number)
        self._parts.writer.spawn(self._parts.writer.write([stored.Consumed(number) for number in numbers]))

    # --- publishing -------------------------------------------------------------------------------------------------

    # Execution 7 is parked with the subscription /do/0/listen#0; 9 has the same one, and runs:
    #     publish(event)       storage gives it the number 41; the caller gets its result when it is durable
    #     _on_logged(41)       the receivers are 7 and 9; 7 is unparked, because one that is parked comes first
    #     _deliver(41, [7])    one write: the entry /do/0/listen#0 for 7, and 41 is consumed; then 7 is ready
    # Without 7, 9 is offered 41. Either a checkpoint with `consumed: 41` journals it, or new subscriptions decline it,
    # and 41 is dispatched again. Without 9, too, 41 is buffered until an execution listens, or until it expires.

    async def publish(
        self, events: Sequence[stored.NewInboundEvent], *, content: EventContent | None = None
    ) -> list[stored.InboundEventAppended]:
        """Store events for executions that listen, and deliver them; they are durable when this returns.

        Each is stored once: after an error, which may leave some of them stored, call again. `expire_at_ms` is set
        here. `content` is the parsed content for the events that have its payload, if there is one already.

        Returns one result per event, in order.

        Raises:
            ConflictError: several executions wait for an event that is for one (`CALLBACK_AMBIGUOUS`): none gets
                it.
            ExhaustedError: too many events of a flow are buffered (`EVENT_BUFFER_FULL`).
        """
        inbound = [self._inbound(new, content) for new in events]
        self._check_room(inbound, events)
        events = [
            # storage still says whether it was stored before: a repetition of a request is answered as the first one
            # was, however many executions wait by now
            new._replace(check_only=True) if self._is_ambiguous(new, event) else new
            for new, event in zip(events, inbound, strict=True)
        ]
        # storing may take long, and parsed content takes many times the memory of the payload
        for event in inbound:
            _release(event)
        flows = Counter(new.flow_id for new in events if not new.execution_id)
        # what is being stored counts as buffered: calls at the same time must not exceed the limit together
        self._storing.update(flows)
        expire_at_ms = self._parts.now_ms() + int(self._buffer_seconds * 1000)
        appended: list[stored.InboundEventAppended] = []
        try:
            for portion in split(events, lambda new: len(new.payload), CALL_BYTES) if events else ():
                appended += await self._parts.log.append_inbound(
                    [new._replace(expire_at_ms=expire_at_ms) for new in portion]
                )
        finally:
            self._storing -= flows
        for new, (number, *_, gone) in zip(events, appended, strict=True):
            if new.check_only and not number and not gone:
                raise ConflictError(
                    "several executions wait for this callback; `correlate` must select one",
                    reason="CALLBACK_AMBIGUOUS",
                )
        return appended

    def _is_ambiguous(self, new: stored.NewInboundEvent, event: InboundEvent) -> bool:
        if not new.callback or new.to_all or new.execution_id:
            return False
        return len(self._parts.subscriptions.listening(event, 2)) > 1

    def _check_room(self, inbound: Sequence[InboundEvent], events: Sequence[stored.NewInboundEvent]) -> None:
        self._parts.buffer.expire(self._parts.now_ms())
        flows = Counter(self._storing)
        room = limits.MAX_TOTAL_BUFFERED_EVENTS - len(self._parts.buffer) - self._storing.total()
        for event, new in zip(inbound, events, strict=True):
            room -= 1
            full = room < 0
            if not new.execution_id:  # an execution has one token at a time for each of its callbacks
                flows[new.flow_id] += 1
                full |= self._parts.buffer.of_flow(new.flow_id) + flows[new.flow_id] > limits.MAX_BUFFERED_EVENTS
            # an event that an execution waits for is delivered, so it takes no room in the buffer
            if full and not self._parts.subscriptions.listening(event, 1):
                raise ExhaustedError(
                    f"too many events are buffered that {new.flow_id} may listen for later",
                    reason="EVENT_BUFFER_FULL",
                    retry_after=FULL_RETRY_SECONDS,
                )

    def _on_logged(self, events: Sequence[stored.StoredInboundEvent]) -> None:
        for number, new, seq in events:
            event = self._inbound(new)._replace(number=number, seq=seq, expire_at_ms=new.expire_at_ms)
            self._dispatch(event)
            _release(event)

    def _inbound(self, new: stored.NewInboundEvent, content: EventContent | None = None) -> InboundEvent:
        """Return an event; events with the same payload object share its content while one of them is published."""
        payload = new.payload
        if content is None or content.payload is not payload:
            content = self._contents.get(id(payload)) or EventContent(payload)
        self._contents[id(payload)] = content
        return InboundEvent(new.flow_id, new.callback, new.type, content, to_all=new.to_all or not new.callback)

    def _dispatch(self, event: InboundEvent) -> None:
        """Deliver an event whose content is in memory to those that wait for it, or buffer it."""
        if not self._parts.writer.is_running or not self._deliver_to(event, self._receivers(event)):
            self._buffer_event(event)

    def _deliver_to(self, event: InboundEvent, receivers: Sequence[EventReceiver]) -> bool:
        """Deliver to the parked receivers, else offer to one that listens while it runs; false if absent."""
        unparked = self._unpark(event, receivers)
        if unparked:
            self._parts.writer.spawn(self._deliver(event, unparked))
            return True
        for receiver in receivers if self._live else ():
            offer = self._live.offer(receiver, event)
            if offer is not None:
                self._parts.writer.spawn(self._hand_over(event, offer))
                return True
        return False

    def _unpark(self, event: InboundEvent, receivers: Sequence[EventReceiver]) -> list[Unparked]:
        """Unpark the receivers that are parked: all of them, or the one that has waited longest."""
        if event.to_all:
            return self._parked.unpark(receivers)
        return next((unparked for each in receivers if (unparked := self._parked.unpark([each]))), [])

    async def redeliver(self, event: InboundEvent) -> None:
        """Deliver an event again that was offered and not consumed; it is still in storage."""
        content = await self._content(event)
        if content is not None:
            self._dispatch(event._replace(content=content))

    def _receivers(self, event: InboundEvent) -> list[EventReceiver]:
        if event.content is None:
            return []
        # an event that is addressed to an execution (by a one-time URL) is for that one, whatever its filters compare
        if not event.seq:
            return self._parts.subscriptions.listening(event, limits.MAX_RECEIVERS)
        receiver = self._parts.subscriptions.listens(event.seq, event)
        return [] if receiver is None else [receiver]

    def _buffer_event(self, event: InboundEvent) -> None:
        # what was buffered for an execution that is ending has been removed already
        if not event.seq or event.seq not in self._parts.shard.pending.ending:
            self._parts.buffer.add(event)

    # --- delivering -------------------------------------------------------------------------------------------------

    async def _deliver(self, event: InboundEvent, unparked: Sequence[Unparked]) -> None:
        content = await self._content(event)
        if content is None:  # it has just expired: the receivers are requeued, and subscribe again
            await self._transitions.apply(TransitionBatch(losses=[Loss(each.seq, each.attempts) for each in unparked]))
            return
        payload = content.payload
        # meanwhile an operator may have cancelled one of them, or its journal is full
        fitting = await self._parked.check_room(unparked)
        delivered = [
            stored.Delivered(seq, JournalEntry(key, payload), attempts) for seq, key, attempts in fitting.unparked
        ]
        consumed = [stored.Consumed(event.number)] if delivered else []
        # no execution emits a callback's event
        received = [] if event.callback else [stored.EventReceived(each.seq, event.number) for each in delivered]
        await self._transitions.apply(TransitionBatch(received, fitting.ends, delivered=delivered, consumed=consumed))
        if not delivered:  # none of the receivers can take it any more
            self._dispatch(event._replace(content=content))

    async def _hand_over(self, event: InboundEvent, offer: Offer) -> None:
        content = await self._content(event)
        if content is None:  # it has just expired
            self._parts.effects.add(ListenAgain(offer.seq, offer.number))
        else:
            self._live.hand_over(offer, content.payload)

    async def _content(self, event: InboundEvent) -> EventContent | None:
        """Return the content of an event, which is read if it is not in memory; None: it is gone from storage."""
        if event.content is not None:
            return event.content
        payload = (await self._read([event.number])).get(event.number)
        return None if payload is None else EventContent(payload)

    async def _read(self, numbers: Sequence[int]) -> dict[int, bytes]:
        return await self._parts.writer.call_with_retry(lambda: self._parts.state.inbound_payloads(numbers))

    # --- beginning to wait ------------------------------------------------------------------------------------------

    def listen(self, seq: int, flow_id: str, wait: WaitHandle, subscriptions: Sequence[Subscription]) -> None:
        """Deliver the oldest buffered event that matches to an execution that begins to wait, if there is one."""
        if not self._parts.buffer.concern(seq, flow_id):
            return
        self._parts.buffer.expire(self._parts.now_ms())
        # a shape that is looked up for the first time is unknown for all buffered events of the kind: they are read
        # once
        if self._parts.buffer.unknown(flow_id, subscriptions):
            self._parts.writer.spawn(self._learn(seq, flow_id, wait, subscriptions))
        else:
            self._deliver_oldest(seq, flow_id, subscriptions)

    def _deliver_oldest(self, seq: int, flow_id: str, subscriptions: Sequence[Subscription]) -> None:
        match = self._parts.buffer.oldest(seq, flow_id, subscriptions)
        event = None if match is None else self._parts.buffer.pop(match.number)
        if match is not None and event is not None and not self._deliver_to(event, [EventReceiver(seq, match.key)]):
            self._buffer_event(event)

    async def _learn(self, seq: int, flow_id: str, wait: WaitHandle, subscriptions: Sequence[Subscription]) -> None:
        """Read the events whose values are not known, while the execution waits; then look for a match again."""
        while self._parts.subscriptions.is_current(seq, wait):
            numbers = self._parts.buffer.unknown(flow_id, subscriptions)[:EVENTS_PER_READ]
            if not numbers:
                self._deliver_oldest(seq, flow_id, subscriptions)
                return
            payloads = await self._read(numbers)
            # storage bounds the bytes of one read, so the last ones may be missing although they are there: only those
            # before the last one that was read are known to be gone
            read_up_to = max(payloads, default=numbers[-1])
            for number in numbers:
                if number in payloads:
                    self._parts.buffer.learn(number, payloads[number])
                elif number < read_up_to or not payloads:
                    self._parts.buffer.pop(number)  # it has expired in storage

    # --- starting ---------------------------------------------------------------------------------------------------

    async def recover(self) -> None:
        """Load events from storage, and deliver or buffer them. Call it once, when all waiting executions are known."""
        after = 0
        while rows := await self._parts.state.inbound_events(after_number=after):
            after = rows[-1].number
            for row in rows:
                if row.event.expire_at_ms > self._parts.now_ms():
                    await self._recover(_recovered(row))
        if self._parts.buffer:
            log.info("buffered events recovered", events=len(self._parts.buffer))

    async def _recover(self, event: InboundEvent) -> None:
        # most buffered events have no receiver when a router starts: their content is not read
        if not self._parts.subscriptions.concern(event.kind):
            self._buffer_event(event)
            return
        content = await self._content(event)
        if content is None:
            return
        event = event._replace(content=content)
        unparked = self._unpark(event, self._receivers(event))
        if unparked:
            await self._deliver(event, unparked)
        else:
            self._buffer_event(event)


def _recovered(row: stored.StoredInboundEvent) -> InboundEvent:
    new = row.event
    to_all = new.to_all or not new.callback
    return InboundEvent(new.flow_id, new.callback, new.type, None, row.number, row.seq, new.expire_at_ms, to_all)


def _release(event: InboundEvent) -> None:
    if event.content is not None:
        event.content.release()


class CompletionWait(NamedTuple):
    """One wait of an execution for the end of another, and the key of the journal entry for the outcome."""

    seq: int
    wait: WaitHandle
    key: str
    execution_id: str


def completion_waits(seq: int, wait: WaitHandle, subscriptions: Sequence[Subscription]) -> list[CompletionWait]:
    """Return the ends that an execution waits for, from its subscriptions."""
    return [CompletionWait(seq, wait, each.key, each.execution_id) for each in subscriptions if each.execution_id]


@attrs.define(eq=False, repr=False)
class ParkedExecutions:
    """Subscribes executions that begin to wait to events and ends, and unsubscribes those that do not wait any more."""

    _parts: ShardParts
    _delivery: ParkedDelivery
    _live: LiveDelivery
    _completions: ChildCompletions
    _transitions: TransitionWriter
    _events: EventDispatcher
    _recovered: list[CompletionWait] = attrs.field(init=False, factory=list)

    def begin(self, seq: int, subscriptions: Sequence[Subscription]) -> None:
        """Subscribe a parked execution, unless an operator has removed it meanwhile."""
        queue = self._parts.shard.timers.get(seq)
        if queue is not None:
            self._subscribe(seq, queue.flow_id, subscriptions)

    def listen(self, update: SubscriptionUpdate) -> bool:
        """Subscribe a running execution; false: the lease is stale."""
        lease = self._live.listen(update)
        if lease is not None and update.subscriptions:
            self._subscribe(lease.seq, lease.queue.flow_id, update.subscriptions)
        return lease is not None

    def listen_again(self, seq: int, number: int) -> None:
        """Subscribe a running execution again to which an event was offered that has expired."""
        listening = self._live.withdraw(seq, number)
        if listening is not None:
            self._subscribe(seq, *listening)

    def _subscribe(self, seq: int, flow_id: str, subscriptions: Sequence[Subscription]) -> None:
        wait = self._parts.subscriptions.add(seq, flow_id, subscriptions)
        if awaited := completion_waits(seq, wait, subscriptions):
            self._parts.writer.spawn(self._expect(awaited))
        self._events.listen(seq, flow_id, wait, subscriptions)

    def leave(self, seq: int) -> None:
        self._parts.outages.leave(seq)
        self._live.leave(seq)
        self._parts.subscriptions.remove(seq)

    def withdraw(self, seq: int, lease: Lease | None, reason: str) -> None:
        """Forget an execution that was removed from the core, and revoke its void lease, if it had one.

        `reason` is that of `RunnerPort.revoke`.
        """
        self._parts.attempt_log.drop(seq)
        self._parts.cache.pop(seq)
        self.leave(seq)
        if lease is not None:
            self._parts.runners.revoke(lease, reason)

    def recover(self, unfinished: stored.UnfinishedExecution) -> None:
        """Register an execution found waiting at start-up; call `settle` after the last one."""
        wait = self._parts.subscriptions.add(unfinished.seq, unfinished.flow_id, unfinished.subscriptions)
        self._recovered += completion_waits(unfinished.seq, wait, unfinished.subscriptions)

    async def settle(self) -> None:
        """Deliver stored events and ends to the recovered executions. Call it once, at the end of start-up."""
        recovered, self._recovered = self._recovered, []
        await self._expect(recovered)
        await self._events.recover()

    # --- ends -------------------------------------------------------------------------------------------------------

    async def _expect(self, waits: Sequence[CompletionWait]) -> None:
        """Register waits for ends; an end that is stored already is delivered at once."""
        remaining = iter(waits)
        while portion := list(islice(remaining, DEFAULT_PAGE)):
            await self._expect_portion(portion)

    async def _expect_portion(self, waits: Sequence[CompletionWait]) -> None:
        records = await self._identify(waits)
        for seq, _, key, execution_id in self._current(waits):
            record = records.get(execution_id)
            if record is not None and not record.status.ended:
                self._parts.subscriptions.await_end(seq, key, record.seq)
        # an end that is being stored now did not see these waits: let it become durable, then read it back
        seqs = [record.seq for record in records.values()]
        await self._parts.writer.until(lambda: self._parts.shard.pending.ending.keys().isdisjoint(seqs))
        records = await self._identify(waits)
        for each in self._current(waits):
            record = records.get(each.execution_id)
            if record is None or record.status.ended:
                await self._deliver_end(each, record)

    def _current(self, waits: Sequence[CompletionWait]) -> Iterator[CompletionWait]:
        return (each for each in waits if self._parts.subscriptions.is_current(each.seq, each.wait))

    async def _identify(self, waits: Collection[CompletionWait]) -> dict[str, stored.ExecutionRecord]:
        ids = {each.execution_id for each in waits}
        return await self._parts.writer.call_with_retry(lambda: self._parts.state.find_by_ids(ids))

    async def _deliver_end(self, wait: CompletionWait, record: stored.ExecutionRecord | None) -> None:
        if record is None:
            outcome = ChildResult(None, runtime_error(f"{wait.execution_id} is unknown, or past retention"))
        else:
            seq = record.seq
            output, _ = await self._parts.writer.call_with_retry(lambda: self._parts.state.answer(seq))
            outcome = ChildResult.of(record.status, output, record.error)
        if not self._parts.subscriptions.is_current(wait.seq, wait.wait):
            return
        receiver = EventReceiver(wait.seq, wait.key)
        unparked = self._delivery.unpark([receiver])
        if not unparked:
            self._completions.offer(receiver, outcome)
            return
        fitting = await self._delivery.check_room(unparked)
        delivered = list(map(outcome.delivered, fitting.unparked))
        await self._transitions.apply(TransitionBatch(ends=fitting.ends, delivered=delivered))
