"""The overview: what is counted of executions, over restarts and crashes, and by clocks that jump."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from math import inf

import pytest
from support.routers import flow, running_router
from support.runners import attached
from support.shards import running_host

from flowhook.attach.messages import Completed, Faulted
from flowhook.errors import NotFoundError, PermissionDeniedError, UnavailableError
from flowhook.model import WorkflowError
from flowhook.model.overview import Period
from flowhook.process.metric_table import OTHER
from router.flows.series_keeper import SeriesKeeper
from router.storage.registry import FlowDraft
from router.storage.series import ALL, SeriesLog

AT = 1_800_000_000.0  # Unix time, at the beginning of a minute
ERROR = WorkflowError("about:blank", 500, "broken")


@asynccontextmanager
async def keeping(path, at=AT):
    """A shard whose wall clock shows a moment, and the keeper of its series, which nothing runs."""
    async with running_host(path) as shard:
        shard.wall.stop(at)
        shard.host.statistics.__init__(shard.now_ms())  # it began by the clock of the machine
        shard.keeper = SeriesKeeper(shard.host, shard.storage.series, shard.storage.usage)
        drafts = [FlowDraft(name, b"d", b"{}", has_webhook=False, reacts=False) for name in ("a", "b")]
        await shard.storage.registry.apply_flows(drafts, now_ms=1)
        await shard.keeper.restore()
        yield shard


async def work(shard, link, flow_id, done, broken=0):
    """Accept executions, and end them."""
    for ending in [Completed(b"{}")] * done + [Faulted(ERROR)] * broken:
        await shard.append(flow_id, at_ms=shard.now_ms())
        [delivery] = await link.next()
        await shard.settle(link, delivery, ending)


def numbers(point):
    return point.accepted, point.completed, point.faulted


async def test_every_minute_has_what_was_counted_in_it(tmp_path):
    async with keeping(tmp_path) as shard:
        link = shard.attach(credit=100)
        for minute, (done, broken) in enumerate([(3, 1), (0, 0), (2, 0)]):
            shard.wall.stop(AT + 60 * minute)
            await shard.keeper.store()
            await work(shard, link, "a", done, broken)
        await work(shard, link, "b", 1)
        overview = await shard.keeper.overview("a", Period.HOUR)
        assert len(overview.points) == 60
        assert [numbers(each) for each in overview.points[-3:]] == [(4, 3, 1), (0, 0, 0), (2, 2, 0)]
        assert [each.time_ms for each in overview.points[-2:]] == [int(AT + 60) * 1000, int(AT + 120) * 1000]
        assert numbers(overview.total) == (6, 5, 1)
        assert numbers((await shard.keeper.overview(ALL, Period.DAY)).total) == (7, 6, 1)
        assert overview.total.latency_p50 is not None
        assert overview.total.wait_p99 is not None
        assert overview.total.latency_p50 < 60
        assert overview.before.latency_p50 is None


async def test_the_period_before_is_compared_with(tmp_path):
    async with keeping(tmp_path) as shard:
        link = shard.attach(credit=100)
        await work(shard, link, "a", 2)
        shard.wall.stop(AT + 3600)
        await work(shard, link, "a", 5)
        overview = await shard.keeper.overview("a", Period.HOUR)
        assert (overview.total.accepted, overview.before.accepted) == (5, 2)
        assert overview.before.time_ms == overview.total.time_ms - 3_600_000


async def test_a_router_that_ends_orderly_loses_nothing_and_counts_nothing_twice(tmp_path):
    async with keeping(tmp_path) as shard:
        await work(shard, shard.attach(credit=100), "a", 3, 1)
        await shard.keeper.close()
        before = await shard.keeper.overview("a", Period.HOUR)
    async with keeping(tmp_path, AT + 10) as shard:
        assert await shard.keeper.overview("a", Period.HOUR) == before
        assert sum(shard.host.statistics.of("a", shard.now_ms()).accepted) == 4
        await work(shard, shard.attach("r2", credit=100), "a", 1)
        await shard.keeper.close()
    async with keeping(tmp_path, AT + 20) as shard:
        assert numbers((await shard.keeper.overview("a", Period.HOUR)).total) == (5, 4, 1)


async def test_of_a_router_that_was_killed_only_durations_of_the_last_minute_are_missing(tmp_path):
    async with keeping(tmp_path) as shard:
        link = shard.attach(credit=100)
        await work(shard, link, "a", 2)
        shard.wall.stop(AT + 60)
        await shard.keeper.store()
        await work(shard, link, "a", 1, 1)
        await shard.die()
    for seconds in (70, 5000):  # at once, and once again after a crash that stored nothing
        async with keeping(tmp_path, AT + seconds) as shard:
            overview = await shard.keeper.overview("a", Period.DAY)
            assert numbers(overview.total) == (4, 3, 1)
            assert numbers((await shard.keeper.overview(ALL, Period.DAY)).total) == (4, 3, 1)
            counted = {at: each for _, at, each in await shard.storage.series.since(0)}
            assert [sum(each.latencies.values()) for _, each in sorted(counted.items())] == [2, 0]
            await shard.die()


async def test_a_minute_that_could_not_be_stored_is_stored_later(tmp_path, monkeypatch):
    async with keeping(tmp_path) as shard:
        await work(shard, shard.attach(credit=100), "a", 2)
        shard.wall.stop(AT + 60)

        async def fail(*_arguments):
            raise UnavailableError("away", reason="STORAGE_UNAVAILABLE")

        with monkeypatch.context() as patched:
            patched.setattr(type(shard.storage.series), "save", fail)
            with pytest.raises(UnavailableError):
                await shard.keeper.store()
        assert numbers((await shard.keeper.overview("a", Period.HOUR)).total) == (2, 2, 0)
        await shard.keeper.store()
        assert numbers((await shard.keeper.overview("a", Period.HOUR)).total) == (2, 2, 0)
        assert shard.host.statistics.unstored("a") == []


@pytest.mark.parametrize("seconds", [-300, -7200, -86_400 * 400])
async def test_a_clock_that_is_set_back_neither_loses_nor_doubles_anything(tmp_path, seconds):
    async with keeping(tmp_path) as shard:
        link = shard.attach(credit=100)
        await work(shard, link, "a", 3)
        shard.wall.stop(AT + 60)
        await shard.keeper.store()
        shard.wall.stop(AT + seconds)
        await work(shard, link, "a", 2)
        await shard.keeper.store()
        await shard.keeper.age()
        shard.wall.stop(AT + 120)
        await work(shard, link, "a", 1)
        shard.wall.stop(AT + 180)
        await shard.keeper.store()
        for flow_id in ("a", ALL):
            found = await shard.storage.series.read(flow_id=flow_id, from_minute=0, until_minute=2**31, step=1)
            assert sum(each.accepted for each in found.values()) == 6


async def test_a_clock_that_is_ahead_for_a_while_costs_at_most_what_is_old(tmp_path):
    async with keeping(tmp_path) as shard:
        link = shard.attach(credit=100)
        await work(shard, link, "a", 3)
        shard.wall.stop(AT + 20 * 86_400)
        await shard.keeper.store()
        await shard.keeper.age()
        shard.wall.stop(AT + 60)
        await shard.keeper.store()
        assert (await shard.keeper.overview("a", Period.MONTH)).total.accepted == 3


async def test_what_is_pending_is_looked_at_and_the_age_of_the_next(tmp_path):
    async with keeping(tmp_path) as shard:
        await shard.append("a", b"p", b"p", at_ms=shard.now_ms())
        shard.wall.stop(AT + 60)
        shard.clock.ahead = 60.0
        await shard.keeper.store()
        for flow_id in ("a", ALL):
            point = (await shard.keeper.overview(flow_id, Period.HOUR)).points[-2]
            assert point.pending == 2
            assert 60 <= point.oldest_pending < 60 + 30
        assert point.storage_bytes > 0
        assert point.incidents == 0
    async with keeping(tmp_path, AT + 61) as shard:  # what was accepted before a start has its age, too
        shard.wall.stop(AT + 120)
        assert (await shard.keeper.overview("a", Period.HOUR)).points[-1].pending == 2


async def test_what_is_pending_of_flows_that_are_counted_together_is_summed_up(tmp_path):
    async with keeping(tmp_path) as shard:
        shard.keeper = SeriesKeeper(
            shard.host, SeriesLog(shard.storage.writer, shard.storage._queries, 1), shard.storage.usage
        )
        await shard.keeper.restore()
        for flow_id in ("a", "b", "c"):
            await shard.append(flow_id, b"p", b"p", at_ms=shard.now_ms())
        assert (await shard.keeper.overview("c", Period.HOUR)).points[-1].pending == 2
        shard.wall.stop(AT + 60)
        await shard.keeper.store()
        for flow_id, number in (("a", 2), (OTHER, 4), (ALL, 6)):
            assert (await shard.keeper.overview(flow_id, Period.HOUR)).points[-2].pending == number


async def test_who_reads_the_overview_does_not_keep_what_is_stored_waiting(tmp_path, monkeypatch):
    async with keeping(tmp_path) as shard:
        link = shard.attach(credit=100)
        await work(shard, link, "a", 2)
        reads, begun, go_on = SeriesLog.read, asyncio.Event(), asyncio.Event()

        async def read(self, **parameters):
            found = await reads(self, **parameters)
            begun.set()
            await go_on.wait()
            return found

        monkeypatch.setattr(SeriesLog, "read", read)
        reading = asyncio.create_task(shard.keeper.overview("a", Period.HOUR))
        await begun.wait()
        shard.wall.stop(AT + 60)
        async with asyncio.timeout(30):
            await shard.keeper.store()
        go_on.set()
        # what moved meanwhile counts once
        assert numbers((await reading).total) == (2, 2, 0)


async def test_the_files_of_storage_are_looked_at_once_a_minute_however_many_read_the_overview(tmp_path):
    async with keeping(tmp_path) as shard:
        looks = []

        async def usage():
            looks.append(shard.now_ms())
            return await shard.storage.usage()

        keeper = SeriesKeeper(shard.host, shard.storage.series, usage)
        await keeper.restore()
        await keeper.store()
        keeper._levels_read = -inf, keeper._levels_read[1]  # long ago
        overview = await keeper.overview(ALL, Period.HOUR)
        assert overview.points[-1].storage_bytes > 0  # although it is idle
        assert len(looks) == 1


async def test_an_idle_router_stores_nothing(tmp_path):
    async with keeping(tmp_path) as shard:
        for minute in range(5):
            shard.wall.stop(AT + 60 * minute)
            await shard.keeper.store()
        assert shard.storage._connection.execute("SELECT count(*) FROM series").get == 0


async def test_with_very_many_flows_the_rows_of_a_minute_are_bounded(tmp_path):
    async with keeping(tmp_path) as shard:
        await shard.append("a", at_ms=shard.now_ms())
        now = shard.clock()
        shard.host.statistics.times.add(1, now)
        shard.host.statistics.assigned([(1, f"flow-{number}") for number in range(30_000)], now + 0.01)
        shard.wall.stop(AT + 60)
        await shard.keeper.store()
        assert shard.storage._connection.execute("SELECT count(*) FROM series").get == 1002
        total = (await shard.storage.series.read(flow_id=ALL, from_minute=0, until_minute=2**31, step=1)).popitem()[1]
        assert sum(total.waits.values()) == 30_000
        assert not (await shard.keeper.overview("flow-1", Period.HOUR)).counted_together
        assert (await shard.keeper.overview("flow-29000", Period.HOUR)).counted_together
        other = (await shard.keeper.overview(OTHER, Period.HOUR)).total
        assert other.wait_p99 == pytest.approx(0.01, rel=0.07)


async def test_the_overview_survives_a_restart_of_a_whole_router(tmp_path):
    async with running_router(tmp_path / "data") as router, router.client() as client:
        await client.flows.apply([flow("shop"), flow("bank")])
        for _ in range(3):
            await client.ingest("shop", {})
        async with attached(router, credit=1) as runner:
            await runner.complete((await runner.assignments(1))[0])
        before = (await client.flows.overview("shop")).total
        assert (before.accepted, before.completed, before.pending) == (3, 1, 2)
    async with running_router(tmp_path / "data") as router, router.client() as client:
        async with asyncio.timeout(30):
            while (after := (await client.flows.overview("shop")).total).accepted != 3:
                await asyncio.sleep(0.02)
        assert (after.completed, after.latency_p99) == (1, before.latency_p99)
        assert (await client.flows.overview()).total.accepted == 3
        assert (await client.flows.overview("bank", period=Period.MONTH)).total.accepted == 0


async def test_the_overview_of_no_flow_is_not_found_and_viewers_may_read(router, client):
    with pytest.raises(NotFoundError):
        await client.flows.overview("nobody")
    async with router.client("view") as viewer:
        assert (await viewer.flows.overview()).step == 60
    for role in ("edge", "runner"):
        async with router.client(role) as other:
            with pytest.raises(PermissionDeniedError):
                await other.flows.overview()
