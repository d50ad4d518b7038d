"""Delivers emitted events and lifecycle events to the flows that want them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Final

import attrs
from typing_extensions import override

from flowhook import limits
from flowhook.errors import ExhaustedError, FlowhookError, NotFoundError
from flowhook.events.cloud_events import parse
from flowhook.events.lifecycle import TYPES, encode_event, is_reserved_type
from flowhook.model import Flow, Origin
from flowhook.process import logs
from router.dispatch.event_delivery import EventDispatcher
from router.dispatch.parts import ShardParts
from router.flows.event_triggers import EventTrigger, FlowIndex, FlowTriggers
from router.flows.flow_table import TriggerSink
from router.scheduling.matching import EventContent, InboundEvent
from router.storage.model import NewInboundEvent
from router.triggers.execution_starter import EffectIds, ExecutionStart, ExecutionStarter, check_depth
from router.triggers.join_trigger import JoinTrigger, inbound_event

BATCH: Final = limits.MAX_BATCH_EVENTS  # flows started in one batch
log = logs.get_logger(__name__)


@attrs.define(eq=False, repr=False)
class EventPublisher(TriggerSink):
    """Delivers events to flows; knows the wanted events of all flows from start-up on."""

    _parts: ShardParts
    _events: EventDispatcher
    _join_trigger: JoinTrigger
    _starter: ExecutionStarter
    _listening: FlowIndex = attrs.field(init=False, factory=FlowIndex)
    _started: FlowIndex = attrs.field(init=False, factory=FlowIndex)
    _triggers: dict[str, EventTrigger] = attrs.field(init=False, factory=dict)  # of the flows in `_started`

    @override
    def react(self, flow: Flow, triggers: FlowTriggers) -> None:
        trigger = triggers.trigger
        together = trigger is not None and trigger.all
        self._listening.put(flow.id, triggers.listens)
        self._put(flow.id, None if together else trigger)
        self._join_trigger.put(flow.id, trigger if together else None)
        self._want()

    @override
    def remove(self, flow_id: str) -> None:
        # executions that wait already still receive events
        self._listening.put(flow_id, ())
        self._put(flow_id, None)
        self._join_trigger.put(flow_id, None)
        self._want()

    def _put(self, flow_id: str, trigger: EventTrigger | None) -> None:
        self._started.put(flow_id, () if trigger is None else trigger.filters)
        if trigger is None:
            self._triggers.pop(flow_id, None)
        else:
            self._triggers[flow_id] = trigger

    def _want(self) -> None:
        indexes = (self._started, self._listening, self._join_trigger)
        self._parts.outbox.set_wanted_by_flows(
            frozenset(type_ for type_ in TYPES if any(each.names(type_) for each in indexes))
        )

    async def publish(self, payload: bytes, effect: EffectIds, *, depth: int = 0, emitter: str = "") -> int:
        """Store an emitted event, JSON, for every flow that wants it, once for each effect.

        A flow that has no room for it does not keep other flows from receiving it. `depth` and `emitter` are those of
        the emitting execution.

        Returns the number of flows that want it; 0 for the type of a lifecycle event, which no flow may emit.

        Raises:
            InvalidError: it is not a CloudEvent (`CLOUD_EVENT_INVALID`), or would start a flow beyond the limit of
                flows that start one another (`WORKFLOW_TOO_DEEP`): no flow receives it.
            ExhaustedError: a flow has no room (`EVENT_BUFFER_FULL`, `BACKLOG_FULL`).
            UnavailableError: storage can't serve, or the backlog of all flows together is full
                (`TOTAL_BACKLOG_FULL`).
        """
        type_ = parse(payload)["type"]
        receivers = 0
        if not is_reserved_type(type_):
            receivers = await self._deliver(payload, type_, effect, depth=depth, emitter=emitter)
        self._parts.metrics.by_label["flowhook_router_emitted_total"]["heard" if receivers else "unheard"] += 1
        return receivers

    async def publish_lifecycle_event(self, payload: bytes, type_: str, effect: EffectIds, *, emitter: str) -> int:
        """Store a lifecycle event of `emitter` for every flow that wants it, once for each effect; see `publish`.

        No lifecycle events are published for executions that it starts, nor for those that these start: else a flow
        started by the end of any execution would be started by its own.
        """
        return await self._deliver(payload, type_, effect, depth=0, emitter=emitter, quiet=True)

    async def announce(
        self, kind: str, data: Mapping[str, Any], *, event_id: str, source: str, subject: str, time_ms: int
    ) -> None:
        """Publish a lifecycle event that is not of an execution; a flow that has no room for it does not get it."""
        event = encode_event(kind, data, event_id=event_id, source=source, subject=subject, time_ms=time_ms)
        try:
            await self.publish_lifecycle_event(event, kind, EffectIds(event_id, event_id), emitter="")
        except ExhaustedError:
            log.warning("a flow has no room for a lifecycle event", type=kind, subject=subject)

    async def _deliver(
        self, payload: bytes, type_: str, effect: EffectIds, *, depth: int, emitter: str, quiet: bool = False
    ) -> int:
        event = InboundEvent("", callback=False, type=type_, content=EventContent(payload))
        started, joining = self._started.find(event), self._join_trigger.find(event)
        if started or joining:
            check_depth(depth)
            quiet = quiet or await self._starter.is_quiet(emitter)
        now_ms = self._parts.now_ms()
        listening = self._listening.find(event)
        listening += self._events.waiting_flows(event, besides=set(listening))
        ids = effect.derive
        triggers = {flow_id: self._triggers[flow_id] for flow_id in started}
        inputs = {each.read: each.input_of([payload]) for each in triggers.values()}
        starts = [
            ExecutionStart(
                ids("start", flow_id), flow_id, Origin.EVENTS, inputs[each.read], depth + 1, quiet, parent=emitter
            )
            for flow_id, each in triggers.items()
        ]
        inbound = [
            NewInboundEvent(ids("listen", flow_id), flow_id, False, type_, now_ms, payload, emitter=emitter)
            for flow_id in listening
        ]
        inbound += [
            inbound_event(flow_id, ids("gather", flow_id), payload, now_ms, depth=depth, quiet=quiet, emitter=emitter)
            for flow_id in joining
        ]
        await _all(self._start(starts), self._keep(inbound, event.content))
        for flow_id in joining:
            self._join_trigger.arrived(flow_id)
        return len({*started, *joining, *listening})

    async def _start(self, starts: Sequence[ExecutionStart]) -> None:
        """Start all executions that can be started, then raise the first error of the others."""
        results = [
            result
            for first in range(0, len(starts), BATCH)
            for result in await self._starter.start(starts[first : first + BATCH])
        ]
        for result in results:
            if isinstance(result, FlowhookError) and not isinstance(result, NotFoundError):
                raise result

    async def _keep(self, events: Sequence[NewInboundEvent], content: EventContent | None) -> None:
        """Store all events that there is room for, then raise the first error of the others."""
        try:
            await self._events.publish(events, content=content)
        except ExhaustedError:
            await _all(*(self._events.publish([event], content=content) for event in events))


async def _all(*work: Awaitable[object]) -> None:
    """Await all of `work` concurrently, then raise the first error, if any."""
    for result in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
