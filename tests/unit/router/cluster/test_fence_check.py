"""Whether an owner knows that it still is the owner."""

import pytest
from support.fake_log import AwayLog, FakeLog

from router.cluster.fence_check import CONFIRMED_SECONDS, FenceCheck
from router.storage.commit_log.interface import LogReplacedError
from router.storage.replicated.recorder import LogRecorder
from router.storage.replicated.view import View


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class ReplacedLog(FakeLog):
    def tail(self):
        raise LogReplacedError("the log was deleted and created again")


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("router.storage.replicated.recorder.time.monotonic", clock)
    return clock


def owner(log, directory, clock):
    """Return what claimed the shard, and the check."""
    recorder = LogRecorder(log, View(directory).create(log.identity), lost=lambda _: None, now_ms=lambda: 0)
    with View(directory).connected() as connection:
        connection.execute("BEGIN IMMEDIATE")
        recorder.begin(connection)
        connection.execute("INSERT INTO counter VALUES ('a', 1)")
        recorder.append()
        connection.execute("COMMIT")
    return FenceCheck(log, recorder, clock=clock)


def test_a_claim_confirms_from_when_its_append_began(tmp_path, clock):
    class SlowLog(FakeLog):
        def append(self, *args, **options):
            position = super().append(*args, **options)
            clock.now += CONFIRMED_SECONDS  # its acknowledgement was lost, and another router may have claimed since
            return position

    assert not owner(SlowLog(), tmp_path, clock).confirmed()


def test_a_confirmation_counts_for_a_while(tmp_path, clock):
    check = owner(FakeLog(), tmp_path, clock)
    assert check.confirmed()
    clock.now += CONFIRMED_SECONDS
    assert not check.confirmed()
    assert check.check()
    assert check.confirmed()


def test_another_writers_record_refutes(tmp_path, clock):
    log = FakeLog()
    check = owner(log, tmp_path, clock)
    clock.now += CONFIRMED_SECONDS
    log.append(1, "other", b"")
    assert not check.check()
    assert not check.confirmed()


def test_a_log_that_cannot_be_reached_confirms_nothing_and_refutes_nothing(tmp_path, clock):
    check = owner(AwayLog(), tmp_path, clock)
    clock.now += CONFIRMED_SECONDS
    assert check.check()
    assert not check.confirmed()


def test_a_log_that_was_replaced_refutes(tmp_path, clock):
    check = owner(ReplacedLog(), tmp_path, clock)
    clock.now += CONFIRMED_SECONDS
    assert not check.check()
