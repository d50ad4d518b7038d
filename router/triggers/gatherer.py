"""Starts flows by several events together (`schedule.on.all`), which are kept until there is one of each.

They are kept as arrivals under an ID that no flow has, so that no execution of the flow takes one that is to start
another. One task puts them together. It starts an execution first, under the ID that the event brought which made it
complete, and has the events consumed after that: if a crash comes between the same start is tried again, and found to
be there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Final, NamedTuple

import orjson

from flowhook import limits, logs
from flowhook.errors import FlowhookError, InvalidError, NotFoundError
from flowhook.lifecycle import is_lifecycle
from flowhook.model import Origin
from router.dispatch.arrivals import Arrivals
from router.reactions.definition import Trigger
from router.reactions.gathering import Gathering
from router.reactions.index import FlowIndex
from router.scheduling.matching import IncomingEvent
from router.storage.arrivals import NewArrival
from router.storage.interface import ShardState
from router.triggers.starter import Start, Starter

LOOK_SECONDS: Final = 2.0
"""Between two looks at all flows: for events whose caller hung up when they were stored, and for what failed before."""

CHUNK: Final = 128
"""Events that are read at a time."""

log = logs.get_logger(__name__)


class _Complete(NamedTuple):
    """Events that start an execution together, in order, and what the last of them to come says of that."""

    event_id: str
    depth: int
    quiet: bool
    numbers: list[int]


class _Flow:
    """One flow: its trigger, the events that wait for others, and those that are complete and start an execution."""

    def __init__(self, trigger: Trigger) -> None:
        self.trigger = trigger
        self.failing = False
        self.begin()

    def begin(self) -> None:
        """Put all events together anew."""
        self.gathering = Gathering(self.trigger)
        self.complete: deque[_Complete] = deque()
        self.seen = 0


class Gatherer:
    """See the module. Have it told of flows, then let `run` run beside the server."""

    def __init__(self, *, arrivals: Arrivals, state: ShardState, starter: Starter) -> None:
        self._arrivals = arrivals
        self._state = state
        self._starter = starter
        self._index = FlowIndex()
        self._flows: dict[str, _Flow] = {}
        self._news: dict[str, None] = {}
        """Flows that are to be looked at."""
        self._woken = asyncio.Event()

    def put(self, flow_id: str, trigger: Trigger | None) -> None:
        """Have a flow started by several events together, or (None) not any more: what was kept for it is forgotten."""
        there = self._flows.get(flow_id)
        if trigger is None:
            self._index.put(flow_id, ())
            if self._flows.pop(flow_id, None) is not None:
                self._arrivals.forget([number for number, _ in self._arrivals.kept_of(_shelf(flow_id))])
        elif there is None or there.trigger != trigger:
            self._index.put(flow_id, trigger.filters)
            self._flows[flow_id] = _Flow(trigger)
            self.arrived(flow_id)

    def names(self, type_: str) -> bool:
        """Whether events of a type help to start a flow that names it."""
        return self._index.names(type_)

    def find(self, event: IncomingEvent) -> list[str]:
        """Return the flows that an event may help to start."""
        return [flow_id for flow_id in self._index.find(event) if self._flows[flow_id].gathering.fits(event)]

    @staticmethod
    def arrival(
        flow_id: str, event_id: str, payload: bytes, now_ms: int, *, depth: int, quiet: bool = False
    ) -> NewArrival:
        """Return what keeps an event for a flow, to be stored; then `arrived` is to be told.

        Args:
            flow_id: the flow.
            event_id: of the arrival, and of the execution that starts if this event makes it complete.
            payload: the event, JSON.
            now_ms: the present.
            depth: of the execution that emits it.
            quiet: nothing is told of what it starts.
        """
        # executions ask for it neither by flow nor by type: the latter keeps at hand what is to start
        label = f"{event_id}/{depth + 1}{'/quiet' if quiet else ''}"
        return NewArrival(event_id, _shelf(flow_id), False, label, now_ms, payload)

    def arrived(self, flow_id: str) -> None:
        """Have a flow looked at soon."""
        self._news[flow_id] = None
        self._woken.set()

    async def run(self) -> None:
        """Start flows until cancelled."""
        while True:
            self._woken.clear()
            await self.turn()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS if self._flows else None):
                    await self._woken.wait()
                continue
            self._news |= dict.fromkeys(self._flows)

    async def turn(self) -> None:
        """Start what is complete of all flows that have news."""
        news, self._news = self._news, {}
        for flow_id in news:
            flow = self._flows.get(flow_id)
            if flow is not None:
                try:
                    await self._look(flow_id, flow)
                except FlowhookError as error:
                    if not flow.failing:
                        log.warning("events can't start a flow; trying again", flow=flow_id, reason=error.reason)
                    flow.failing = True
                else:
                    flow.failing = False

    async def _look(self, flow_id: str, flow: _Flow) -> None:
        """Start a flow by what is complete, and put together what came since it was looked at last."""
        while (oldest := flow.gathering.oldest) is not None and not self._arrivals.keeps(oldest):
            flow.gathering.remove(oldest)  # it expired
        while True:
            while flow.complete:
                await self._start(flow_id, flow, flow.complete[0])
            kept = self._arrivals.kept_of(_shelf(flow_id), after=flow.seen)[:CHUNK]
            if not kept:
                return
            payloads = await self._state.arrival_payloads([number for number, _ in kept])
            for number, label in kept:
                payload = payloads.get(number)
                if payload is not None:
                    self._gather(flow, number, label, payload)
                elif payloads and number > max(payloads):
                    break  # storage reads so much at a time
                else:
                    self._arrivals.forget([number])
                flow.seen = number

    def _gather(self, flow: _Flow, number: int, label: str, payload: bytes) -> None:
        event = IncomingEvent("", callback=False, type_=orjson.loads(payload)["type"], payload=payload)
        if not flow.gathering.fits(event):  # what the flow wanted before it was changed
            self._arrivals.forget([number])
            return
        numbers = flow.gathering.add(number, event)
        if numbers is not None:
            event_id, depth, *quiet = label.split("/")
            flow.complete.append(_Complete(event_id, int(depth), bool(quiet), numbers))

    async def _start(self, flow_id: str, flow: _Flow, complete: _Complete) -> None:
        payloads: dict[int, bytes] = {}
        wanted = sorted(complete.numbers)
        while wanted and (read := await self._state.arrival_payloads(wanted)):
            payloads |= read
            wanted = [number for number in wanted if number > max(read)]
        if len(payloads) < len(complete.numbers):  # one of them expired since: perhaps there are others instead
            flow.begin()
            return
        body = b"[%b]" % b",".join(payloads[number] for number in complete.numbers)
        if len(body) > limits.MAX_BODY_BYTES:
            log.warning("events are too large together to start a flow", flow=flow_id, bytes=len(body))
        else:
            quiet = complete.quiet or any(is_lifecycle(orjson.loads(each)["type"]) for each in payloads.values())
            start = Start(complete.event_id, flow_id, Origin.EVENTS, body, complete.depth, quiet)
            (result,) = await self._starter.start([start])
            if isinstance(result, InvalidError):  # it never will, and what comes after it is not to wait for that
                log.warning("events can't start a flow", flow=flow_id, reason=result.reason)
            elif isinstance(result, FlowhookError) and not isinstance(result, NotFoundError):
                raise result
        flow.complete.popleft()
        self._arrivals.forget(complete.numbers)


def _shelf(flow_id: str) -> str:
    """Return the flow ID under which events are kept that are to start a flow. A slash is in no flow's ID."""
    return f"{flow_id}/all"
