"""What an owner may conclude about its ownership from what the log says, or does not say."""

import pytest
from support.fake_log import AwayLog, FakeLog

from router.cluster.term import CONFIRMED_SECONDS, UNREACHABLE_SECONDS, FenceCheck


class Recorder:
    """What the check asks of a recorder."""

    def __init__(self, position=0, confirmed=100.0):
        self.position = position
        self.confirmed = confirmed

    def wrote(self, batch_id):
        return batch_id.startswith("own")


@pytest.fixture
def clock():
    class Clock:
        now = 100.0

        def __call__(self):
            return self.now

    return Clock()


def test_a_confirmation_counts_for_a_while(clock):
    check = FenceCheck(FakeLog(), Recorder(), clock=clock)
    assert check.confirmed()
    clock.now += CONFIRMED_SECONDS
    assert not check.confirmed()
    assert check.check()
    assert check.confirmed()


def test_a_record_of_another_ends_the_ownership(clock):
    log = FakeLog()
    check = FenceCheck(log, Recorder(), clock=clock)
    clock.now += CONFIRMED_SECONDS
    log.append(0, "own:1", b"")  # it was appended while the check was on its way
    assert check.check()
    log.append(1, "other:1", b"")
    assert not check.check()


def test_a_void_record_takes_nothing_from_its_owner(clock):
    log = FakeLog()
    check = FenceCheck(log, Recorder(), clock=clock)
    clock.now += CONFIRMED_SECONDS
    log.forge()
    assert check.check()
    log.append(1, "own:1", b"")
    log.forge()
    assert check.check()
    log.append(3, "other:1", b"")
    log.append(4, "own:like", b"")  # the last one does not tell who owns the log
    assert not check.check()


def test_an_owner_whose_records_were_purged_behind_its_back_owns_nothing(clock):
    log = FakeLog()
    check = FenceCheck(log, Recorder(), clock=clock)
    clock.now += CONFIRMED_SECONDS
    log.append(0, "other:1", b"")
    log.forge()
    log.purge(1)
    assert not check.check()


def test_an_owner_that_can_not_reach_the_log_is_cut_off_after_a_time(clock):
    check = FenceCheck(AwayLog(), Recorder(), clock=clock)
    clock.now += UNREACHABLE_SECONDS - 0.1
    assert check.check()
    assert not check.confirmed()
    clock.now += 0.2
    assert not check.check()
