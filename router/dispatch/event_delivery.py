"""Delivers events, and ends that are stored already, to the executions that wait for them.

Delivers events to executions that wait for them, and buffers events that no execution waits for yet.

An event for waiting executions is called an arrival. It is durable before anybody is notified of it. Its receivers are
chosen at that moment: every matching execution that is parked; if none is parked, the first matching one that listens
while it is running (see `live_delivery`). An event for a callback goes to one execution, unless its flow says
otherwise: while several wait for it the receiver is ambiguous, and the event is refused. If a second execution begins
to wait only while such an event is being stored, the first one receives it. A suspended execution receives nothing; its
subscriptions are matched when it waits again. The journal entries of all receivers and the removal of the arrival are
one write: after a crash the delivery is either complete, or the arrival is still there to be delivered again.

Registers executions that wait for the ends of others, and delivers ends that are stored already.

No end is missed: a waiting execution is registered first, and only then is storage checked for an end. Later ends are
delivered by `child_completion`.

Tracks executions while they wait for events or for the ends of other executions.

Most of them are parked and hold no lease. `live_delivery` serves those that wait while they are running.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Container, Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

import attrs

from flowhook import limits
from flowhook.attach.messages import SubscriptionUpdate
from flowhook.errors import ConflictError, ExhaustedError
from flowhook.model import JournalEntry, Subscription
from flowhook.process import logs
from router.dispatch.effects import EffectQueue, ListenAgain
from router.dispatch.receivers import (
    ChildCompletions,
    ChildResult,
    LiveDelivery,
    ParkedDelivery,
    PendingDelivery,
    Unparked,
    runtime_error,
)
from router.dispatch.state_writer import RetryingWriter
from router.dispatch.transitions import TransitionBatch, TransitionWriter
from router.scheduling.leases import RequeuePending
from router.scheduling.matching import ANYTHING, EventContent, FilterShape, IncomingEvent
from router.scheduling.shard import Shard
from router.scheduling.subscriptions import (
    ArrivedEvent,
    BufferedEvent,
    EventBuffer,
    EventKind,
    EventReceiver,
    Subscriptions,
    WaitHandle,
)
from router.storage.event_log import EventLog
from router.storage.limits import DEFAULT_PAGE
from router.storage.model import (
    Consumed,
    Delivered,
    EventReceived,
    ExecutionRecord,
    InboundEventAppended,
    LoggedInboundEvent,
    NewInboundEvent,
    UnfinishedExecution,
)
from router.storage.shard_state import ShardState

EVENTS_PER_READ: Final = 128
"""Most arrivals in one read."""

CALL_BYTES: Final = 8 * limits.MIB
"""Bytes of arrivals in one call of storage."""

FULL_RETRY_SECONDS: Final = 10
"""Seconds after which a publisher may retry when a flow has too many arrivals."""

log = logs.get_logger(__name__)


class EventDispatcher:
    """Stores arrivals of one shard, then delivers or buffers them."""

    def __init__(
        self,
        *,
        core: Shard,
        state: ShardState,
        log_: EventLog,
        writer: RetryingWriter,
        subscriptions: Subscriptions,
        buffer: EventBuffer,
        parked: ParkedDelivery,
        live: LiveDelivery,
        transitions: TransitionWriter,
        effects: EffectQueue,
        now_ms: Callable[[], int],
        buffer_seconds: float,
    ) -> None:
        """Deliver arrivals; those that nobody waits for are buffered for `buffer_seconds`."""
        self._core = core
        self._state = state
        self._log = log_
        self._writer = writer
        self._subscriptions = subscriptions
        self._buffer = buffer
        self._parked = parked
        self._live = live
        self._transitions = transitions
        self._effects = effects
        self._now_ms = now_ms
        self._buffer_ms = int(buffer_seconds * 1000)
        self._storing: Counter[str] = Counter()
        self._contents: WeakValueDictionary[int, EventContent] = WeakValueDictionary()
        state.follow_arrivals(self._on_logged)

    @property
    def buffered(self) -> int:
        """Number of buffered arrivals, for which no execution waits yet."""
        self._buffer.expire(self._now_ms())
        return len(self._buffer)

    def waiting_flows(self, event: IncomingEvent, *, besides: Container[str]) -> list[str]:
        """Return the flows with an execution that waits for an event, except `besides`.

        The waiting executions count, not the current revisions of the flows.
        """
        return [
            flow_id
            for flow_id in self._subscriptions.flows(event.type)
            if flow_id not in besides and self._subscriptions.listening(event.to(flow_id), 1)
        ]

    def shapes(self, flow_id: str, type_: str, *, callback: bool) -> list[FilterShape]:
        """Return where filters will look for values in an event when it is published to a flow."""
        kind = (flow_id, callback, type_)
        return sorted((self._subscriptions.shapes(kind) | self._buffer.shapes(kind)) - {ANYTHING})

    # --- buffered for others than executions ------------------------------------------------------------------------

    def buffered_for(self, flow_id: str, *, after: int = 0) -> list[tuple[int, str]]:
        """Return number and type of the emitted events buffered for a flow, oldest first: those after a number."""
        self._buffer.expire(self._now_ms())
        return self._buffer.emitted(flow_id, after=after)

    def is_buffered(self, number: int) -> bool:
        """Whether an arrival is still buffered."""
        self._buffer.expire(self._now_ms())
        return number in self._buffer

    def forget(self, numbers: Sequence[int]) -> None:
        """Remove arrivals from the buffer and from storage, undelivered."""
        for number in numbers:
            self._buffer.take(number)
        self._writer.spawn(self._writer.write([Consumed(number) for number in numbers]))

    # --- publishing -------------------------------------------------------------------------------------------------

    async def publish(
        self, arrivals: Sequence[NewInboundEvent], *, content: EventContent | None = None
    ) -> list[InboundEventAppended]:
        """Store events for executions that listen, and deliver them; they are durable when this returns.

        Each is stored once: after an error, which may leave some of them stored, call again. `expire_at_ms` is set
        here.

        Args:
            arrivals: the events to store.
            content: parsed content for the arrivals that have its payload, if there is one already.

        Returns:
            One result per arrival, in order.

        Raises:
            ConflictError: several executions wait for an event that is for one (`CALLBACK_AMBIGUOUS`): none gets it.
            ExhaustedError: a flow has too many arrivals that nobody waits for (`EVENT_BUFFER_FULL`).
            UnavailableError: storage can't serve.
        """
        events = [self._incoming(arrival, content) for arrival in arrivals]
        self._check_room(arrivals, events)
        arrivals = [
            arrival._replace(check_only=True) if self._is_ambiguous(arrival, event) else arrival
            for arrival, event in zip(arrivals, events, strict=True)
        ]
        for event in events:
            event.content.release()
        flows = Counter(arrival.flow_id for arrival in arrivals if not arrival.execution_id)
        self._storing.update(flows)
        expire_at_ms = self._now_ms() + self._buffer_ms
        appended: list[InboundEventAppended] = []
        try:
            for portion in _portions(arrivals):
                appended += await self._log.append_arrivals(
                    [arrival._replace(expire_at_ms=expire_at_ms) for arrival in portion]
                )
        finally:
            self._storing -= flows
        for arrival, (number, *_, gone) in zip(arrivals, appended, strict=True):
            if arrival.check_only and not number and not gone:
                raise ConflictError(
                    "several executions wait for this callback; `correlate` must select one",
                    reason="CALLBACK_AMBIGUOUS",
                )
        return appended

    def _is_ambiguous(self, arrival: NewInboundEvent, event: IncomingEvent) -> bool:
        """Whether an arrival is for a single execution, and several wait for it."""
        if not arrival.callback or arrival.to_all or arrival.execution_id:
            return False
        return len(self._subscriptions.listening(event, 2)) > 1

    def _check_room(self, arrivals: Sequence[NewInboundEvent], events: Sequence[IncomingEvent]) -> None:
        self._buffer.expire(self._now_ms())
        flows = Counter(self._storing)
        room = limits.MAX_TOTAL_BUFFERED_EVENTS - len(self._buffer) - self._storing.total()
        for arrival, event in zip(arrivals, events, strict=True):
            room -= 1
            full = room < 0
            if not arrival.execution_id:  # an execution has one token at a time for each of its callbacks
                flows[arrival.flow_id] += 1
                full |= self._buffer.of_flow(arrival.flow_id) + flows[arrival.flow_id] > limits.MAX_BUFFERED_EVENTS
            # an event that an execution waits for is delivered, so it takes no room in the buffer
            if full and not self._subscriptions.listening(event, 1):
                raise ExhaustedError(
                    f"too many events are buffered that {arrival.flow_id} may listen for later",
                    reason="EVENT_BUFFER_FULL",
                    retry_after=FULL_RETRY_SECONDS,
                )

    def _on_logged(self, arrivals: Sequence[LoggedInboundEvent]) -> None:
        for number, arrival, seq in arrivals:
            event = self._incoming(arrival)
            to_all = arrival.to_all or not arrival.callback
            self._arrive(ArrivedEvent(number, BufferedEvent(_kind(event), seq, arrival.expire_at_ms, to_all), event))
            event.content.release()

    def _incoming(self, arrival: NewInboundEvent, content: EventContent | None = None) -> IncomingEvent:
        """Return an event; events with the same payload object share its content while one of them is published."""
        payload = arrival.payload
        if content is None or content.payload is not payload:
            content = self._contents.get(id(payload)) or EventContent(payload)
        self._contents[id(payload)] = content
        return IncomingEvent(arrival.flow_id, callback=arrival.callback, type_=arrival.type, payload=content)

    def _arrive(self, arrival: ArrivedEvent) -> None:
        """Deliver an arrival whose content is in memory to those that wait for it, or buffer it."""
        if not self._writer.is_running or not self._deliver_to(arrival, self._receivers(arrival)):
            self._buffer_event(arrival)

    def _deliver_to(self, arrival: ArrivedEvent, receivers: Sequence[EventReceiver]) -> bool:
        """Deliver to the parked receivers, else offer to one that listens while it runs; false: there is none."""
        taken = self._take(arrival, receivers)
        if taken:
            self._writer.spawn(self._deliver(arrival, taken))
            return True
        for receiver in receivers if self._live else ():
            offer = self._live.offer(receiver, arrival)
            if offer is not None:
                self._writer.spawn(self._hand_over(arrival, offer))
                return True
        return False

    def _take(self, arrival: ArrivedEvent, receivers: Sequence[EventReceiver]) -> list[Unparked]:
        """Unpark the receivers that are parked: all of them, or the one that has waited longest."""
        if arrival.buffered.to_all:
            return self._parked.take(receivers)
        return next((taken for each in receivers if (taken := self._parked.take([each]))), [])

    def redeliver(self, arrival: ArrivedEvent) -> None:
        """Deliver an arrival again that was offered and not consumed; it is still in storage."""
        self._writer.spawn(self._redeliver(arrival))

    async def _redeliver(self, arrival: ArrivedEvent) -> None:
        event = await self._content(arrival)
        if event is not None:
            self._arrive(arrival._replace(event=event))

    def _receivers(self, arrival: ArrivedEvent) -> list[EventReceiver]:
        if arrival.event is None:
            return []
        if not arrival.buffered.seq:
            return self._subscriptions.listening(arrival.event, limits.MAX_RECEIVERS)
        receiver = self._subscriptions.listens(arrival.buffered.seq, arrival.event)
        return [] if receiver is None else [receiver]

    def _buffer_event(self, arrival: ArrivedEvent) -> None:
        number, (kind, seq, expire_at_ms, to_all), event = arrival
        if seq and self._core.pending.is_ending(seq):
            return  # what was buffered for it has been removed already
        self._buffer.add(number, kind, expire_at_ms, seq=seq, to_all=to_all, event=event)

    # --- delivering -------------------------------------------------------------------------------------------------

    async def _deliver(self, arrival: ArrivedEvent, taken: Sequence[Unparked]) -> None:
        event = arrival.event or await self._content(arrival)
        if event is None:  # it has just expired: the receivers are requeued, and subscribe again
            await self._transitions.apply(
                TransitionBatch(losses=[RequeuePending(each.seq, each.attempts) for each in taken])
            )
            return
        fitting = await self._parked.check_room(taken)
        payload = event.payload
        delivered = [Delivered(seq, JournalEntry(key, payload), attempts) for seq, key, attempts in fitting.taken]
        consumed = [Consumed(arrival.number)] if delivered else []
        is_callback = arrival.buffered.kind[1]  # which no execution emits
        received = [] if is_callback else [EventReceived(each.seq, arrival.number) for each in delivered]
        await self._transitions.apply(TransitionBatch(received, fitting.ends, delivered=delivered, consumed=consumed))
        if not delivered:  # none of the receivers can take it any more
            self._arrive(arrival._replace(event=event))

    async def _hand_over(self, arrival: ArrivedEvent, offer: PendingDelivery) -> None:
        event = arrival.event or await self._content(arrival)
        if event is None:  # it has just expired
            self._effects.add(ListenAgain(offer.seq, offer.number))
        else:
            self._live.hand_over(offer, event.payload)

    async def _content(self, arrival: ArrivedEvent) -> IncomingEvent | None:
        payloads = await self._read([arrival.number])
        flow_id, callback, type_ = arrival.buffered.kind
        payload = payloads.get(arrival.number)
        return None if payload is None else IncomingEvent(flow_id, callback=callback, type_=type_, payload=payload)

    async def _read(self, numbers: Sequence[int]) -> dict[int, bytes]:
        return await self._writer.call_with_retry(lambda: self._state.arrival_payloads(numbers))

    # --- beginning to wait ------------------------------------------------------------------------------------------

    def listen(self, seq: int, flow_id: str, wait: WaitHandle, subscriptions: Sequence[Subscription]) -> None:
        """Deliver the oldest buffered arrival that matches to an execution that begins to wait, if there is one."""
        if not self._buffer.concern(seq, flow_id):
            return
        self._buffer.expire(self._now_ms())
        if self._buffer.unknown(flow_id, subscriptions):
            self._writer.spawn(self._learn(seq, flow_id, wait, subscriptions))
        else:
            self._deliver_oldest(seq, flow_id, subscriptions)

    def _deliver_oldest(self, seq: int, flow_id: str, subscriptions: Sequence[Subscription]) -> None:
        match = self._buffer.oldest(seq, flow_id, subscriptions)
        buffered = None if match is None else self._buffer.take(match.number)
        if match is not None and buffered is not None:
            arrival = ArrivedEvent(match.number, buffered, None)
            if not self._deliver_to(arrival, [EventReceiver(seq, match.key)]):
                self._buffer_event(arrival)

    async def _learn(self, seq: int, flow_id: str, wait: WaitHandle, subscriptions: Sequence[Subscription]) -> None:
        """Read the arrivals whose values are not known, while the execution waits; then look for a match again."""
        while self._subscriptions.is_current(seq, wait):
            numbers = self._buffer.unknown(flow_id, subscriptions)[:EVENTS_PER_READ]
            if not numbers:
                self._deliver_oldest(seq, flow_id, subscriptions)
                return
            payloads = await self._read(numbers)
            read_up_to = max(payloads, default=numbers[-1])
            for number in numbers:
                if number in payloads:
                    self._buffer.learn(number, payloads[number])
                elif number < read_up_to or not payloads:
                    self._buffer.take(number)  # it has expired in storage

    # --- starting ---------------------------------------------------------------------------------------------------

    async def recover(self) -> None:
        """Load arrivals from storage, and deliver or buffer them. Call it once, when all waiting executions are known.

        Raises:
            UnavailableError: storage can't serve.
        """
        after = 0
        while rows := await self._state.arrivals(after_number=after):
            after = rows[-1].number
            for number, flow_id, callback, type_, expire_at_ms, seq, to_all in rows:
                buffered = BufferedEvent((flow_id, callback, type_), seq, expire_at_ms, to_all or not callback)
                arrival = ArrivedEvent(number, buffered, None)
                if expire_at_ms > self._now_ms():
                    await self._recover(arrival)
        if self._buffer:
            log.info("buffered events recovered", events=len(self._buffer))

    async def _recover(self, arrival: ArrivedEvent) -> None:
        if not self._subscriptions.concern(arrival.buffered.kind):
            self._buffer_event(arrival)
            return
        event = await self._content(arrival)
        if event is None:
            return
        arrival = arrival._replace(event=event)
        taken = self._take(arrival, self._receivers(arrival))
        if taken:
            await self._deliver(arrival, taken)
        else:
            self._buffer_event(arrival)


def _kind(event: IncomingEvent) -> EventKind:
    return event.flow_id, event.callback, event.type


def _portions(arrivals: Sequence[NewInboundEvent]) -> list[list[NewInboundEvent]]:
    """Split arrivals into portions of at most `CALL_BYTES`; a larger arrival is a portion of its own."""
    portions: list[list[NewInboundEvent]] = []
    size = CALL_BYTES
    for arrival in arrivals:
        if size + len(arrival.payload) > CALL_BYTES:
            portions.append([])
            size = 0
        portions[-1].append(arrival)
        size += len(arrival.payload)
    return portions


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


@attrs.define(eq=False, repr=False, kw_only=True)
class ParkedExecutions:
    """Subscribes executions that begin to wait, and unsubscribes those that do not wait any more."""

    _core: Shard
    _writer: RetryingWriter
    _subscriptions: Subscriptions
    _live: LiveDelivery
    _events: EventDispatcher
    _completions: CompletionWaits
    _recovered: list[CompletionWait] = attrs.field(init=False, factory=list)

    def begin(self, seq: int, subscriptions: Sequence[Subscription]) -> None:
        """Subscribe a parked execution, unless an operator has removed it meanwhile."""
        flow_id = self._core.waiting_flow(seq)
        if flow_id is not None:
            self._subscribe(seq, flow_id, subscriptions)

    def listen(self, listening: SubscriptionUpdate) -> bool:
        """Subscribe a running execution; false: the lease is stale."""
        lease = self._live.listen(listening)
        if lease is not None and listening.subscriptions:
            self._subscribe(lease.seq, lease.queue.flow_id, listening.subscriptions)
        return lease is not None

    def listen_again(self, seq: int, number: int) -> None:
        """Subscribe a running execution again to which an event was offered that has expired."""
        listening = self._live.withdraw(seq, number)
        if listening is not None:
            self._subscribe(seq, *listening)

    def _subscribe(self, seq: int, flow_id: str, subscriptions: Sequence[Subscription]) -> None:
        wait = self._subscriptions.add(seq, flow_id, subscriptions)
        if awaited := completion_waits(seq, wait, subscriptions):
            self._writer.spawn(self._completions.expect(awaited))
        self._events.listen(seq, flow_id, wait, subscriptions)

    def leave(self, seq: int) -> None:
        """Unsubscribe an execution that does not wait any more."""
        self._live.leave(seq)
        self._subscriptions.remove(seq)

    def recover(self, row: UnfinishedExecution) -> None:
        """Register an execution found waiting at start-up; call `settle` after the last one."""
        wait = self._subscriptions.add(row.seq, row.flow_id, row.subscriptions)
        self._recovered += completion_waits(row.seq, wait, row.subscriptions)

    async def settle(self) -> None:
        """Deliver stored events and ends to the recovered executions. Call it once, at the end of start-up.

        Raises:
            UnavailableError: storage can't serve.
        """
        recovered, self._recovered = self._recovered, []
        await self._completions.expect(recovered)
        await self._events.recover()
