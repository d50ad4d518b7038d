"""How often a process reports: seldom, when it does little and nothing about it has changed."""

from __future__ import annotations

import pytest

from flowhook.process.process_state import ProcessState
from flowhook.reporting import process_reports
from flowhook.reporting.process_reports import INTERVAL, REST_INTERVALS, REST_SHARE, ProcessReporter


class Process:
    """A process whose reporter does not wait: what happens in each interval is given."""

    def __init__(self):
        self.state = ProcessState(name="edge-1", role="edge")
        self.state.ready.set()
        self.reporter = ProcessReporter(None, self.state)
        self.used = 0.0
        self.intervals = 0
        self.during = lambda: None

    async def next_tick(self, seconds):
        assert seconds == INTERVAL
        self.intervals += 1
        self.during()

    async def until_report(self):
        self.intervals = 0
        await self.reporter._until_due()
        return self.intervals


@pytest.fixture
def process(monkeypatch):
    process = Process()
    monkeypatch.setattr(process_reports, "next_tick", process.next_tick)
    monkeypatch.setattr(process_reports.time, "process_time", lambda: process.used)
    return process


async def test_one_at_rest_reports_after_several_intervals(process):
    assert await process.until_report() == REST_INTERVALS


async def test_one_that_works_reports_after_each(process):
    def work():
        process.used += 2 * REST_SHARE * INTERVAL

    process.during = work
    assert await process.until_report() == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.ready.clear(),
        lambda state: state.stop.set(),
        lambda state: state.warn("installation", "replaced"),
        lambda state: setattr(state, "connections", lambda: 1),
    ],
    ids=["not ready", "stopping", "a warning", "a connection"],
)
async def test_what_has_changed_is_reported_after_the_interval_in_which_it_did(process, change):
    def later():
        if process.intervals == 2:
            change(process.state)

    process.during = later
    assert await process.until_report() == 2
