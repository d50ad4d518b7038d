"""Removes what is past retention: what is too old, and the oldest of what is too much, in small steps.

Age: executions that ended longer ago than `retention_seconds`, or than their flow says (`execution.retention.age`).
Size: while what is stored takes more than `retention_bytes`, those that ended first; while that of a flow takes more
than `execution.retention.size`, those of it that were accepted first. No execution goes that has not ended or keeps the
turn of its order key, no event of a batch before those that run for it, and for its size nothing that ended within
`retention_min_seconds`.

What is stored altogether is read off the file. What a flow takes is known by blocks of executions, which are measured
once they are full, and again as long as one of their executions has not ended, or when one of them was removed.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from heapq import nsmallest
from operator import attrgetter
from typing import Final

import attrs
from typing_extensions import override

from flowhook import limits
from flowhook.errors import InternalError, UnavailableError
from flowhook.model import Flow
from flowhook.process import logs
from flowhook.process.settings import RouterSettings
from router.flows.event_triggers import FlowRetention, FlowTriggers
from router.flows.flow_table import TriggerSink
from router.storage.bodies import BodyStore
from router.storage.expiry import FIRST, FlowBlock
from router.storage.registry import Registry
from router.storage.schema import UNENDED
from router.storage.shard_state import ShardState

LOOK_SECONDS: Final = 10.0  # between two looks whether too much is stored: so much may be accepted beyond a limit
SWEEP: Final = 6  # one in this many looks removes what is too old, and bodies without an event
STEP_SECONDS: Final = 0.05  # between two steps of one sweep, so that it never holds up acceptance
STEP: Final = 500  # executions removed in one step
PAUSE_SECONDS: Final = 0.01  # between two steps that remove 128, or measure
PAUSES: Final = 3  # or so many times as long as a step took: it takes longer while others write
# one in this many sweeps removes revisions, too: that takes longer, and few revisions are created in an hour. It also
# looks again at executions that were kept.
HOURLY: Final = 60
MAX_JUMP_MS: Final = 24 * 3600 * 1000
"""What the clock may be ahead of what was expected of it."""
CONFIRM_MS: Final = 24 * 3600 * 1000
"""How long a router must have served until a clock that jumped further is believed."""
SAVE_MS: Final = 3600 * 1000  # time after which the clock is stored again
BLOCK: Final = 512  # executions of a flow in one block
OPEN_BLOCKS: Final = 64  # blocks with executions that have not ended, that are measured again in one look

log = logs.get_logger(__name__)


@attrs.define
class RetentionClock:
    """The time by which things are past, in ms: the clock's, unless that jumped.

    A clock that is set forward by a year would have everything removed at once. So one that is more than a day ahead of
    what was to be expected is not believed until a router has served for a day; meanwhile the former time goes on. A
    clock that is behind is believed at once, as it removes less.
    """

    now_ms: int = 0  # 0: not known yet
    waited_ms: int = 0  # time for which a clock that jumped was not believed
    saved_ms: int = 0  # time that was last stored

    def advance(self, wall_ms: int, elapsed_ms: int) -> int:
        """Return the time, by a clock that shows `wall_ms`, `elapsed_ms` after the last call."""
        expected = self.now_ms + elapsed_ms
        if self.now_ms and wall_ms > expected + MAX_JUMP_MS and self.waited_ms + elapsed_ms < CONFIRM_MS:
            if not self.waited_ms:
                days = (wall_ms - expected) / 86_400_000
                log.warning("the clock is ahead: nothing is removed by it until it was so for a day", days=round(days))
            self.now_ms, self.waited_ms = expected, self.waited_ms + elapsed_ms
        else:
            self.now_ms, self.waited_ms = wall_ms, 0
        return self.now_ms


@attrs.define(eq=False)
class _Block:
    """Executions of a flow with numbers above `after`, up to `found.last`."""

    after: int
    found: FlowBlock
    stale: bool = False  # whether one of them may have been removed since it was measured
    looks: int = 0  # how often it was measured again


@attrs.define(eq=False)
class _StoredFlow:
    """What is stored of a flow with a retention of its own."""

    wanted: FlowRetention
    past: int = 0  # number of the last execution that was looked at for its age
    blocks: list[_Block] = attrs.field(factory=list)  # if it has a size, in the order of their numbers

    def note(self, removals: Sequence[int]) -> None:
        """Note that executions were removed, of whichever flow; their numbers are in ascending order."""
        for block in self.blocks:
            index = bisect_right(removals, block.after)
            block.stale = block.stale or (index < len(removals) and removals[index] <= block.found.last)


@attrs.define(eq=False, repr=False, kw_only=True)
class RetentionKeeper(TriggerSink):
    """Removes what is past retention. Register flows with `react`, then let `run` run beside the server."""

    _settings: RouterSettings
    _state: ShardState
    _bodies: BodyStore
    _registry: Registry
    _now_ms: Callable[[], int]
    _look_seconds: float = LOOK_SECONDS
    _block: int = BLOCK  # executions in one block
    removed: Counter[str] = attrs.field(factory=Counter)  # executions that were removed, for their `age` or `size`
    _clock: RetentionClock = attrs.field(init=False, factory=RetentionClock)
    _flows: dict[str, _StoredFlow] = attrs.field(init=False, factory=dict)
    _since: float = attrs.field(init=False, factory=time.monotonic)
    _longer: list[str] = attrs.field(init=False, factory=list)  # flows that are stored for longer than others
    _removals: list[int] = attrs.field(init=False, factory=list)  # executions removed since blocks were measured

    @override
    def react(self, flow: Flow, triggers: FlowTriggers) -> None:
        wanted, found = triggers.retention, self._flows.get(flow.id)
        if wanted is None:
            self._flows.pop(flow.id, None)
        elif found is None:
            self._flows[flow.id] = _StoredFlow(wanted)
        else:
            found.wanted, found.past = wanted, 0

    @override
    def remove(self, flow_id: str) -> None:
        self._flows.pop(flow_id, None)

    async def run(self) -> None:
        """Sweep until cancelled; when storage fails, the next sweep tries again."""
        self._state.follow_removals(self._note_removals)
        for number in itertools.count():
            try:
                now_ms, before = await self._read_clock(), self.removed.copy()
                if number % SWEEP == 0:
                    await self._sweep(now_ms, hourly=number // SWEEP % HOURLY == 0)
                await self._shrink(now_ms)
                if removed := self.removed - before:
                    log.info("executions removed", **removed)
            except (UnavailableError, InternalError) as error:
                log.warning("sweep failed", reason=error.reason)
            await asyncio.sleep(self._look_seconds)

    async def _read_clock(self) -> int:
        clock, now = self._clock, time.monotonic()
        if not clock.now_ms:
            clock.now_ms = clock.saved_ms = await self._state.counter("retention_ms")
            clock.waited_ms = await self._state.counter("retention_waited_ms")
        elapsed_ms, self._since = round((now - self._since) * 1000), now
        now_ms = clock.advance(self._now_ms(), elapsed_ms)
        if abs(now_ms - clock.saved_ms) >= SAVE_MS:
            await self._state.write_counters({"retention_ms": now_ms, "retention_waited_ms": clock.waited_ms})
            clock.saved_ms = now_ms
        return now_ms

    async def _sweep(self, now_ms: int, *, hourly: bool) -> None:
        """Remove executions and former revisions that are too old, and bodies that no event referred to for long."""
        self._bodies.sweep(seconds=limits.UPLOAD_SECONDS)
        default_ms = round(self._settings.retention_seconds * 1000)
        ages = {flow_id: each.wanted.age_ms for flow_id, each in self._flows.items() if each.wanted.age_ms is not None}
        longer = [flow_id for flow_id, age_ms in ages.items() if age_ms > default_ms]
        anew = hourly or longer != self._longer
        self._longer = longer
        while step := await self._state.expire(
            ended_before_ms=now_ms - default_ms, limit=STEP, excepting=longer, anew=anew
        ):
            anew = False
            self.removed["age"] += step
            await asyncio.sleep(STEP_SECONDS)
        for flow_id, age_ms in ages.items():
            await self._remove_old(flow_id, now_ms - age_ms, anew=hourly)
        if hourly and (number := await self._registry.forget_revisions(superseded_before_ms=now_ms - default_ms)):
            log.info("former revisions of flows removed", revisions=number)

    async def _remove_old(self, flow_id: str, before_ms: int, *, anew: bool) -> None:
        more = True
        while more and (stored := self._flows.get(flow_id)) is not None:
            after, anew = 0 if anew else stored.past, False
            step = await self._state.remove_past_of_flow(flow_id, ended_before_ms=before_ms, after=after)
            stored.past, more = step.last[1], step.more
            self.removed["age"] += len(step.removed)
            if more:
                await asyncio.sleep(STEP_SECONDS)

    async def _shrink(self, now_ms: int) -> None:
        """Remove the oldest executions of what is too much."""
        before_ms = now_ms - round(self._settings.retention_min_seconds * 1000)
        removals, self._removals = sorted(self._removals), []
        for flow_id, stored in [*self._flows.items()]:
            if stored.wanted.bytes is not None:
                stored.note(removals)
                await self._measure(flow_id, stored)
                await self._shrink_flow(flow_id, stored, stored.wanted.bytes, before_ms)
        limit, after, more = self._settings.retention_bytes, FIRST, True
        while limit and more and (excess := await self._state.stored_bytes() - limit) > 0:
            began = time.monotonic()
            step = await self._state.remove_bytes(excess, ended_before_ms=before_ms, after=after)
            after, more = step.last, step.more
            self.removed["size"] += len(step.removed)
            await _pause(began)

    async def _shrink_flow(self, flow_id: str, stored: _StoredFlow, limit: int, before_ms: int) -> None:
        excess = sum(each.found.bytes for each in stored.blocks) - limit
        for block in [each for each in stored.blocks if each.found.ended]:
            after, more, young = block.after, True, False
            while more and not young and excess > 0:
                began = time.monotonic()
                step = await self._state.remove_past_of_flow(
                    flow_id, ended_before_ms=before_ms, after=after, through=block.found.last, most_bytes=excess
                )
                (_, after), more, young = step.last, step.more, step.young
                if step.removed:
                    self.removed["size"] += len(step.removed)
                    excess += await self._measure_block(flow_id, stored, block)
                    await _pause(began)
            if young or excess <= 0:
                return

    async def _measure(self, flow_id: str, stored: _StoredFlow) -> None:
        """Measure what was not measured yet, and what may take something else by now."""
        blocks = stored.blocks
        if blocks and blocks[-1].found.executions < self._block:
            blocks.pop()
        open_ = [each for each in blocks if each.found.ended < each.found.executions]
        stale = [each for each in blocks if each.stale]
        for block in {*nsmallest(OPEN_BLOCKS, open_, key=attrgetter("looks")), *stale}:
            await self._measure_block(flow_id, stored, block)
        while True:
            after = blocks[-1].found.last if blocks else 0
            found = await self._state.measure_flow(flow_id, after, UNENDED, self._block)
            if not found.executions:
                return
            blocks.append(_Block(after, found))
            if found.executions < self._block:
                return
            await asyncio.sleep(PAUSE_SECONDS)

    async def _measure_block(self, flow_id: str, stored: _StoredFlow, block: _Block) -> int:
        """Measure a block again, and return how much more it takes than it did."""
        found = await self._state.measure_flow(flow_id, block.after, block.found.last, self._block)
        more = found.bytes - block.found.bytes
        # its end stays: the last ones may have been removed
        block.found, block.stale, block.looks = found._replace(last=block.found.last), False, block.looks + 1
        if not found.executions and block in stored.blocks:
            stored.blocks.remove(block)
        return more

    def _note_removals(self, seqs: Sequence[int]) -> None:
        if any(each.blocks for each in self._flows.values()):
            self._removals += seqs


async def _pause(began: float) -> None:
    """Wait after a step that began at a time, so that others' writes are not delayed by many of them."""
    await asyncio.sleep(max(PAUSE_SECONDS, PAUSES * (time.monotonic() - began)))
