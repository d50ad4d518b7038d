"""Times that the parts of a process have in common."""

from __future__ import annotations

import asyncio

import pytest

from flowhook.process.ticks import next_tick, until_tick


@pytest.mark.parametrize(
    ("now", "seconds", "wait"),
    [(10.0, 2.0, 2.0), (10.5, 2.0, 1.5), (11.5, 2.0, 2.5), (11.9, 2.0, 2.1), (7.0, 0.5, 0.5), (7.0, 0.0, 0.0)],
)
async def test_a_tick_is_a_multiple_at_least_half_of_it_ahead(monkeypatch, now, seconds, wait):
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
    assert until_tick(seconds) == pytest.approx(wait)


async def test_waiting_for_a_tick_takes_no_time_that_it_need_not():
    await next_tick(0)
