"""How often a process reports: seldom, when it does little and nothing about it has changed."""

from __future__ import annotations

import pytest

from flowhook.process.process_state import ProcessState
from flowhook.reporting import process_reports
from flowhook.reporting.process_reports import INTERVAL, REST_INTERVALS, REST_SHARE, ProcessReporter
from flowhook.v1 import cluster_service_pb2 as pb


class EnoughReportsError(Exception):
    pass


class Process:
    """A process whose reporter does not wait: what happens in each interval, and during each report, is given.

    It is a gRPC channel to its router as well, which notes each report with the number of intervals before it.
    """

    def __init__(self):
        self.state = ProcessState(name="edge-1", role="edge")
        self.used = 0.0
        self.intervals = 0
        self.during_interval = lambda: None
        self.during_report = lambda: None
        self.reports: list[tuple[int, pb.Process]] = []

    async def next_tick(self, seconds):
        assert seconds == INTERVAL
        self.intervals += 1
        self.during_interval()

    def unary_unary(self, *_, **__):
        return self.report_process

    async def report_process(self, request, *, timeout):  # noqa: ASYNC109 - as gRPC calls it
        assert timeout == INTERVAL
        self.reports.append((self.intervals, request.process))
        self.during_report()
        if len(self.reports) == self.wanted:
            raise EnoughReportsError
        return pb.ReportProcessResponse()

    async def report(self, reports):
        """Report so many times; return how many intervals were over at each."""
        self.wanted = reports
        with pytest.raises(EnoughReportsError):
            await ProcessReporter(self, self.state).run()
        return [intervals for intervals, _ in self.reports[:reports]]  # one that is to stop reports that at the end


@pytest.fixture
def process(monkeypatch):
    process = Process()
    monkeypatch.setattr(process_reports, "next_tick", process.next_tick)
    monkeypatch.setattr(process_reports.time, "process_time", lambda: process.used)
    return process


async def test_one_at_rest_reports_after_several_intervals(process):
    process.state.ready.set()
    assert await process.report(3) == [0, REST_INTERVALS, 2 * REST_INTERVALS]


async def test_one_that_works_reports_after_each(process):
    def work():
        process.used += 2 * REST_SHARE * INTERVAL

    process.state.ready.set()
    process.during_interval = work
    assert await process.report(3) == [0, 1, 2]


CHANGES = {
    "not ready": lambda state: state.ready.clear(),
    "stopping": lambda state: state.stop.set(),
    "a warning": lambda state: state.warn("installation", "replaced"),
}


@pytest.mark.parametrize(
    "change",
    [*CHANGES.values(), lambda state: setattr(state, "connections", lambda: 1)],
    ids=[*CHANGES, "a connection"],
)
async def test_what_has_changed_is_reported_after_the_interval_in_which_it_did(process, change):
    def later():
        if process.intervals == 2:
            change(process.state)

    process.state.ready.set()
    process.during_interval = later
    assert await process.report(2) == [0, 2]


async def test_one_that_becomes_ready_while_it_reports_that_it_starts_says_so_at_once(process):
    process.during_report = process.state.ready.set
    assert await process.report(3) == [0, 0, REST_INTERVALS]
    assert [each.ready for _, each in process.reports] == [False, True, True]


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_what_changes_during_a_report_is_reported_at_once(process, change):
    process.state.ready.set()
    process.during_report = lambda: change(process.state)
    assert await process.report(2) == [0, 0]


async def test_what_changes_with_each_report_is_not_reported_without_pause(process):
    process.state.ready.set()
    process.state.connections = lambda: len(process.reports)
    process.during_report = lambda: process.state.warn("clock", f"{len(process.reports)} s ahead")
    assert await process.report(5) == [0, 0, 1, 1, 2]
