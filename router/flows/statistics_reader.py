"""Puts together the numbers of flows: counts by minute, the load of the scheduler, times in storage, and secrets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import attrs

from flowhook.model import Flow
from flowhook.model.flows import FlowCondition, FlowStatistics
from flowhook.model.overview import MINUTE_MS
from router.dispatch.flow_statistics import MINUTES
from router.dispatch.shard_runtime import ShardRuntime
from router.secrets.flow_secrets import FlowSecrets
from router.storage.registry import Registry

STEP: Final = 128  # definitions in one read, of at most 256 KiB each
MAX_SCANNED: Final = 2000  # flows that one call looks at when it searches by a condition


class StatisticsPage(NamedTuple):
    """Flows by ascending ID, and the ID of the last one that was looked at; empty: there are no more flows."""

    items: list[FlowStatistics]
    last_id: str


@attrs.define(eq=False, repr=False, kw_only=True)
class FlowStatisticsReader:
    """Reads the numbers of flows, in time linear in the number of flows.

    `next_of` returns the next start of a flow by its schedule, if it has one, and `silent_since` since when it got no
    event, if that is longer than it expects.
    """

    _registry: Registry
    _runtime: ShardRuntime
    _secrets: FlowSecrets
    next_of: Callable[[str], int | None]
    _silent_since: Callable[[str], int | None]

    @property
    def since_ms(self) -> int:
        """Unix time from which the counts by minute are complete."""
        return max(
            self._runtime.statistics.since_ms, (self._runtime.parts.now_ms() // MINUTE_MS - MINUTES + 1) * MINUTE_MS
        )

    async def get(self, flow_id: str) -> FlowStatistics | None:
        flow = await self._registry.get_flow(flow_id)
        return None if flow is None else (await self._of([flow]))[0]

    async def page(
        self, *, after_id: str, size: int, name_contains: str = "", condition: FlowCondition | None = None
    ) -> StatisticsPage:
        """Return the flows after an ID that meet the conditions: at most `size`, and among at most `MAX_SCANNED`."""
        found: list[FlowStatistics] = []
        for _ in range(0, MAX_SCANNED, STEP):
            flows = await self._registry.list_flows(after_id=after_id, limit=STEP)
            wanted = [flow for flow in flows if name_contains in flow.id and self._may_meet(flow, condition)]
            needs_secret = condition is FlowCondition.NEEDS_SECRET
            found += [each for each in await self._of(wanted) if each.missing_secrets or not needs_secret]
            if len(found) > size:
                return StatisticsPage(found[:size], found[size - 1].flow.id)
            if len(flows) < STEP:
                return StatisticsPage(found, "")
            after_id = flows[-1].id
        return StatisticsPage(found, after_id)

    def _may_meet(self, flow: Flow, condition: FlowCondition | None) -> bool:
        """Whether a flow can meet a condition, by what is in memory: numbers are read only of those that can."""
        match condition:
            case FlowCondition.PAUSED:
                return flow.paused
            case FlowCondition.FAILING:
                return any(self._runtime.statistics.of(flow.id, self._runtime.parts.now_ms()).faulted)
            case FlowCondition.SILENT:
                return self._silent_since(flow.id) is not None
        return True

    async def _of(self, flows: Sequence[Flow]) -> list[FlowStatistics]:
        if not flows:
            return []
        loads = {flow.id: self._runtime.shard.queues.load(flow.id) for flow in flows}
        received = await self._runtime.parts.state.receive_times(
            [load.next for load in loads.values() if load.next is not None]
        )
        latest = await self._runtime.parts.state.latest_receive_times(list(loads))
        secrets = await self._secrets.of(flows)
        now_ms = self._runtime.parts.now_ms()
        return [
            FlowStatistics(
                flow=replace(flow, document=b"", definition=b"", next_time_ms=self.next_of(flow.id)),
                **self._runtime.statistics.of(flow.id, now_ms)._asdict(),
                pending=load.pending,
                running=load.running,
                waiting=load.waiting,
                retrying=load.retrying,
                suspended=load.suspended,
                oldest_pending_time_ms=None if load.next is None else received.get(load.next),
                last_event_time_ms=latest.get(flow.id),
                silent_since_time_ms=self._silent_since(flow.id),
                secrets=secrets[flow.id],
            )
            for flow, load in zip(flows, loads.values(), strict=True)
        ]
