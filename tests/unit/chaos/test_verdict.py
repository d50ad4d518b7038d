"""The verdict of a chaos campaign sees each violation, so that a clean one means something."""

import pytest

from chaos import flows
from chaos.cluster import Findings
from chaos.faults import EVERYTHING, LEADER, OWNER, InjectedFault
from chaos.senders import Acknowledged
from chaos.service import Call
from chaos.verdict import judge
from flowhook.model import Status

COMPLETED = Status.COMPLETED


def acknowledged(event_id, flow_id=flows.WAIT, at=1.0, asked=None):
    return Acknowledged(flow_id, event_id, at - 0.1 if asked is None else asked, at)


def call(execution_id, step="after", began=1.0, answered=1.03, *, number=0, key=0, runner="runner-1"):
    return Call(execution_id, step, number, key, runner, began, answered)


def kinds(verdict):
    return {problem.partition(":")[0] for problem in verdict.problems}


def test_a_campaign_in_which_all_went_well():
    verdict = judge([acknowledged("evt_1")], {"evt_1": (flows.WAIT, COMPLETED)}, [call("evt_1")], [])
    assert verdict.problems == []
    assert (verdict.counts["acknowledged"], verdict.counts["executions"], verdict.counts["calls"]) == (1, 1, 1)


@pytest.mark.parametrize(
    ("events", "executions", "calls", "expected"),
    [
        ([acknowledged("evt_1")], {}, [], {"lost"}),
        ([], {"evt_1": (flows.WAIT, COMPLETED)}, [call("evt_1")], {"twice"}),
        (
            [acknowledged("evt_1"), acknowledged("evt_1")],
            {"evt_1": (flows.WAIT, COMPLETED)},
            [call("evt_1")],
            {"twice"},
        ),
        ([acknowledged("evt_1")], {"evt_1": (flows.WAIT, Status.FAULTED)}, [], {"not_completed"}),
        ([acknowledged("evt_1")], {"evt_1": (flows.WAIT, COMPLETED)}, [], {"calls_missing"}),
        (
            [acknowledged("evt_1")],
            {"evt_1": (flows.WAIT, COMPLETED)},
            [call("evt_1", answered=None)],
            {"calls_missing"},
        ),
    ],
    ids=["lost", "unknown", "one ID for two", "faulted", "no call", "unanswered call"],
)
def test_what_is_lost_doubled_or_unfinished_is_a_problem(events, executions, calls, expected):
    assert kinds(judge(events, executions, calls, [])) == expected


def test_events_of_one_key_run_one_after_another():
    executions = {f"evt_{number}": (flows.ORDER, COMPLETED) for number in range(2)}
    events = [acknowledged(key, flows.ORDER) for key in executions]

    def calls(second_begins, *, key=0):
        return [
            call("evt_0", "begin", 1.0, 1.03),
            call("evt_0", "end", 1.1, 1.13),
            call("evt_1", "begin", second_begins, second_begins + 0.03, number=1, key=key),
            call("evt_1", "end", 2.0, 2.03, number=1, key=key),
        ]

    assert kinds(judge(events, executions, calls(1.2), [])) == set()
    assert kinds(judge(events, executions, calls(1.05), [])) == {"out_of_order"}
    assert kinds(judge(events, executions, calls(1.05, key=1), [])) == set()


STOP = InjectedFault("SIGSTOP", "runner-1", 2.0, 8.0)


@pytest.mark.parametrize(
    ("fault", "runner", "asked", "expected"),
    [
        (STOP, "runner-1", 0.9, set()),
        (STOP, "", 0.9, set()),
        (STOP, "runner-2", 0.9, {"out_of_order"}),
        (STOP, "runner-1", 2.1, {"out_of_order"}),
        (InjectedFault("SIGSTOP", "runner-1", 7.0, 8.0), "runner-1", 0.9, {"out_of_order"}),
        (InjectedFault("SIGSTOP", "router-1", 2.0, 8.0), "runner-1", 0.9, {"out_of_order"}),
        (InjectedFault("SIGSTOP", "runner-1", -20.0, -10.0), "runner-1", -30.0, {"out_of_order"}),
    ],
    ids=[
        "lost its leases",
        "not known who called",
        "another runner called",
        "sent after the stop began",
        "kept them",
        "another process",
        "went on long before",
    ],
)
def test_a_call_that_was_under_way_in_a_stopped_runner_may_come_late(fault, runner, asked, expected):
    executions = {f"evt_{number}": (flows.ORDER, COMPLETED) for number in range(2)}
    events = [acknowledged(key, flows.ORDER, asked=asked) for key in executions]
    calls = [
        call(key, step, number + 1.0, number + 1.03, number=number)
        for number, key in enumerate(executions)
        for step in ("begin", "end")
    ]
    late = call("evt_0", "end", 8.1, 8.13, runner=runner)
    assert kinds(judge(events, executions, [*calls, late], [fault])) == expected


@pytest.mark.parametrize(("at_once", "expected"), [(3, set()), (4, {"too_many_at_a_time"})])
def test_a_limited_flow_runs_no_more_than_it_may(at_once, expected):
    executions = {f"evt_{number}": (flows.LIMIT, COMPLETED) for number in range(at_once)}
    calls = [call(key, "hold", 1.0 + number / 1000, 1.03) for number, key in enumerate(executions)]
    assert kinds(judge([acknowledged(key, flows.LIMIT) for key in executions], executions, calls, [])) == expected


@pytest.mark.parametrize(
    ("faults", "avoidable"),
    [
        ([], 1),
        ([InjectedFault("kill -9", "runner-1", 1.5, 1.5)], 0),
        ([InjectedFault("SIGSTOP", "runner-1", 0.5, 5.0)], 0),
        ([InjectedFault("kill -9", "runner-1", 40.0, 40.0)], 1),
    ],
    ids=["none", "just after the answer", "under way", "long after"],
)
def test_a_call_that_is_made_again_needs_a_fault_near_its_answer(faults, avoidable):
    calls = [call("evt_1"), call("evt_1", began=50.0, answered=50.03)]
    counts = judge([acknowledged("evt_1")], {"evt_1": (flows.WAIT, COMPLETED)}, calls, faults).counts
    assert (counts["calls_repeated"], counts["calls_repeated_without_a_fault_near"]) == (1, avoidable)


def test_recovery_lasts_from_a_kill_to_the_next_acknowledgement_unless_another_fault_is_made_meanwhile():
    moments = ((1.9, 2.1), (4.4, 4.5), (8.9, 9.0), (11.4, 11.5), (20.0, 21.0))
    events = [acknowledged(f"evt_{number}", asked=asked, at=at) for number, (asked, at) in enumerate(moments)]
    faults = [
        InjectedFault("kill -9", "router-1", 2.0, 2.0, OWNER),
        InjectedFault("kill -9", "router-2", 5.0, 5.0),
        InjectedFault("kill -9 of everything", "everything", 6.0, 8.0, EVERYTHING),
        InjectedFault("kill -9", "edge-1", 9.2, 9.2),
        InjectedFault("kill -9 of a NATS server", "nats-2", 10.0, 10.0, LEADER),
        InjectedFault("kill -9", "router-1", 12.0, 12.0, OWNER),
        InjectedFault("SIGSTOP", "edge-1", 13.0, 14.0),
        InjectedFault("kill -9", "router-1", 22.0, 22.0, OWNER),
    ]
    executions = {event.event_id: (flows.WAIT, COMPLETED) for event in events}
    verdict = judge(events, executions, [], faults)
    assert verdict.recovery_seconds == {OWNER: [2.5], LEADER: [1.5], EVERYTHING: [3.0]}
    shown = verdict.as_dict()
    assert (shown["owner_recovery_median_s"], shown["everything_recovery_worst_s"]) == (2.5, 3.0)


def test_what_is_found_in_the_storage_is_part_of_the_verdict():
    verdict = judge([], {}, [], [])
    verdict.add(Findings({"log_gap": ["after 7"], "log_batch_twice": []}, {"log_records": 8}))
    assert verdict.problems == ["log_gap: after 7"]
    assert (verdict.counts["log_records"], verdict.counts["log_gap"], verdict.counts["log_batch_twice"]) == (8, 1, 0)
