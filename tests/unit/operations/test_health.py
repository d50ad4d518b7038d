"""When the cluster is ready, and what is told of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flowhook.client import ProcessInfo
from operations import health


def _process(name, *, ready=True, last_seen=0.5, detail=""):
    return ProcessInfo(name, name.partition("-")[0], "0.1.0", 7, "host", ready, detail, b"", last_seen)


CLUSTER = [_process("admin-1"), _process("edge-1"), _process("router-1"), _process("runner-1"), _process("runner-2")]


def test_a_cluster_with_one_of_each_is_ready():
    assert health.unready_reasons(CLUSTER) == []


@pytest.mark.parametrize("role", ["edge", "router"])
def test_a_cluster_lacking_a_role_is_not_ready(role):
    processes = [process for process in CLUSTER if process.role != role]
    assert health.unready_reasons(processes) == [f"there is no {role}"]


def test_one_of_two_runners_will_do():
    processes = [replace(process, ready=process.name != "runner-2") for process in CLUSTER]
    assert health.unready_reasons(processes) == []


def test_a_process_that_is_not_ready_says_what_it_lacks():
    processes = [replace(process, ready=process.role != "edge", detail="router is away") for process in CLUSTER]
    assert health.unready_reasons(processes) == ["no edge is ready (edge-1: router is away)"]


def test_a_process_that_fell_silent_is_not_counted_on():
    processes = [replace(process, last_seen=40.0 if process.role == "runner" else 0.1) for process in CLUSTER]
    assert health.unready_reasons(processes) == [
        "no runner is ready (runner-1: no report for 40 s; runner-2: no report for 40 s)"
    ]


def test_a_warning_is_said_and_keeps_nothing_from_being_ready():
    warning = "its clock is 15 s ahead of the router's"
    processes = [replace(each, warnings=(warning,) if each.name == "runner-1" else ()) for each in CLUSTER]
    assert health.warnings(processes) == [f"runner-1: {warning}"]
    assert health.unready_reasons(processes) == []
    shown = next(view for view in map(health.describe_process, processes) if view.name == "runner-1")
    assert (shown.ready, shown.detail) == (True, warning)


def test_a_standby_that_nobody_would_reach_is_warned_of_while_all_is_well():
    problem = "router-2 is not reachable at 10.0.0.6:50051 (edge-1 can't connect: connection refused)"
    standbys = [
        _process("router-2", ready=False, detail=problem),
        _process("router-3", ready=False, detail="following"),
    ]
    assert health.warnings([*CLUSTER, *standbys]) == [problem, "router-3: following"]
    assert health.unready_reasons([*CLUSTER, *standbys]) == []


def test_a_router_without_another_is_no_warning_but_a_reason():
    processes = [replace(process, ready=process.role != "router", detail="recovering") for process in CLUSTER]
    assert health.warnings(processes) == []
    assert health.unready_reasons(processes) == ["no router is ready (router-1: recovering)"]


def test_a_silent_process_is_described_as_such():
    shown = health.describe_process(_process("edge-1", last_seen=40.0))
    assert (shown.ready, shown.detail) == (False, "no report for 40 s")
