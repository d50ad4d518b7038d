"""Stores what executions did as series, once a minute, and reads the overview of a period from them.

A router that ends orderly stores everything. Of one that was killed, what it accepted and ended since the last minute
is counted again from the executions; only how long these took is missing.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from math import inf
from time import monotonic
from typing import Final

import attrs

from flowhook.errors import FlowhookError, UnavailableError
from flowhook.model.cluster import StorageUsage
from flowhook.model.overview import MINUTE_MS, MINUTES, STEPS, Overview, OverviewPoint, Period
from flowhook.process import logs
from flowhook.process.metric_table import OTHER
from flowhook.retrying import RETRY_SECONDS
from router.dispatch import flow_statistics
from router.dispatch.flow_statistics import STEP
from router.dispatch.shard_runtime import ShardRuntime
from router.storage.series import ALL, LEVELS, Counted, SeriesLog, SeriesMark, quantile

# executions that are read after a start, newest first, for what was counted and not stored before it
MAX_MISSING: Final = 100_000
SCANNED: Final = 2000  # flows whose queues are looked at between two turns of the event loop
LEVEL_SECONDS: Final = 5.0  # for which what is pending is not looked at again for those who read the overview
AGE_SECONDS: Final = 0.05  # between two transactions that move rows which have grown old
DELAY_MS: Final = 200  # after a minute's end: what ended in it is published by then
log = logs.get_logger(__name__)


@attrs.define(eq=False, repr=False)
class SeriesKeeper:
    """Keeps the series of a shard. Let `run` run beside the server, and call `close` once nothing is counted."""

    _runtime: ShardRuntime
    _series: SeriesLog
    _usage: Callable[[], Awaitable[StorageUsage]]
    _is_restored: bool = attrs.field(init=False, default=False)
    _is_failing: bool = attrs.field(init=False, default=False)
    _lock: asyncio.Lock = attrs.field(init=False, factory=asyncio.Lock)  # held while what was counted is being stored
    # up to where executions are counted in what is stored
    _mark: SeriesMark = attrs.field(init=False, default=SeriesMark())
    _stores: int = attrs.field(init=False, default=0)  # how often `store` began
    _levels_lock: asyncio.Lock = attrs.field(init=False, factory=asyncio.Lock)  # held while `_levels_read` is renewed
    _levels_read: tuple[float, defaultdict[str, Counted]] = attrs.field(
        init=False, factory=lambda: (-inf, defaultdict(Counted))
    )
    # measured once a minute, as that looks at many files, not for those who read the overview
    _storage_bytes: int = attrs.field(init=False, default=0)
    _aged: int = attrs.field(init=False, default=0)  # when old rows were looked for, in steps of the second level

    async def run(self) -> None:
        while True:
            # not to be cancelled between the transaction and what follows from it
            await self._runtime.parts.writer.run_shielded(self._turn())
            left_ms = MINUTE_MS - (self._now_ms() - DELAY_MS) % MINUTE_MS
            await asyncio.sleep(RETRY_SECONDS if self._is_failing else left_ms / 1000)

    async def _turn(self) -> None:
        try:
            if not self._is_restored:
                await self.restore()
            await self.store()
            await self.age()
        except FlowhookError as error:
            log.warning("series not stored; trying again", reason=error.reason)
            self._is_failing = True
        else:
            self._is_failing = False

    async def close(self) -> None:
        """Store what was counted since the last minute."""
        if not self._is_restored:
            return  # the next router counts all of it
        try:
            await self.store(unfinished=True)
        except FlowhookError as error:
            log.warning("the last numbers are not stored", reason=error.reason)

    def _now_ms(self) -> int:
        return self._runtime.parts.now_ms()

    # --- what is stored ---------------------------------------------------------------------------------------------

    async def restore(self) -> None:
        """Add the last hour before the start to the numbers of flows, and store what was counted and not stored."""
        statistics, until_seq = self._runtime.statistics, self._runtime.recovered_seq
        started_ms, mark = statistics.since_ms, await self._series.mark()
        hour_ms = started_ms - flow_statistics.MINUTES * MINUTE_MS
        since_ms = min(mark.end_time_ms, started_ms) or hour_ms
        missing = defaultdict[tuple[str, int], Counted](Counted)
        complete_ms = started_ms
        try:
            recent = await self._runtime.parts.state.recent_activity(
                since_ms=since_ms,
                until_seq=until_seq,
                ended_before_ms=started_ms,
                limit=MAX_MISSING,
                counted_seq=mark.seq,
            )
        except UnavailableError:
            raise
        except FlowhookError as error:  # it takes too long
            log.warning("what was counted before the start and not stored is missing", reason=error.reason)
        else:
            complete_ms = hour_ms if mark.end_time_ms and recent.since_ms == since_ms else recent.since_ms
            for place, (flow_id, minute, status, number) in enumerate(recent.counts):
                name = "accepted" if status is None else status.value
                for counted in (missing[flow_id, minute], missing[ALL, minute]):
                    setattr(counted, name, getattr(counted, name) + number)
                if place % STEP == 0:
                    await asyncio.sleep(0)
        async with self._lock:
            await self._save(missing, SeriesMark(until_seq, started_ms))
            self._is_restored = True
            for place, (flow_id, minute, counted) in enumerate(await self._series.since(hour_ms // MINUTE_MS + 1)):
                if place % STEP == 0:
                    await asyncio.sleep(0)
                if flow_id == OTHER:  # the last hour of some flow is not known
                    complete_ms = started_ms
                else:
                    statistics.restore(flow_id, minute, counted)
            statistics.since_ms = complete_ms

    async def store(self, *, unfinished: bool = False) -> None:
        """Store the minutes that are over; `unfinished`: and the current one, up to now."""
        statistics = self._runtime.statistics
        async with self._lock:
            self._stores += 1
            over = statistics.take(self._now_ms(), unfinished=unfinished)
            usage = await self._usage()
            self._storage_bytes = usage.database_bytes + usage.wal_bytes + usage.file_bytes
            levels = await self._levels()
            whole = levels[ALL]
            if over is None and not (whole.pending or whole.retrying or whole.incidents):
                return  # an idle router stores nothing
            minute = self._now_ms() // MINUTE_MS - 1 if over is None else over.minute
            counted = defaultdict(Counted, {(flow_id, minute): each for flow_id, each in levels.items()})
            while over is not None:
                for number, (flow_id, each) in enumerate([*over.flows.items()]):
                    counted[flow_id, over.minute].add(each)
                    if number % STEP == 0:
                        await asyncio.sleep(0)
                await self._save(counted, over.mark)
                await statistics.remember(over)
                counted.clear()
                over = statistics.take(self._now_ms(), unfinished=unfinished)
            if counted:
                await self._save(counted, self._mark)

    async def _save(self, counted: Mapping[tuple[str, int], Counted], mark: SeriesMark) -> None:
        await self._series.save(counted, mark)
        self._mark = mark

    def _level(self, flow_id: str) -> Counted:
        """Return what is pending and waits for another try now, of a flow."""
        parts = self._runtime.parts
        load = parts.shard.queues.load(flow_id)
        accepted = None if load.next is None else parts.statistics.times.of(load.next)
        age_ms = 0 if accepted is None else max(int((parts.clock() - accepted) * 1000), 0)
        return Counted(pending=load.pending, retrying=load.retrying, oldest_ms=age_ms)

    async def _levels(self) -> defaultdict[str, Counted]:
        """Return the levels of each flow with series of its own that has any, of all others together, and of all."""
        found = defaultdict[str, Counted](Counted)
        parts, own = self._runtime.parts, await self._series.own()
        start, room, whole = 0, self._series.max_flows - len(own), found[ALL]
        while flows := parts.shard.queues.some_flows(start, SCANNED):
            start += len(flows)
            for flow_id in flows:
                level = self._level(flow_id)
                _join(whole, level)
                if not (level.pending or level.retrying):
                    continue
                if flow_id in own or room > 0:
                    room -= flow_id not in own
                    found[flow_id] = level
                else:
                    _join(found[OTHER], level)
            await asyncio.sleep(0)
        whole.incidents, whole.storage_bytes = len(parts.outages.incidents()), self._storage_bytes
        return found

    async def age(self) -> None:
        """Move rows that have grown old, if it is time for that."""
        due = self._now_ms() // MINUTE_MS // LEVELS[1].step
        following: str | None = "" if due != self._aged else None
        while following is not None:
            following = await self._series.age(following, self._now_ms())
            await asyncio.sleep(AGE_SECONDS)
        self._aged = due

    # --- what is read -----------------------------------------------------------------------------------------------

    async def overview(self, flow_id: str, period: Period) -> Overview:
        """Return the numbers of a flow, or of all flows if the ID is empty, over a period up to now."""
        now_minute, step, minutes = self._now_ms() // MINUTE_MS, STEPS[period], MINUTES[period]
        until = (now_minute // step + 1) * step
        start = until - minutes
        now = (await self._recent_levels())[flow_id] if flow_id in (ALL, OTHER) else self._level(flow_id)
        first = await self._series.first_minute()
        # Read again if something was stored meanwhile, which would count twice or not at all. The lock is not held for
        # that: reads take turns by caller, and those of one must not keep others, or what is stored, waiting.
        while True:
            async with self._lock:
                stores = self._stores
            found = await self._series.read(flow_id=flow_id, from_minute=start - minutes, until_minute=until, step=step)
            if stores == self._stores and not self._lock.locked():
                break
        for minute, counted in [*self._runtime.statistics.unstored(flow_id), (now_minute, now)]:
            found[minute - minute % step].add(counted)
        total, before = Counted(), Counted()
        for at, counted in found.items():
            if start - minutes <= at < until:
                (before if at < start else total).add(counted)
        return Overview(
            since_ms=(now_minute if first is None else first) * MINUTE_MS,
            step=step * 60.0,
            counted_together=flow_id not in (ALL, OTHER) and not self._series.has_room(flow_id),
            points=tuple(_point(at, found[at], flow_id) for at in range(start, until, step)),
            total=_point(start, total, flow_id),
            before=_point(start - minutes, before, flow_id),
        )

    async def _recent_levels(self) -> defaultdict[str, Counted]:
        async with self._levels_lock:
            read_at, levels = self._levels_read
            if monotonic() - read_at > LEVEL_SECONDS:
                levels = await self._levels()
                self._levels_read = monotonic(), levels
            return levels


def _join(levels: Counted, other: Counted) -> None:
    """Add the levels of another flow at the same time."""
    levels.pending += other.pending
    levels.retrying += other.retrying
    levels.oldest_ms = max(levels.oldest_ms, other.oldest_ms)


def _point(minute: int, counted: Counted, flow_id: str) -> OverviewPoint:
    return OverviewPoint(
        time_ms=minute * MINUTE_MS,
        accepted=counted.accepted,
        completed=counted.completed,
        faulted=counted.faulted,
        cancelled=counted.cancelled,
        pending=counted.pending,
        retrying=counted.retrying,
        oldest_pending=counted.oldest_ms / 1000,
        incidents=None if flow_id else counted.incidents,
        storage_bytes=None if flow_id else counted.storage_bytes,
        latency_p50=quantile(counted.latencies, 0.5),
        latency_p99=quantile(counted.latencies, 0.99),
        wait_p50=quantile(counted.waits, 0.5),
        wait_p99=quantile(counted.waits, 0.99),
    )
