"""A call whose result is journaled is never made again; what excuses one that is not, and a call that comes late."""

import pytest
from support.cases import cases

from chaos import flows
from chaos.evidence import EndedExecution, Evidence, LostLease
from chaos.faults import InjectedFault
from chaos.repeats import LateCalls, find_repeats
from chaos.senders import Sent
from chaos.service import Call
from chaos.verdict import suspects
from flowhook.model import Status


def call(step, began, answered=None, *, runner="runner-1", succeeded=True, execution="evt_1"):
    return Call(
        f"{execution}:{step}", execution, step, execution, 0, 0, runner, began, answered,
        succeeded=succeeded and answered is not None,
    )  # fmt: skip


def judged(calls, faults=(), lost=(), *, flow_id=flows.CALLS, ended=90.0):
    """Return the names of the lists that calls are in, and how many came late."""
    executions = {"evt_1": EndedExecution(flow_id, Status.COMPLETED, ended)}
    evidence = Evidence(Sent(), executions, calls, faults, {"evt_1": list(lost)})
    late = LateCalls(evidence)
    found = find_repeats(evidence, late)
    lists = ("excused", "journaled", "causeless", "after_the_end")
    return {name for name in lists if getattr(found, name)}, len(late)


def fault(kind, target, began, ended=None, recovered=None):
    ended = began if ended is None else ended
    return InjectedFault(kind, target, began, ended, recovered=ended + 3.0 if recovered is None else recovered)


FIRST = call("first", 1.0, 1.03)
AGAIN = call("first", 4.0, 4.03, runner="runner-2")
KILLED = fault("kill -9", "runner-1", 1.1)


def test_calls_that_are_made_once_are_neither():
    assert judged([FIRST, call("second", 1.1, 1.2), call("third", 1.3, 1.4)]) == (set(), 0)


@cases(
    "hit",
    [
        KILLED,
        fault("SIGTERM", "router-1", 1.01),
        fault("SIGSTOP", "runner-1", 0.5, 3.0),
        fault("disturbed connections", "router-1 with all servers: cut", 0.2, 1.02),
        fault("kill -9 of everything", "everything", 1.2, 3.0),
        fault("kill -9", "router-1", 0.1, recovered=0.9 + 0.2),
    ],
    ids=["runner", "router", "stopped before", "connections", "everything", "before, and not recovered"],
)
def test_an_answer_that_was_on_its_way_when_a_fault_hit_it_may_be_asked_for_again(hit):
    assert judged([FIRST, AGAIN, call("second", 4.1, 4.2)], [hit]) == ({"excused"}, 0)


@pytest.mark.parametrize(
    "other",
    [
        fault("kill -9", "runner-2", 1.01),
        fault("kill -9", "edge-1", 1.01),
        fault("SIGSTOP", "admin-1", 0.5, 3.0),
        fault("kill -9", "runner-1", 0.2, recovered=0.9),
        fault("kill -9", "runner-1", 3.9),
    ],
    ids=["another runner", "an edge", "admin", "recovered before", "long after the answer"],
)
def test_other_faults_excuse_nothing(other):
    assert judged([FIRST, AGAIN], [other]) == ({"causeless"}, 0)
    assert judged([FIRST, AGAIN], []) == ({"causeless"}, 0)


def test_nothing_excuses_a_call_whose_result_a_later_call_shows_to_be_journaled():
    later = call("second", 1.1)
    assert judged([FIRST, later, AGAIN], [KILLED]) == ({"journaled"}, 0)
    assert judged([FIRST, call("third", 3.9), AGAIN], [KILLED]) == ({"journaled"}, 0)
    assert judged([FIRST, call("second", 4.1), AGAIN], [KILLED]) == ({"excused"}, 0)


def test_nothing_excuses_a_call_whose_execution_has_ended():
    assert judged([FIRST, AGAIN], [KILLED], ended=2.0) == ({"journaled", "after_the_end"}, 0)
    assert judged([call("third", 4.0, 4.1)], [KILLED], ended=3.0) == ({"after_the_end"}, 0)
    assert judged([FIRST, AGAIN], [KILLED], ended=None) == ({"excused"}, 0)


def test_a_call_that_was_not_answered_or_failed_is_tried_again():
    assert judged([call("first", 1.0), AGAIN]) == (set(), 0)
    assert judged([call("first", 1.0, 1.03, succeeded=False), AGAIN]) == (set(), 0)
    assert judged([FIRST, call("first", 1.5), AGAIN, call("second", 1.2)], [KILLED])[0] == {"journaled"}


def test_branches_prove_what_is_before_them_only():
    left, again = call("left-1", 1.0, 1.03), call("left-1", 4.0, 4.03, runner="runner-2")
    forked = {"flow_id": flows.FORK}
    assert judged([left, call("right-2", 1.1), again], [KILLED], **forked) == ({"excused"}, 0)
    assert judged([left, call("left-2", 1.1), again], [KILLED], **forked) == ({"journaled"}, 0)
    assert judged([left, call("joined", 1.1), again], [KILLED], **forked) == ({"journaled"}, 0)


STOP = fault("SIGSTOP", "runner-1", 2.0, 10.0)
LOST = LostLease("runner-1", 0.9, 8.0, "its lease expired")
TAKEN_OVER = [FIRST, call("second", 8.3, 8.33, runner="runner-2"), call("third", 8.5, 8.53, runner="runner-2")]


def late_second(began=10.05, runner="runner-1"):
    return call("second", began, began + 0.03, runner=runner)


@pytest.mark.parametrize("runner", ["runner-1", ""])
def test_a_call_that_a_stopped_runner_was_about_to_make_comes_late(runner):
    assert judged([*TAKEN_OVER, late_second(runner=runner)], [STOP], [LOST], ended=8.6) == (set(), 1)


@cases(
    ("calls", "faults", "lost"),
    [
        ([late_second(runner="runner-2")], [STOP], [LOST]),
        ([late_second()], [fault("SIGSTOP", "router-1", 2.0, 10.0)], [LOST]),
        ([late_second()], [STOP], []),
        ([late_second()], [STOP], [LostLease("runner-1", 2.5, 8.0)]),
        ([late_second()], [STOP], [LostLease("runner-1", 0.9, 1.5)]),
        ([late_second()], [STOP], [LostLease("runner-2", 0.9, 8.0)]),
        ([late_second(began=19.0)], [STOP], [LOST]),
        ([late_second(), call("third", 10.2, 10.3)], [STOP], [LOST]),
    ],
    ids=[
        "another runner called",
        "another process was stopped",
        "no lease of the execution was lost",
        "the lease was assigned later",
        "the lease was lost before",
        "the lease of another runner was lost",
        "long after",
        "two calls",
    ],
)
def test_other_calls_are_not_late_but_made_again(calls, faults, lost):
    found, _ = judged([*TAKEN_OVER, *calls], faults, lost, ended=8.6)
    assert {"journaled", "after_the_end"} <= found


def test_no_call_is_late_while_another_one_was_under_way_in_the_stopped_runner():
    under_way = call("second", 1.9, 1.93 + 0.1)
    calls = [FIRST, under_way, *TAKEN_OVER[1:], call("third", 10.05, 10.08)]
    found, late = judged(calls, [STOP], [LOST], ended=8.6)
    assert ("after_the_end" in found, late) == (True, 0)


def test_the_attempts_of_executions_with_repeated_and_perhaps_late_calls_are_needed():
    calls = [FIRST, AGAIN, call("first", 5.0, execution="evt_2"), call("first", 10.1, execution="evt_3")]
    assert suspects(calls, [STOP]) == {"evt_1", "evt_3"}


def test_what_may_have_been_received_before_is_not_judged_by_when_it_was_seen():
    again = call("first", 4.0, 4.03, runner="runner-2")
    again.received = 1.05  # before `second` shows that the answer is in the journal
    assert judged([FIRST, call("second", 1.1), again], [KILLED], ended=2.0) == ({"excused"}, 0)


def test_a_machine_on_which_answers_are_journaled_late_is_given_time():
    slow = [call("first", 20.0, 20.03, execution="evt_2"), call("second", 25.0, 25.03, execution="evt_2")]
    executions = {key: EndedExecution(flows.CALLS, Status.COMPLETED, 90.0) for key in ("evt_1", "evt_2")}
    killed = fault("kill -9", "runner-1", 4.5)

    def found(calls, *faults):
        evidence = Evidence(Sent(), executions, calls, faults)
        return find_repeats(evidence, LateCalls(evidence))

    again = [FIRST, call("first", 6.0, 6.03)]
    assert found(again, killed).causeless
    assert not found([*again, *slow], killed).causeless
    assert found([*again, *slow], killed).latencies == [(20.03, pytest.approx(4.97))]
    assert found([*again, *slow], killed, fault("kill -9", "router-1", 21.0)).causeless  # which made it slow
    slow[1].runner = "runner-2"  # which took over
    assert found([*again, *slow], killed).causeless
    slow[1].runner = "runner-1"
    for late in slow:
        late.began, late.answered = late.began + 50, late.answered + 50
    assert found([*again, *slow], killed).causeless
