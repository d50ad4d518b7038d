"""Reads how many executions of each flow wait, and for how long, when metrics are collected: in bounded time.

Flows with much to do are found although they got no event since the start: each reading looks at the next `SCANNED`
flows of the scheduler.
"""

from __future__ import annotations

from typing import Final

import attrs

from flowhook.process.metric_table import OTHER
from router.dispatch.parts import ShardParts

SCANNED: Final = 2000  # flows that one reading looks at, which takes about a millisecond


@attrs.define(eq=False, repr=False)
class QueueReadings:
    """Reads the queues of the busiest flows, and of all others together."""

    _parts: ShardParts
    _scanned: int = attrs.field(init=False, default=0)  # flows of this pass over all of them
    # the execution of flows without a place that waits for the longest time: of this pass, and of the one before
    _oldest: int | None = attrs.field(init=False, default=None)
    _oldest_before: int | None = attrs.field(init=False, default=None)
    _ages: list[tuple[tuple[str], float]] = attrs.field(init=False, factory=list)

    def depths(self) -> list[tuple[tuple[str, str], float]]:
        """Return executions by flow and state."""
        shard, busiest, self._ages = self._parts.shard, self._parts.statistics.busiest, []
        self._parts.statistics.fold()
        busiest.rank(self._parts.clock())
        self._scan()
        found: list[tuple[tuple[str, str], float]] = []
        others = shard.load()
        for flow_id in busiest:
            depth = shard.queues.load(flow_id)
            others = others.without(depth)
            found += [((flow_id, state), number) for state, number in depth.by_state()]
            self._ages.append(((flow_id,), self._age(depth.due)))
        if others.total:
            found += [((OTHER, state), number) for state, number in others.by_state()]
            known = [each for each in (self._oldest, self._oldest_before) if each is not None]
            self._ages.append(((OTHER,), self._age(min(known, default=None))))
        return found

    def oldest_ages(self) -> list[tuple[tuple[str], float]]:
        """Return the ages (s) of what waits for the longest time, at the latest call of `depths`."""
        return self._ages

    def _age(self, seq: int | None) -> float:
        accepted = None if seq is None else self._parts.statistics.times.of(seq)
        return 0.0 if accepted is None else max(0.0, self._parts.clock() - accepted)

    def _scan(self) -> None:
        busiest = self._parts.statistics.busiest
        found = self._parts.shard.queues.some_flows(self._scanned, SCANNED)
        for flow_id in found:
            depth = None if flow_id in busiest else self._parts.shard.queues.load(flow_id)
            if depth is not None and depth.total:
                busiest.of(flow_id, depth.total)
                if depth.due is not None and flow_id not in busiest:
                    self._oldest = depth.due if self._oldest is None else min(self._oldest, depth.due)
        self._scanned += len(found)
        if len(found) < SCANNED:
            self._scanned, self._oldest_before, self._oldest = 0, self._oldest, None
