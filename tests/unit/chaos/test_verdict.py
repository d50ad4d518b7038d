"""The verdict of a chaos campaign sees each violation, so that a clean one means something."""

import pytest
from support.cases import cases

from chaos import flows
from chaos.cluster import Findings
from chaos.evidence import EndedExecution, Evidence
from chaos.faults import EVERYTHING, LEADER, OWNER, InjectedFault
from chaos.senders import Acknowledged, Answered, Sent
from chaos.service import Call
from chaos.verdict import GUARANTEES, Verdict, judge
from flowhook.model import Status

COMPLETED = Status.COMPLETED


def acknowledged(event_id, flow_id=flows.CALLS, at=1.0, asked=None, **others):
    return Acknowledged(flow_id, event_id, at - 0.1 if asked is None else asked, at, **{"delivery": event_id, **others})


def call(execution_id, step, began=1.0, answered=1.03, *, number=0, key=0, runner="runner-1", **others):
    return Call(
        f"{execution_id}:{step}", execution_id, step, others.pop("delivery", execution_id), number, key, runner, began,
        answered, **{"succeeded": answered is not None, **others},
    )  # fmt: skip


def ended(flow_id, status=COMPLETED, at=90.0):
    return EndedExecution(flow_id, status, at)


def verdict_of(events=(), executions=None, calls=(), faults=(), *, sent=None, **others):
    sent = sent or Sent()
    sent.acknowledged = list(events)
    return judge(Evidence(sent, executions or {}, calls, faults, **others))


def kinds(verdict):
    return {problem.partition(":")[0] for problem in verdict.problems}


HOLD = [call("evt_1", "hold")]


def test_a_campaign_in_which_all_went_well():
    verdict = verdict_of([acknowledged("evt_1", flows.LIMIT)], {"evt_1": ended(flows.LIMIT)}, HOLD)
    assert verdict.problems == []
    assert (verdict.counts["acknowledged"], verdict.counts["executions"], verdict.counts["calls"]) == (1, 1, 1)
    assert verdict.as_dict()["verdict"] == "passed"


@cases(
    ("events", "executions", "calls", "expected"),
    [
        (["evt_1"], {}, [], {"lost"}),
        ([], {"evt_1": COMPLETED}, HOLD, {"twice"}),
        (["evt_1", "evt_1"], {"evt_1": COMPLETED}, HOLD, {"twice"}),
        (["evt_1"], {"evt_1": Status.FAULTED}, [], {"not_completed"}),
        (["evt_1"], {"evt_1": COMPLETED}, [], {"calls_missing"}),
        (["evt_1"], {"evt_1": COMPLETED}, [call("evt_1", "hold", answered=None)], {"calls_missing"}),
        (["evt_1"], {"evt_1": COMPLETED}, [call("evt_1", "hold", succeeded=False)], {"calls_missing"}),
    ],
    ids=["lost", "unknown", "one ID for two", "faulted", "no call", "unanswered call", "failed call"],
)
def test_what_is_lost_doubled_or_unfinished_is_a_problem(events, executions, calls, expected):
    stored = {key: ended(flows.LIMIT, status) for key, status in executions.items()}
    verdict = verdict_of([acknowledged(key, flows.LIMIT) for key in events], stored, calls)
    assert kinds(verdict) == expected
    shown = verdict.as_dict()
    assert (shown["verdict"], shown["broken"]) == ("failed", [GUARANTEES[kind] for kind in expected])


@pytest.mark.parametrize(("requests", "expected"), [(1, {"twice"}), (2, set())])
def test_a_delivery_that_is_not_recognised_runs_no_more_often_than_it_was_sent(requests, expected):
    executions = {"evt_1": ended(flows.REPEATED), "evt_2": ended(flows.REPEATED)}
    calls = [call(key, step, delivery="x") for key in executions for step in flows.steps(flows.REPEATED)]
    events = [acknowledged("evt_2", flows.REPEATED, delivery="x", requests=requests)]
    assert kinds(verdict_of(events, executions, calls)) == expected


@pytest.mark.parametrize(
    ("children", "subscribers", "expected"),
    [(1, 1, set()), (0, 1, {"started_twice"}), (2, 1, {"started_twice"}), (1, 2, {"started_twice"})],
)
def test_what_a_flow_starts_runs_once(children, subscribers, expected):
    executions = {"evt_1": ended(flows.PARENT)}
    calls = [call("evt_1", "finish")]
    for flow_id, step, count in ((flows.CHILD, "work", children), (flows.SUBSCRIBER, "heard", subscribers)):
        for number in range(count):
            executions[f"{flow_id}_{number}"] = ended(flow_id)
            calls.append(call(f"{flow_id}_{number}", step, delivery="evt_1"))
    assert kinds(verdict_of([acknowledged("evt_1", flows.PARENT)], executions, calls)) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answered("evt_1", "evt_1", right=True, later=True), set()),
        (Answered("evt_1", "evt_1", right=False, later=False), {"wrong_replies"}),
        (Answered("evt_1", "evt_2", right=True, later=False), {"wrong_replies"}),
    ],
    ids=["right", "another content", "of another execution"],
)
def test_a_sender_gets_what_the_flow_answered(answer, expected):
    events, executions = [acknowledged("evt_1", flows.REPLY)], {"evt_1": ended(flows.REPLY)}
    verdict = verdict_of(events, executions, [call("evt_1", "answer")], sent=Sent(answers=[answer]))
    assert kinds(verdict) == expected


def test_what_was_given_up_or_came_damaged_is_a_problem():
    events, executions = [acknowledged("evt_1", flows.LARGE)], {"evt_1": ended(flows.LARGE)}
    calls = [call("evt_1", "content")]
    assert kinds(verdict_of(events, executions, calls, sent=Sent(unanswered=["callback of x"]))) == {"unanswered"}
    assert kinds(verdict_of(events, executions, calls, damaged=["evt_1"])) == {"damaged"}
    assert kinds(verdict_of(events, executions, [call("evt_1", "content", intact=False)])) == {"damaged"}


def test_events_of_one_key_run_one_after_another():
    executions = {f"evt_{number}": ended(flows.ORDER) for number in range(2)}
    events = [acknowledged(key, flows.ORDER) for key in executions]

    def calls(second_begins, *, key=0):
        return [
            call("evt_0", "enter", 1.0, 1.03),
            call("evt_0", "leave", 1.1, 1.13),
            call("evt_1", "enter", second_begins, second_begins + 0.03, number=1, key=key),
            call("evt_1", "leave", 2.0, 2.03, number=1, key=key),
        ]

    assert kinds(verdict_of(events, executions, calls(1.2))) == set()
    assert kinds(verdict_of(events, executions, calls(1.05))) == {"out_of_order"}
    assert kinds(verdict_of(events, executions, calls(1.05, key=1))) == set()


@pytest.mark.parametrize(("at_once", "expected"), [(3, set()), (4, {"too_many_at_a_time"})])
def test_a_limited_flow_runs_no_more_than_it_may(at_once, expected):
    executions = {f"evt_{number}": ended(flows.LIMIT) for number in range(at_once)}
    calls = [call(key, "hold", 1.0 + number / 1000, 1.03) for number, key in enumerate(executions)]
    assert kinds(verdict_of([acknowledged(key, flows.LIMIT) for key in executions], executions, calls)) == expected


@pytest.mark.parametrize(("keys", "expected"), [((1, 1, 2, 2), set()), ((1, 1, 1, 2), {"too_many_at_a_time"})])
def test_no_more_of_a_key_run_than_may(keys, expected):
    executions = {f"evt_{number}": ended(flows.KEYED) for number in range(len(keys))}
    calls = [call(id_, "keep", 1.0, 1.03, key=key) for id_, key in zip(executions, keys, strict=True)]
    assert kinds(verdict_of([acknowledged(id_, flows.KEYED) for id_ in executions], executions, calls)) == expected


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
    verdict = verdict_of(events, faults=faults)
    assert verdict.recovery_seconds == {OWNER: [2.5], LEADER: [1.5], EVERYTHING: [3.0]}
    shown = verdict.as_dict()
    assert (shown["owner_recovery_median_s"], shown["everything_recovery_worst_s"]) == (2.5, 3.0)


def test_what_is_found_in_the_storage_is_part_of_the_verdict():
    verdict = verdict_of()
    verdict.add(Findings({"log_gap": ["after 7"], "log_batch_twice": []}, {"log_records": 8}))
    assert verdict.problems == ["log_gap: after 7"]
    assert (verdict.counts["log_records"], verdict.counts["log_gap"], verdict.counts["log_batch_twice"]) == (8, 1, 0)
    assert verdict.as_dict()["broken"] == ["storage: log_gap"]


@pytest.mark.parametrize(("seconds", "verdict"), [(6.0, "passed"), (6.1, "refused: ")])
def test_a_campaign_that_stood_still_for_longer_than_a_lease_has_no_verdict(seconds, verdict):
    found = Verdict()
    found.count_stall(seconds)
    assert found.as_dict()["verdict"].startswith(verdict)
    assert found.counts["campaign_stalled_worst_ms"] == seconds * 1000
