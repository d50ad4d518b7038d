"""What the exit code of a process tells of its end."""

from __future__ import annotations

import signal

import pytest
from support.cases import cases

from cli.supervisor.process_supervisor import describe_exit, ended_externally, killed_externally

OUTSIDE = ["SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"]
OWN = ["SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE", "SIGXCPU"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_others_end_a_process_by_these_signals(name):
    number = signal.Signals[name]
    for code in (-number, 128 + number):  # the latter when it was told twice
        assert ended_externally(code)
        assert killed_externally(code)


@cases("name", OWN)
def test_a_process_ends_itself_by_these_signals(name):
    assert not ended_externally(-signal.Signals[name])
    assert not killed_externally(-signal.Signals[name])


@pytest.mark.parametrize("code", [1, 2, 70])
def test_a_refusal_or_a_defect_is_a_process_s_own_end(code):
    assert not ended_externally(code)
    assert not killed_externally(code)


def test_a_process_that_drained_was_asked_to_and_lost_nothing():
    assert ended_externally(0)
    assert not killed_externally(0)


def test_an_end_is_reported_with_the_name_of_the_signal():
    assert describe_exit(-9) == "was killed by SIGKILL"
    assert describe_exit(-77) == "was killed by signal 77"
    assert describe_exit(70) == "ended with exit code 70"
