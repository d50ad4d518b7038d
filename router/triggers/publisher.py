"""Gives events that flows emit to the flows that want them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from flowhook import limits
from flowhook.cloud_events import parse
from flowhook.errors import ExhaustedError, FlowhookError, NotFoundError
from flowhook.lifecycle import TYPES, is_lifecycle
from flowhook.model import Flow, Origin
from router.dispatch.arrivals import Arrivals
from router.dispatch.occurrences import Occurrences
from router.metrics import RouterMetrics
from router.reactions.definition import Reactions
from router.reactions.index import FlowIndex
from router.scheduling.matching import Content, IncomingEvent
from router.storage.arrivals import NewArrival
from router.triggers.effects import Effect, check_depth
from router.triggers.gatherer import Gatherer
from router.triggers.starter import Start, Starter

BATCH: Final = limits.MAX_BATCH_EVENTS
"""Flows that are started together."""


class Publisher:
    """See the module. It knows from the start on which flows want which events."""

    def __init__(
        self,
        *,
        arrivals: Arrivals,
        gatherer: Gatherer,
        starter: Starter,
        metrics: RouterMetrics,
        occurrences: Occurrences,
        now_ms: Callable[[], int],
    ) -> None:
        self._arrivals = arrivals
        self._gatherer = gatherer
        self._starter = starter
        self._metrics = metrics
        self._occurrences = occurrences
        self._now_ms = now_ms
        self._listening = FlowIndex()
        self._started = FlowIndex()

    def react(self, flow: Flow, reactions: Reactions) -> None:
        """See `Reacting`."""
        trigger = reactions.trigger
        together = trigger is not None and trigger.all
        self._listening.put(flow.id, reactions.listens)
        self._started.put(flow.id, () if trigger is None or together else trigger.filters)
        self._gatherer.put(flow.id, trigger if together else None)
        self._want()

    def remove(self, flow_id: str) -> None:
        """See `Reacting`. Executions that wait already get events all the same."""
        self._listening.put(flow_id, ())
        self._started.put(flow_id, ())
        self._gatherer.put(flow_id, None)
        self._want()

    def _want(self) -> None:
        indexes = (self._started, self._listening, self._gatherer)
        self._occurrences.flows_want(frozenset(type_ for type_ in TYPES if any(each.names(type_) for each in indexes)))

    async def publish(self, payload: bytes, effect: Effect, *, depth: int = 0, emitter: str = "") -> int:
        """Have an event stored for every flow that wants it, once for each effect.

        A flow that has no room for it is in nobody's way: the others get it all the same.

        Args:
            payload: the event, JSON.
            effect: what emits it.
            depth: of the execution that does; see `Event.depth`.
            emitter: its ID.

        Returns:
            How many flows want it: none if its type is one of those that are told of executions, which no flow may say.

        Raises:
            InvalidError: it is no CloudEvent (`CLOUD_EVENT_INVALID`), or would start a flow, by one that events started
                in too long a row (`WORKFLOW_TOO_DEEP`): nobody gets it.
            ExhaustedError: a flow has no room (`ARRIVALS_FULL`, `BACKLOG_FULL`).
            UnavailableError: storage can't serve, or all flows together have no room (`TOTAL_BACKLOG_FULL`).
        """
        type_ = parse(payload)["type"]
        receivers = 0
        if not is_lifecycle(type_):
            event = IncomingEvent("", callback=False, type_=type_, payload=payload)
            started, gathering = self._started.find(event), self._gatherer.find(event)
            quiet = False
            if started or gathering:
                check_depth(depth)
                quiet = await self._starter.is_quiet(emitter)
            receivers = await self._give(event, effect, started, gathering, depth=depth, quiet=quiet)
        self._metrics.emitted(heard=receivers > 0)
        return receivers

    async def tell(self, payload: bytes, type_: str, effect: Effect) -> int:
        """Have what happened to an execution stored for every flow that wants to know, once for each effect.

        Nothing is told of executions that it starts, nor of what these start: else one that wants to know of every end
        would be told of its own.

        Returns:
            How many flows want it.

        Raises:
            FlowhookError: as with `publish`.
        """
        event = IncomingEvent("", callback=False, type_=type_, payload=payload)
        started, gathering = self._started.find(event), self._gatherer.find(event)
        return await self._give(event, effect, started, gathering, depth=0, quiet=True)

    async def _give(
        self,
        event: IncomingEvent,
        effect: Effect,
        started: Sequence[str],
        gathering: Sequence[str],
        *,
        depth: int,
        quiet: bool,
    ) -> int:
        now_ms, payload = self._now_ms(), event.payload
        listening = self._listening.find(event)
        listening += self._arrivals.waiting_flows(event, besides=set(listening))
        await _all(
            self._start(
                [
                    Start(effect.id_of("start", flow_id), flow_id, Origin.EVENTS, b"[%b]" % payload, depth + 1, quiet)
                    for flow_id in started
                ]
            ),
            self._keep(
                [
                    NewArrival(effect.id_of("listen", flow_id), flow_id, False, event.type, now_ms, payload)
                    for flow_id in listening
                ]
                + [
                    self._gatherer.arrival(
                        flow_id, effect.id_of("gather", flow_id), payload, now_ms, depth=depth, quiet=quiet
                    )
                    for flow_id in gathering
                ],
                event.content,
            ),
        )
        for flow_id in gathering:
            self._gatherer.arrived(flow_id)
        return len({*started, *gathering, *listening})

    async def _start(self, starts: Sequence[Start]) -> None:
        """Start executions, all that can be started, then raise why others can't."""
        results = [
            result
            for first in range(0, len(starts), BATCH)
            for result in await self._starter.start(starts[first : first + BATCH])
        ]
        for result in results:
            if isinstance(result, FlowhookError) and not isinstance(result, NotFoundError):
                raise result

    async def _keep(self, arrivals: Sequence[NewArrival], content: Content) -> None:
        """Store arrivals, all that there is room for, then raise why there is none for others."""
        try:
            await self._arrivals.publish(arrivals, content=content)
        except ExhaustedError:
            await _all(*(self._arrivals.publish([arrival], content=content) for arrival in arrivals))


async def _all(*work: Awaitable[object]) -> None:
    """Do all of it, then raise the first error there was."""
    for result in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
