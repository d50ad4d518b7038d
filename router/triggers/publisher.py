"""Gives events that flows emit to the flows that want them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from flowhook import limits
from flowhook.cloud_events import parse
from flowhook.errors import FlowhookError, NotFoundError
from flowhook.model import Flow, Origin
from router.metrics import RouterMetrics
from router.reactions.definition import Reactions
from router.reactions.index import FlowIndex
from router.scheduling.matching import IncomingEvent
from router.triggers.effects import Effect
from router.triggers.starter import Start, Starter

BATCH: Final = limits.MAX_BATCH_EVENTS
"""Flows that are started together."""


class Publisher:
    """See the module. It knows from the start on which flows want which events."""

    def __init__(self, *, starter: Starter, metrics: RouterMetrics) -> None:
        self._starter = starter
        self._metrics = metrics
        self._started = FlowIndex()

    def react(self, flow: Flow, reactions: Reactions) -> None:
        """See `Reacting`."""
        trigger = reactions.trigger
        self._started.put(flow.id, () if trigger is None or trigger.all else trigger.filters)

    def remove(self, flow_id: str) -> None:
        """See `Reacting`."""
        self._started.put(flow_id, ())

    async def publish(self, payload: bytes, effect: Effect) -> int:
        """Have an event stored for every flow that wants it, once for each effect.

        A flow that has no room for it is in nobody's way: the others get it all the same.

        Args:
            payload: the event, JSON.
            effect: what emits it.

        Returns:
            How many flows want it.

        Raises:
            InvalidError: it is no CloudEvent (`CLOUD_EVENT_INVALID`).
            ExhaustedError: a flow has no room (`ARRIVALS_FULL`, `BACKLOG_FULL`).
            UnavailableError: storage can't serve, or all flows together have no room (`TOTAL_BACKLOG_FULL`).
        """
        event = IncomingEvent("", callback=False, type_=parse(payload)["type"], payload=payload)
        started = self._started.find(event)
        starts = [
            Start(effect.id_of("start", flow_id), flow_id, Origin.EVENTS, b"[%b]" % payload) for flow_id in started
        ]
        await self._start(starts)
        self._metrics.emitted(heard=bool(started))
        return len(started)

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
