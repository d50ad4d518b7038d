"""When snapshots are due, and what failures of them lead to."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from flowhook.errors import UnavailableError
from flowhook.limits import MIB
from router.storage.replicated.snapshots import SnapshotMade, SnapshotSchedule, SnapshotTask


@pytest.fixture
def schedule():
    return SnapshotSchedule(0.0, log_bytes=100, seconds=1800)


def test_a_snapshot_is_due_once_the_log_has_grown_by_a_size(schedule):
    schedule.grew(99)
    assert not schedule.due(1.0)
    schedule.grew(1)
    assert schedule.due(1.0)


def test_a_snapshot_is_due_after_a_time_if_anything_changed(schedule):
    assert not schedule.due(10_000.0)
    schedule.grew(1)
    assert not schedule.due(1799.0)
    assert schedule.due(1800.0)


def test_a_snapshot_of_a_log_that_is_nearly_full_is_due_after_a_minute(schedule):
    assert not schedule.due(60.0, crowded=True)
    schedule.grew(1)
    assert not schedule.due(59.0, crowded=True)
    assert schedule.due(60.0, crowded=True)
    assert not schedule.due(60.0)


def test_what_was_appended_during_a_snapshot_counts_for_the_next_one(schedule):
    schedule.grew(100)
    schedule.begin()
    schedule.grew(60)
    schedule.succeeded(10.0)
    assert not schedule.due(11.0)
    schedule.grew(40)
    assert schedule.due(11.0)


def test_the_time_is_that_since_the_last_success(schedule):
    schedule.grew(100)
    schedule.begin()
    schedule.succeeded(1000.0)
    schedule.grew(1)
    assert not schedule.due(2799.0)
    assert schedule.due(2800.0)


def test_a_failed_snapshot_is_repeated_after_a_minute(schedule):
    schedule.grew(100)
    schedule.begin()
    schedule.failed(10.0)
    assert not schedule.due(69.0)
    assert schedule.due(70.0)


def test_an_hour_of_failures_raises_the_alarm_which_ends_with_a_success(schedule):
    schedule.grew(100)
    schedule.failed(10.0)
    schedule.failed(3609.0)
    assert not schedule.alarm(3609.0)
    assert schedule.alarm(3610.0)
    schedule.begin()
    schedule.succeeded(3620.0)
    assert not schedule.alarm(9999.0)
    assert schedule.failing(9999.0) == 0


class ScriptedStore:
    """Gives one result after the other; an error is raised."""

    def __init__(self, *results):
        self._results = list(results)
        self.alone = []

    def make(self, view, *, alone=False):
        self.alone.append(alone)
        result = self._results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result


class PurgedLog:
    def __init__(self, max_bytes=None, room=None):
        self.max_bytes = max_bytes
        self._room = room
        self.purged = []

    def room(self):
        return self._room

    def purge(self, through):
        self.purged.append(through)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def run(schedule):
    """Return a function that makes a task with results of snapshots; with its log and clock."""

    def make(*results):
        log, clock = PurgedLog(), Clock()
        task = SnapshotTask(ScriptedStore(*results), log, Path("view.db"), schedule=schedule, clock=clock)
        return task, log, clock

    return make


def test_nothing_is_made_before_it_is_due(run):
    task, log, _ = run()
    assert not task.run_if_due()
    assert log.purged == []


@pytest.mark.parametrize(("room", "due"), [(36, False), (34, True)])
def test_a_log_is_nearly_full_before_it_refuses_events(schedule, room, due):
    log, clock = PurgedLog(max_bytes=100, room=room), Clock()
    task = SnapshotTask(ScriptedStore(SnapshotMade(9, 5)), log, Path("view.db"), schedule=schedule, clock=clock)
    schedule.grew(1)
    clock.now = 60.0
    assert task.run_if_due() is due


def test_the_log_is_purged_behind_the_older_snapshot_and_not_behind_a_single_one(run, schedule):
    task, log, _ = run(SnapshotMade(5, None), SnapshotMade(9, 5))
    for purged in ([], [5]):
        schedule.grew(100)
        assert task.run_if_due()
        assert log.purged == purged


def test_failures_are_logged_and_the_alarm_after_an_hour(run, schedule):
    away = UnavailableError("no quorum", reason="LOG_UNAVAILABLE")
    task, log, clock = run(away, away, SnapshotMade(9, 5))
    schedule.grew(100)
    with capture_logs() as logged:
        assert not task.run_if_due()
        assert not task.run_if_due()  # not due: the next attempt is a minute later
    assert [(entry["event"], entry["reason"]) for entry in logged] == [("snapshot failed", "LOG_UNAVAILABLE")]
    assert not task.alarm
    clock.now = 3600.0
    with capture_logs() as logged:
        assert not task.run_if_due()
    assert [entry["event"] for entry in logged] == [
        "snapshot failed",
        "snapshots have failed for long: the log grows until it is full",
    ]
    assert task.alarm
    assert task.failing == 3600.0
    clock.now = 3700.0
    assert task.run_if_due()
    assert not task.alarm
    assert log.purged == [5]


def test_a_defect_is_a_failure_and_the_next_attempt_is_made_all_the_same(run, schedule):
    task, _, clock = run(KeyError("digest"), SnapshotMade(9, 5))
    schedule.grew(100)
    with capture_logs() as logged:
        assert not task.run_if_due()
    assert [entry["event"] for entry in logged] == ["snapshot failed"]
    clock.now = 3600.0
    assert task.run_if_due()


USUAL = {"log_bytes": 256 * MIB, "seconds": 1800}


class SizedLog:
    """A log of a size."""

    def __init__(self, max_bytes, used):
        self.max_bytes = max_bytes
        self.used = used

    def room(self):
        return None if self.max_bytes is None else self.max_bytes - self.used


@pytest.mark.parametrize(("max_bytes", "due"), [(None, 256), (2048, 256), (64, 8)])
def test_a_small_log_has_snapshots_before_it_is_full(max_bytes, due):
    schedule = SnapshotSchedule.of_log(SizedLog(max_bytes and max_bytes * MIB, 0), 0.0, **USUAL)
    schedule.grew(due * MIB - 1)
    assert not schedule.due(1.0)
    schedule.grew(1)
    assert schedule.due(1.0)


@pytest.mark.parametrize(("used", "due"), [(0, False), (23, False), (24, True), (64, True)])
def test_a_log_that_lacks_snapshots_gets_one_when_a_router_starts(used, due):
    assert SnapshotSchedule.of_log(SizedLog(64 * MIB, used * MIB), 0.0, **USUAL).due(0.0) is due


def test_after_an_erasure_a_snapshot_replaces_all_others_within_a_minute_though_nothing_grew(schedule):
    log, clock, erasures = PurgedLog(), Clock(), [3]
    store = ScriptedStore(UnavailableError("no"), SnapshotMade(7, 6), SnapshotMade(9, 8), SnapshotMade(20, 9))
    task = SnapshotTask(store, log, Path("view.db"), schedule=schedule, clock=clock, last_erasure=lambda: erasures[-1])
    clock.now = 59.0
    assert not task.run_if_due()
    clock.now = 60.0
    assert not task.run_if_due()  # it fails, and is due again
    clock.now = 120.0
    assert task.run_if_due()
    assert (store.alone, log.purged) == ([True, True], [6])
    erasures.append(4)
    clock.now = 179.0
    assert not task.run_if_due()
    clock.now = 180.0
    assert task.run_if_due()
    clock.now = 9_999.0
    assert not task.run_if_due()
    schedule.grew(100)
    assert task.run_if_due()
    assert (store.alone, log.purged) == ([True, True, True, False], [6, 8, 9])
