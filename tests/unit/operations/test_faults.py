"""Executions that failed for the same cause are one group."""

from __future__ import annotations

from flowhook.model import Execution, Status, WorkflowError
from operations.execution_list import group_faults


def faulted(number, flow="orders", *, instance="/do/0/a", status=503, title="Communication Error"):
    error = WorkflowError("about:blank", status, title, instance, f"attempt {number}")
    return Execution(f"evt_{number}", flow, 1, Status.FAULTED, 1, number * 1000, number * 1000, error)


def test_executions_that_failed_alike_are_one_group():
    [group] = group_faults([faulted(3), faulted(2), faulted(1)])
    assert (group.flow_id, group.task, group.status, group.title) == ("orders", "/do/0/a", 503, "Communication Error")
    assert (group.count, group.latest_id, group.detail) == (3, "evt_3", "attempt 3")
    assert (group.first_at.timestamp(), group.latest_at.timestamp()) == (1.0, 3.0)


def test_others_are_groups_of_their_own_newest_first():
    groups = group_faults(
        [
            faulted(5, "payments"),
            faulted(4, title="Timeout"),
            faulted(3, status=500),
            faulted(2, instance="/do/1/b"),
            faulted(1),
            faulted(0, "payments"),
        ]
    )
    assert [(group.latest_id, group.count) for group in groups] == [
        ("evt_5", 2),
        ("evt_4", 1),
        ("evt_3", 1),
        ("evt_2", 1),
        ("evt_1", 1),
    ]


def test_without_faults_there_are_no_groups():
    assert group_faults([]) == ()
