"""Servers of the log that are out: logged once, shown to operators meanwhile, and logged when they are back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from flowhook.model.cluster import LogServerInfo
from flowhook.process.process_state import ProcessState
from router.cluster.watches import SERVERS, LogServerWatch
from router.storage.commit_log.interface import LogStatus

FULL = "has turned its storage off"


def status(**changes):
    """Return the state of a log of three servers; `changes` are those of the second one."""
    servers = [LogServerInfo(f"nats-{number}", "2.15", True, number == 1, 0, "") for number in (1, 2, 3)]
    servers[1] = replace(servers[1], **changes)
    return LogStatus(1, 9, 100, None, tuple(servers))


@pytest.fixture
def lifecycle():
    return ProcessState(name="router-1", role="router")


@pytest.fixture
def watch(lifecycle):
    return LogServerWatch(None, lifecycle)


def test_a_server_that_says_what_keeps_it_out_is_named_at_once_and_once(watch, lifecycle):
    with capture_logs() as logged:
        for _ in range(3):
            watch.look(status(current=False, problem=FULL, lag=12))
    assert logged == [
        {"event": "a server of the log is out", "server": "nats-2", "cause": FULL, "log_level": "warning"}
    ]
    assert lifecycle.warnings == {SERVERS: f"the server nats-2 of the log is out: it {FULL}"}


def test_one_that_is_not_current_is_named_if_it_still_is_not_at_the_next_look(watch, lifecycle):
    watch.look(status(current=False, lag=1))
    watch.look(status())
    watch.look(status(current=False, lag=1))
    assert lifecycle.warnings == {}
    watch.look(status(current=False, lag=7))
    assert "it does not answer, or is 7 operations behind" in lifecycle.warnings[SERVERS]


def test_when_it_is_back_that_is_logged_and_the_warning_is_gone(watch, lifecycle):
    watch.look(status(current=False, problem=FULL))
    with capture_logs() as logged:
        watch.look(status())
    assert [(each["event"], each["server"]) for each in logged] == [("a server of the log is back", "nats-2")]
    assert lifecycle.warnings == {}
