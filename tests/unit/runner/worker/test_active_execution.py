from flowhook.attach import messages
from flowhook.model import Event
from runner.interpreter.effects import Perform, Step
from runner.worker.active_execution import ActiveExecution, ActiveExecutions


def execution(lease=b"1", flow="f"):
    event = Event("evt_1", flow, 1, None, "", "POST", "/hook/f", "", "application/json", (), b"{}")
    return ActiveExecution(lease, event, 1, (), "evt_1", written=0, event_bytes=100)


def effect(key):
    return Perform(key=key, function="f", arguments={}, instance="/do")


def test_an_effect_is_due_once_the_journal_before_it_is_durable():
    active = execution()
    active.binding = 2
    active.update_held(Step(perform=[effect("a")]))
    assert not active.has_due_effect
    active.durable = 2
    assert active.has_due_effect


def test_a_step_drops_the_held_effects_that_it_cancels():
    active = execution()
    active.update_held(Step(perform=[effect("a"), effect("b")]))
    active.update_held(Step(cancel=["a"], perform=[effect("c")]))
    assert [held.key for _, held in active.held] == ["b", "c"]


def test_executions_are_counted_by_flow_and_known_until_they_are_removed():
    executions = ActiveExecutions()
    first, second, other = execution(b"1"), execution(b"2"), execution(b"3", "g")
    for each in (first, second, other):
        executions.add(each)
    assert (executions.in_flow("f"), executions.in_flow("g"), executions.in_flow("none")) == (2, 1, 0)
    assert executions.event_bytes == 300
    for each in executions:  # removing while iterating is allowed
        if each.event.flow_id == "f":
            executions.remove(each)
    assert (first in executions, other in executions, executions.get(b"3")) == (False, True, other)
    executions.remove(first)
    assert (executions.in_flow("f"), executions.in_flow("g")) == (0, 1)
    assert executions.event_bytes == 100


def test_another_execution_under_the_same_lease_is_not_taken_for_the_first():
    executions = ActiveExecutions()
    first, second = execution(), execution()
    executions.add(second)
    assert (first in executions, second in executions) == (False, True)


def test_the_journal_of_an_assignment_counts_as_durable():
    assignment = messages.Assignment(
        lease=b"1", attempt=1, flow_revision=3, event=b"", journal=(), journal_start=4, effect_scope=""
    )
    active = ActiveExecution.of(assignment, execution().event)
    assert (active.written, active.binding, active.durable, active.effect_scope) == (4, 4, 4, "evt_1")
