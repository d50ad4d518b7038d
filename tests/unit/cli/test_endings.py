"""What the exit code of a process tells of its end."""

from __future__ import annotations

import signal

import pytest

from cli.supervisor.child import ended_from_outside, how_it_ended, killed_from_outside

OUTSIDE = ["SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"]
OWN = ["SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE", "SIGXCPU"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_others_end_a_process_by_these_signals(name):
    number = signal.Signals[name]
    for code in (-number, 128 + number):  # the latter when it was told twice
        assert ended_from_outside(code)
        assert killed_from_outside(code)


@pytest.mark.parametrize("name", OWN)
def test_a_process_ends_itself_by_these_signals(name):
    assert not ended_from_outside(-signal.Signals[name])
    assert not killed_from_outside(-signal.Signals[name])


@pytest.mark.parametrize("code", [1, 2, 70])
def test_a_refusal_or_a_defect_is_a_process_s_own_end(code):
    assert not ended_from_outside(code)
    assert not killed_from_outside(code)


def test_a_process_that_drained_was_told_to_and_lost_nothing():
    assert ended_from_outside(0)
    assert not killed_from_outside(0)


def test_an_end_is_told_with_the_name_of_the_signal():
    assert how_it_ended(-9) == "was killed by SIGKILL"
    assert how_it_ended(-77) == "was killed by signal 77"
    assert how_it_ended(70) == "ended with exit code 70"
