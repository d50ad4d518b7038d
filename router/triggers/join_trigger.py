"""Starts flows that need several events (`schedule.on.all`); buffers the events until there is one for each filter.

They are stored as inbound events under an ID that no flow has, so that no running execution of the flow consumes an
event that is to start one. A single task correlates them. It first starts an execution, under the ID derived for the
event that completed the set, and then removes the events: after a crash in between, the same start is tried again and
found to be a duplicate.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

import attrs
import orjson

from flowhook import limits
from flowhook.asyncio_tasks import wait_at_most
from flowhook.errors import FlowhookError, InvalidError, NotFoundError
from flowhook.events.lifecycle import is_reserved_type
from flowhook.model import Origin
from flowhook.process import logs
from router.dispatch.event_delivery import EventDispatcher
from router.dispatch.parts import ShardParts
from router.flows.event_triggers import EventJoin, EventTrigger, FlowIndex
from router.scheduling.matching import EventContent, InboundEvent
from router.storage.model import NewInboundEvent
from router.triggers.execution_starter import ExecutionStart, ExecutionStarter

# seconds between scans of all flows: for events whose caller disconnected while storing them, and for retries
LOOK_SECONDS: Final = 2.0
CHUNK: Final = 128  # most events in one read
log = logs.get_logger(__name__)


class _Complete(NamedTuple):
    event_id: str  # ID of the execution, from the event that completed the set
    depth: int  # of the execution, from the same event
    quiet: bool  # whether no lifecycle events are published for the execution, from the same event
    numbers: list[int]  # of the events, in the order of the filters


class _Flow:
    """One flow: its trigger, its waiting events, and the complete sets that start executions."""

    def __init__(self, trigger: EventTrigger) -> None:
        self.trigger = trigger
        self.failing = False
        self.begin()

    def begin(self) -> None:
        """Reset, so that all events are correlated again."""
        self.join = EventJoin(self.trigger)
        self.complete: deque[_Complete] = deque()
        # emitters of the waiting events, and of those in complete sets, by number; empty: unknown
        self.emitters: dict[int, str] = {}
        self.seen = 0


@attrs.define(eq=False, repr=False)
class JoinTrigger:
    """Starts flows that need several events. Register flows with `put`, then let `run` run beside the server."""

    _parts: ShardParts
    _events: EventDispatcher
    _starter: ExecutionStarter
    _look_seconds: float = attrs.field(default=LOOK_SECONDS, kw_only=True)
    _index: FlowIndex = attrs.field(init=False, factory=FlowIndex)
    _flows: dict[str, _Flow] = attrs.field(init=False, factory=dict)
    _changed: dict[str, None] = attrs.field(init=False, factory=dict)  # flows with events to process
    _woken: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)

    def put(self, flow_id: str, trigger: EventTrigger | None) -> None:
        """Register a flow that needs several events, or (None) unregister it and remove its buffered events."""
        there = self._flows.get(flow_id)
        if trigger is None:
            self._index.put(flow_id, ())
            if self._flows.pop(flow_id, None) is not None:
                self._events.forget([number for number, _ in self._events.buffered_for(_shelf(flow_id))])
        elif there is None or there.trigger != trigger:
            self._index.put(flow_id, trigger.filters)
            self._flows[flow_id] = _Flow(trigger)
            self.arrived(flow_id)

    def waiting(self, flow_id: str) -> int:
        return len(self._flows[flow_id].join)

    def names(self, type_: str) -> bool:
        return self._index.names(type_)

    def find(self, event: InboundEvent) -> list[str]:
        return [flow_id for flow_id in self._index.find(event) if self._flows[flow_id].join.accepts(event)]

    def arrived(self, flow_id: str) -> None:
        self._changed[flow_id] = None
        self._woken.set()

    async def run(self) -> None:
        while True:
            self._woken.clear()
            await self.turn()
            if await wait_at_most(self._look_seconds if self._flows else None, self._woken.wait()):
                continue
            self._changed |= dict.fromkeys(self._flows)

    async def turn(self) -> None:
        """Process all flows with new events: correlate these, and start executions."""
        changed, self._changed = self._changed, {}
        for flow_id in changed:
            flow = self._flows.get(flow_id)
            if flow is not None:
                try:
                    await self._look(flow_id, flow)
                except FlowhookError as error:
                    if not flow.failing:
                        log.warning("event trigger failed; trying again", flow=flow_id, reason=error.reason)
                    flow.failing = True
                else:
                    flow.failing = False

    async def _look(self, flow_id: str, flow: _Flow) -> None:
        """Start a flow by its complete sets, and correlate the events that were stored since the last call."""
        while (oldest := flow.join.oldest) is not None and not self._events.is_buffered(oldest):
            flow.join.remove(oldest)  # it expired
            flow.emitters.pop(oldest, None)
        while True:
            while flow.complete:
                await self._start(flow_id, flow, flow.complete[0])
            buffered = self._events.buffered_for(_shelf(flow_id), after=flow.seen)[:CHUNK]
            if not buffered:
                return
            payloads = await self._parts.state.inbound_payloads([number for number, _ in buffered])
            for number, label in buffered:
                payload = payloads.get(number)
                if payload is not None:
                    self._gather(flow, number, label, payload)
                elif payloads and number > max(payloads):
                    break  # storage bounds the bytes of one read: read the rest next
                else:
                    self._events.forget([number])
                flow.seen = number

    def _gather(self, flow: _Flow, number: int, label: str, payload: bytes) -> None:
        event = InboundEvent("", callback=False, type=orjson.loads(payload)["type"], content=EventContent(payload))
        if not flow.join.accepts(event):  # it matched an earlier revision of the flow
            self._events.forget([number])
            return
        event_id, depth, emitter, *quiet = label.split("/")
        flow.emitters[number] = emitter
        numbers = flow.join.add(number, event)
        if numbers is not None:
            flow.complete.append(_Complete(event_id, int(depth), bool(quiet), numbers))

    async def _start(self, flow_id: str, flow: _Flow, complete: _Complete) -> None:
        payloads: dict[int, bytes] = {}
        wanted = sorted(complete.numbers)
        while wanted and (read := await self._parts.state.inbound_payloads(wanted)):
            payloads |= read
            wanted = [number for number in wanted if number > max(read)]
        if len(payloads) < len(complete.numbers):  # one of them has expired: others may complete the set
            flow.begin()
            return
        events = [payloads[number] for number in complete.numbers]
        size = sum(map(len, events))
        if size > limits.MAX_BODY_BYTES:
            log.warning("joined events are too large to start a flow", flow=flow_id, bytes=size)
        else:
            try:
                await self._begin(flow_id, flow, complete, events)
            except InvalidError as error:  # permanent: drop the set, lest it block those behind it
                log.warning("event trigger failed", flow=flow_id, reason=error.reason)
        flow.complete.popleft()
        for number in complete.numbers:
            flow.emitters.pop(number, None)
        self._events.forget(complete.numbers)

    async def _begin(self, flow_id: str, flow: _Flow, complete: _Complete, events: Sequence[bytes]) -> None:
        quiet = complete.quiet or any(is_reserved_type(orjson.loads(each)["type"]) for each in events)
        body, emitters = flow.trigger.input_of(events), tuple(flow.emitters[number] for number in complete.numbers)
        start = ExecutionStart(
            complete.event_id, flow_id, Origin.EVENTS, body, complete.depth, quiet, emitters=emitters
        )
        (result,) = await self._starter.start([start])
        if isinstance(result, FlowhookError) and not isinstance(result, NotFoundError):
            raise result


def inbound_event(
    flow_id: str, event_id: str, payload: bytes, now_ms: int, *, depth: int, emitter: str, quiet: bool = False
) -> NewInboundEvent:
    """Return an event as it is buffered for a flow. The caller stores it, then calls `JoinTrigger.arrived`.

    It has the ID of the execution that starts if it completes a set, which then is `quiet`, too. `depth` is that of the
    execution that emits it.
    """
    # no execution subscribes to this flow ID or type, so the type may carry the parameters of the start
    label = f"{event_id}/{depth + 1}/{emitter}{'/quiet' if quiet else ''}"
    return NewInboundEvent(event_id, _shelf(flow_id), False, label, now_ms, payload)


def _shelf(flow_id: str) -> str:
    """Return the pseudo flow ID under which the events that start a flow are buffered; flow IDs contain no slash."""
    return f"{flow_id}/all"
