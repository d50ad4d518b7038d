"""Series of numbers over time: each count is in one row, at a resolution that falls with its age."""

import random
from bisect import bisect_left
from collections import Counter

import pytest
from support.patience import PATIENCE

from flowhook.model.overview import MINUTE_MS, MINUTES, STEPS, Period
from flowhook.process.metric_table import OTHER
from router.storage.registry import FlowDraft
from router.storage.series import (
    ALL,
    BOUNDS,
    LEVELS,
    Counted,
    SeriesLog,
    SeriesMark,
    middle_of,
    quantile,
)

DAY = 24 * 60
START = 28_000_000 // DAY * DAY  # Unix time in minutes


async def apply(cluster, *flow_ids):
    drafts = [FlowDraft(flow_id, b"d", b"{}", has_webhook=False, reacts=False) for flow_id in flow_ids]
    await cluster.registry.apply_flows(drafts, now_ms=1)


async def age(series, minute):
    following = ""
    while (following := await series.age(following, minute * MINUTE_MS)) is not None:
        pass


async def read(series, flow_id, minute, period):
    """Return what is read for a period up to a minute, and for the one before, by step."""
    step = STEPS[period]
    until = (minute // step + 1) * step
    start = until - 2 * MINUTES[period]
    found = await series.read(flow_id=flow_id, from_minute=start, until_minute=until, step=step)
    return start, until, found


def rows(cluster):
    return cluster.storage._connection.execute("SELECT count(*) FROM series").get


@pytest.mark.timeout(PATIENCE * 4)
async def test_each_period_has_exactly_what_was_counted_at_any_time_and_after_a_restart(cluster):
    await apply(cluster, "shop")
    chance = random.Random(26)
    counted, greatest, minute = Counter(), {}, START
    for number in range(260):
        minute += chance.choice((1, 1, 1, 7, 60, 200, DAY // 2))
        accepted, pending = chance.randint(1, 50), chance.randint(0, 9)
        counted[minute] += accepted
        greatest[minute] = pending
        each = Counted(accepted, pending=pending, waits={accepted: accepted})
        await cluster.storage.series.save({("shop", minute): each, (ALL, minute): each}, SeriesMark(number, minute))
        if number % 3 == 0:
            await age(cluster.storage.series, minute)
        if number == 130:
            await cluster.restart()
            assert await cluster.storage.series.mark() == SeriesMark(number, minute)
        if number % 20:
            continue
        for flow_id in ("shop", ALL):
            for period in Period:
                start, until, found = await read(cluster.storage.series, flow_id, minute, period)
                for step in range(max(start, START), until, STEPS[period]):
                    minutes = [at for at in range(step, step + STEPS[period]) if at in counted]
                    have = found.get(step, Counted())
                    assert have.accepted == sum(counted[at] for at in minutes) == sum(have.waits.values())
                    assert have.pending == max((greatest[at] for at in minutes), default=0)
    assert await cluster.storage.series.first_minute() is not None


async def test_minutes_that_come_again_have_the_counts_of_both(cluster):
    series = cluster.storage.series
    for accepted in (3, 4):
        await series.save({(ALL, START): Counted(accepted, pending=accepted, waits={8: 1})}, SeriesMark())
    await age(series, START + 10 * DAY)
    await series.save({(ALL, START): Counted(5)}, SeriesMark())  # its minute has moved on meanwhile
    await age(series, START + 10 * DAY)
    _, _, found = await read(series, ALL, START, Period.MONTH)
    assert [(each.accepted, each.pending, each.waits) for each in found.values()] == [(12, 4, {8: 2})]


async def test_flows_beyond_the_bound_are_counted_together_and_in_all_flows(cluster):
    flows = [f"flow-{number}" for number in range(5)]
    await apply(cluster, *flows)
    series = SeriesLog(cluster.storage.writer, cluster.storage._queries, 3)
    await series.save({("flow-0", START): Counted(1), ("flow-1", START): Counted(1)}, SeriesMark())
    series = SeriesLog(cluster.storage.writer, cluster.storage._queries, 3)  # of the next router
    await series.save({(flow, START + 1): Counted(1) for flow in [*reversed(flows), ALL]}, SeriesMark())
    found = await series.since(START)
    assert sorted(found) == [
        (OTHER, START + 1, Counted(2)),
        ("flow-0", START, Counted(1)),
        ("flow-0", START + 1, Counted(1)),
        ("flow-1", START, Counted(1)),
        ("flow-1", START + 1, Counted(1)),
        ("flow-4", START + 1, Counted(1)),
    ]


async def test_the_series_of_a_deleted_flow_are_removed_and_its_place_is_free(cluster):
    await apply(cluster, "shop", "bank")
    series = SeriesLog(cluster.storage.writer, cluster.storage._queries, 1)
    await series.save({("shop", START): Counted(1), (ALL, START): Counted(1)}, SeriesMark())
    await cluster.registry.delete_flow("shop")
    await age(series, START)
    await series.save({("bank", START): Counted(2), (ALL, START): Counted(2)}, SeriesMark())
    assert await series.since(START) == [("bank", START, Counted(2))]
    _, _, found = await read(series, ALL, START, Period.HOUR)
    assert found[START].accepted == 3


@pytest.mark.timeout(PATIENCE * 4)
async def test_a_flow_takes_a_bounded_number_of_rows_and_bytes_however_long_it_runs(cluster):
    """Sixty-three days: more than anything is kept for, with as large rows as there can be."""
    await apply(cluster, "shop")
    series, durations = cluster.storage.series, dict.fromkeys(range(256), 2**32 - 1)
    wide = Counted(*[100_000] * 9, durations, durations)
    last = START + 63 * DAY
    for day in range(START, last, DAY):
        step = 1 if day >= last - 3 * DAY else 60  # minutes of long ago have moved on, whatever their number was
        await series.save({("shop", at): wide for at in range(day, day + DAY, step)}, SeriesMark())
        await age(series, day + DAY)
    connection = cluster.storage._connection
    number = rows(cluster)
    size = connection.execute(
        "SELECT sum(pgsize) FROM dbstat WHERE name IN ('series', 'sqlite_autoindex_series_1')"
    ).get
    most = sum(level.keep // level.step for level in LEVELS)
    assert number <= most + 20
    assert size < 2 * 2**20, size
    before = number
    for day in range(last, last + 5 * DAY, DAY):
        await series.save({("shop", at): wide for at in range(day, day + DAY, 60)}, SeriesMark())
        await age(series, day + DAY)
    assert rows(cluster) <= before


async def test_one_transaction_moves_a_bounded_number_of_rows(cluster):
    await apply(cluster, "shop")
    series = cluster.storage.series
    await series.save({("shop", START + at): Counted(1) for at in range(1500)}, SeriesMark())
    calls, following = 0, ""
    while following is not None:
        before = rows(cluster)
        following = await series.age(following, (START + 1500 + LEVELS[0].keep + 15) * MINUTE_MS)
        assert before - rows(cluster) <= 500
        calls += 1
    assert calls > 3
    assert rows(cluster) == 100


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_quantiles_are_exact_to_seven_per_cent(share):
    chance = random.Random(1)
    for spread in (1.0, 100.0, 100_000.0):
        values = sorted(chance.lognormvariate(1, 1) * spread / 1000 for _ in range(2001))
        durations = Counter(bisect_left(BOUNDS, value) for value in values)
        exact = values[round(share * 2000)]
        assert quantile(durations, share) == pytest.approx(exact, rel=0.07, abs=0.001)
    assert quantile({}, share) is None


@pytest.mark.parametrize("seconds", [0, 0.001, 0.0021, 0.016, 0.0161, 1.0, 86_400.0, BOUNDS[-1], 10 * BOUNDS[-1]])
def test_a_bucket_contains_its_middle(seconds):
    bucket = bisect_left(BOUNDS, seconds)
    assert bucket < 256
    assert bisect_left(BOUNDS, middle_of(bucket)) == min(bucket, len(BOUNDS) - 1)
    assert middle_of(bucket) == pytest.approx(min(seconds, BOUNDS[-1]), rel=0.07, abs=0.001)


def test_numbers_add_up_in_any_order():
    def made():
        return (Counted(n, 2 * n, pending=10 - n, waits={n: 1, 7: n}) for n in (1, 2, 3))

    one, two, three = made()
    other, another, last = made()
    assert one.add(two).add(three) == last.add(another.add(other))
    assert (one.accepted, one.pending, one.waits) == (6, 9, {1: 1, 2: 1, 3: 1, 7: 6})
    assert one.add(Counted()) == last
