"""Walks over executions that meet conditions, oldest first."""

from __future__ import annotations

from itertools import chain

import pytest

from flowhook.model import Status
from flowhook.model.execution_filter import ALL, ExecutionFilter
from router.storage import execution_list as execution_walk

SHOP = ExecutionFilter(flow_id="shop")


@pytest.fixture
async def stored(cluster, new_event):
    """Twelve executions: those of `bank` have numbers that 3 divides; those of `shop` before 7 were cancelled."""
    await cluster.append(*(new_event("bank" if seq % 3 == 0 else "shop") for seq in range(1, 13)))
    await cluster.end(1, 2, 4, 5, status=Status.CANCELLED)


async def walked(cluster, wanted, **options):
    """Return the numbers that each step of a walk finds."""
    steps, after = [], options.pop("after_seq", 0)
    while after is not None:
        records, after = await cluster.state.walk_executions(wanted, after_seq=after, **options)
        steps.append([record.seq for record in records])
    return steps


@pytest.mark.parametrize(
    ("wanted", "seqs"),
    [
        (ALL, list(range(1, 13))),
        (SHOP, [1, 2, 4, 5, 7, 8, 10, 11]),
        (SHOP._replace(statuses=(Status.CANCELLED,)), [1, 2, 4, 5]),
        (ExecutionFilter(statuses=(Status.PENDING,)), [3, 6, 7, 8, 9, 10, 11, 12]),
        (ExecutionFilter(attributes=(("order", "1"),)), []),
    ],
)
async def test_executions_are_found_oldest_first(cluster, stored, wanted, seqs):
    assert list(chain.from_iterable(await walked(cluster, wanted))) == seqs
    assert list(chain.from_iterable(await walked(cluster, wanted, limit=3))) == seqs


async def test_a_walk_has_bounds(cluster, stored):
    assert await walked(cluster, SHOP, after_seq=2, last_seq=8, limit=2) == [[4, 5], [7, 8], []]
    assert await walked(cluster, SHOP, after_seq=12) == [[]]


async def test_a_walk_whose_time_is_over_continues_where_it_ended(cluster, stored, monkeypatch):
    monkeypatch.setattr(execution_walk, "FIRST_WINDOW", 5)
    monkeypatch.setattr(execution_walk, "SCAN_SECONDS", 0)
    monkeypatch.setattr(execution_walk, "SHORT_SECONDS", 0)
    steps = await walked(cluster, SHOP)
    assert len(steps) > 2
    assert list(chain.from_iterable(steps)) == [1, 2, 4, 5, 7, 8, 10, 11]
