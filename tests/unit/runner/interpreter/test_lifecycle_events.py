"""What is told to others of tasks, in which order, and when nothing is."""

from __future__ import annotations

import orjson
import pytest

from flowhook.events.lifecycle import FROM_RUNNERS, MAX_OUTPUT_BYTES, CorrelationEventType, TaskEventType
from flowhook.model import JournalEntry
from runner.interpreter import journal
from runner.interpreter.effects import DeliveredEvent, EffectResult
from runner.interpreter.errors import Kind, error
from runner.interpreter.execution_context import ExecutionContext
from runner.interpreter.execution_machine import ExecutionMachine
from runner.interpreter.program import compile_program

START = 1_700_000_000_000
AWAY = EffectResult(None, error(Kind.COMMUNICATION, "away", status=503))
WRONG = EffectResult(None, error(Kind.COMMUNICATION, "the password is hunter22", status=400))
CALL = {"call": "f", "with": {}}
LISTEN = {"listen": {"to": {"one": {"with": {"type": "paid"}, "correlate": {"order": {"from": ".data.order"}}}}}}


def phase(event):
    return event.type.split(".")[-2]


def row(event):
    data = orjson.loads(event.data)
    return phase(event), data["task"].rpartition("/")[2] if "task" in data else ""


class Telling:
    """A run whose clock jumps to what it waits for, and what it told, by entry of its journal and after the last."""

    def __init__(self, evaluator, do, *, wanted=FROM_RUNNERS, journal=(), answers=(), comes=(), use=None, **more):
        self.now = START
        definition = {"document": {"name": "test"}, "do": do, "use": use or {}}
        workflow = ExecutionContext("evt_1", definition, {"n": 1}, START, lambda: self.now, **more)
        self.run = ExecutionMachine(
            compile_program(definition, evaluator), workflow, journal, chance=lambda: 0.0, lifecycle_types=wanted
        )
        self.journal, self.reported, self.waiting = list(journal), [], []
        self._answers, self._comes = iter(answers), iter(comes)

    def may_proceed(self):
        """Run until it ends, or there is nothing more to answer with."""
        turn = self.run.advance()
        while True:
            self._take(turn)
            if turn.ending is not None:
                return self
            if turn.paused:
                turn = self.run.advance()
            elif self.waiting:
                answer = next(self._answers, None)
                if answer is None:
                    return self
                turn = self.run.resume(self.waiting.pop(0), answer)
            elif turn.wake_at_ms is not None:
                self.now = turn.wake_at_ms
                turn = self.run.advance()
            else:
                event = next(self._comes, None)
                if event is None:
                    return self
                entry = JournalEntry(turn.subscriptions[0].key, orjson.dumps(event))
                turn = self.run.deliver(DeliveredEvent(entry, 1))

    def _take(self, turn):
        for write in turn.writes:
            self.journal.append(write.entry)
            self.reported += write.lifecycle_events
        self.reported += turn.lifecycle_events
        self.waiting = [each for each in self.waiting if each.key not in turn.cancel] + list(turn.perform)

    @property
    def rows(self):
        return [row(event) for event in self.reported]


@pytest.fixture
def tell(evaluator):
    return lambda do, **more: Telling(evaluator, do, **more).may_proceed()


def life(name, *ends):
    return [("created", name), ("started", name), *((end, name) for end in ends)]


def done(name):
    return life(name, "completed")


def test_tasks_are_reported_as_they_begin_and_end_those_that_enclose_others_around_them(tell):
    reported = tell([{"outer": {"do": [{"a": {"set": {"x": 1}}}, {"b": {"set": {"x": 2}}}]}}])
    assert reported.rows == [*life("outer"), *done("a"), *done("b"), ("completed", "outer")]
    first, *_, last = reported.reported
    assert orjson.loads(first.data) == {"task": "/do/0/outer"}
    assert orjson.loads(last.data) == {"task": "/do/0/outer", "output": {"x": 2}}
    assert {event.time_ms for event in reported.reported} == {START}


def test_each_run_of_a_task_is_reported_under_keys_of_its_own(tell):
    reported = tell([{"loop": {"for": {"in": "[1, 2]"}, "do": [{"a": {"set": {"x": 1}}}]}}])
    assert reported.rows == [*life("loop"), *done("a"), *done("a"), ("completed", "loop")]
    assert len({(event.type, event.key) for event in reported.reported}) == len(reported.reported)


def test_a_task_that_is_skipped_has_no_events(tell):
    assert tell([{"no": {"if": "false", "set": {"x": 1}}}, {"yes": {"if": "true", "set": {"x": 1}}}]).rows == done(
        "yes"
    )


def test_a_condition_that_can_not_be_evaluated_is_a_fault_of_the_task(tell):
    assert tell([{"a": {"if": "(.n | keys)", "set": {"x": 1}}}]).rows == [("created", "a"), ("faulted", "a")]


def test_a_fault_is_reported_of_the_task_and_of_what_encloses_it_with_the_error(tell):
    reported = tell([{"outer": {"do": [{"a": CALL}]}}], answers=[WRONG], secrets={"s": "hunter22"})
    assert reported.rows == [*life("outer"), *life("a", "faulted"), ("faulted", "outer")]
    assert orjson.loads(reported.reported[-1].data)["error"] == {
        "type": "https://open-workflow-specification.org/spec/1.0.0/errors/communication",
        "status": 400,
        "title": "Communication Error",
        "instance": "/do/0/outer/do/0/a",
        "detail": "the password is …",
    }


def test_a_fault_that_is_caught_ends_the_task_and_not_the_one_that_catches_it(tell):
    own = {"type": "https://example.com/own", "status": 409}
    reported = tell([{"t": {"try": [{"r": {"raise": {"error": own}}}], "catch": {"do": [{"h": {"set": {"x": 1}}}]}}}])
    assert reported.rows == [*life("t"), *life("r", "faulted"), *done("h"), ("completed", "t")]


def test_a_try_is_reported_as_retried_and_its_tasks_begin_anew(tell):
    retry = {"delay": {"seconds": 1}, "limit": {"attempt": {"count": 3}}}
    reported = tell(
        [{"t": {"try": [{"c": CALL}], "catch": {"retry": retry}}}], answers=[WRONG, WRONG, EffectResult(b"1")]
    )
    failed = life("c", "faulted")
    assert reported.rows == [
        *life("t"), *failed, ("retried", "t"), *failed, ("retried", "t"), *done("c"), ("completed", "t")
    ]  # fmt: skip
    assert len({(event.type, event.key) for event in reported.reported}) == len(reported.reported)


def test_a_call_that_is_tried_again_by_itself_begins_once(tell):
    reported = tell([{"c": CALL}], answers=[AWAY, AWAY, EffectResult(b"1")])
    assert reported.rows == life("c", "retried", "retried", "completed")


def test_branches_that_lose_are_cancelled_from_within(tell):
    slow = {"do": [{"call": CALL}]}
    reported = tell([{"race": {"fork": {"compete": True, "branches": [{"slow": slow}, {"fast": {"set": {"x": 1}}}]}}}])
    assert reported.rows == [
        *life("race"),
        *life("slow"),
        *life("call"),
        *done("fast"),
        ("cancelled", "call"),
        ("cancelled", "slow"),
        ("completed", "race"),
    ]


def test_a_fault_in_one_branch_cancels_the_others(tell):
    reported = tell([{"both": {"fork": {"branches": [{"a": CALL}, {"b": CALL}]}}}], answers=[WRONG])
    assert reported.rows == [
        *life("both"), *life("a"), *life("b"), ("faulted", "a"), ("cancelled", "b"), ("faulted", "both")
    ]  # fmt: skip


def test_a_time_that_is_over_is_a_fault_of_the_task_and_cancels_what_is_in_it(tell):
    reported = tell([{"outer": {"do": [{"w": {"wait": {"days": 2}}}], "timeout": {"after": {"seconds": 1}}}}])
    assert reported.rows == [*life("outer"), *life("w", "cancelled"), ("faulted", "outer")]
    assert reported.reported[-1].time_ms == START + 1000


def test_end_completes_what_encloses_it(tell):
    reported = tell([{"outer": {"do": [{"a": {"set": {"x": 1}, "then": "end"}}, {"b": CALL}]}}, {"c": CALL}])
    assert reported.rows == [*life("outer"), *done("a"), ("completed", "outer")]


def test_what_extends_a_task_runs_between_its_creation_and_its_end(tell):
    extension = {
        "extend": "set",
        "before": [{"b": {"wait": {"seconds": 1}}}],
        "after": [{"a": {"wait": {"seconds": 1}}}],
    }
    reported = tell([{"s": {"set": {"x": 1}}}], use={"extensions": [{"e": extension}]})
    assert reported.rows == [
        ("created", "s"), *done("b"), ("started", "s"), *done("a"), ("completed", "s")
    ]  # fmt: skip


def test_correlations_are_reported_with_the_values_that_events_agree_in(tell):
    waits = tell([{"l": LISTEN}])
    assert waits.rows == [*life("l"), ("correlation-started", "")]
    reported = tell([{"l": LISTEN}], comes=[{"type": "paid", "data": {"order": 7}}])
    assert reported.rows == [*waits.rows, ("correlation-completed", ""), ("completed", "l")]
    assert orjson.loads(reported.reported[-2].data) == {"correlationKeys": {"order": 7}}


def test_outputs_are_reported_without_secrets_and_large_ones_not_at_all(tell):
    sized = '${ "x" * %d }'
    reported = tell(
        [
            {"secret": {"set": {"token": '${ "Bearer " + $secrets.s }'}}},
            {"large": {"set": {"x": sized % MAX_OUTPUT_BYTES}}},
            {"fits": {"set": {"x": sized % (MAX_OUTPUT_BYTES - len('{"x":""}'))}}},
        ],
        wanted={TaskEventType.COMPLETED},
        secrets={"s": "hunter22"},
    )
    secret, large, fits = (orjson.loads(event.data) for event in reported.reported)
    assert secret["output"] == {"token": "Bearer …"}
    assert "output" not in large
    assert "output" in fits


def test_only_what_is_wanted_is_reported_and_nothing_when_nothing_is(tell):
    do = [{"a": {"set": {"x": 1}}}, {"l": LISTEN}]
    assert tell(do, wanted={CorrelationEventType.STARTED}).rows == [("correlation-started", "")]
    assert tell(do, wanted={TaskEventType.COMPLETED}).rows == [("completed", "a")]
    assert tell(do, wanted=()).rows == []


def test_what_becomes_wanted_is_reported_of_tasks_that_begin(evaluator):
    telling = Telling(evaluator, [{"a": CALL}, {"b": CALL}], wanted=())
    turn = telling.run.advance()
    telling.run.set_lifecycle_types(FROM_RUNNERS)
    turn = telling.run.resume(turn.perform[0], EffectResult(b"1"))
    telling.run.set_lifecycle_types(())
    assert [row(event) for event in turn.lifecycle_events] == life("b")
    turn = telling.run.resume(turn.perform[0], EffectResult(b"1"))
    assert turn.ending is not None


@pytest.mark.parametrize("retained", range(5))
def test_a_replay_reports_only_what_lies_behind_its_journal_and_under_the_same_keys(tell, retained):
    listen = {**LISTEN, "foreach": {"do": [{"c": CALL}]}}
    do = [{"outer": {"do": [{"a": CALL}, {"w": {"wait": {"seconds": 9}}}, {"l": listen}]}}]
    given = {"answers": [EffectResult(b"1"), EffectResult(b"2")], "comes": [{"type": "paid", "data": {"order": 1}}]}
    whole = tell(do, **given)
    assert len(whole.journal) == 5
    answers, comes = given["answers"][retained > 0 :], given["comes"][: retained < 4]
    replayed = tell(do, journal=whole.journal[:retained], answers=answers, comes=comes)
    again = [event._replace(time_ms=0) for event in replayed.reported]
    assert again == [event._replace(time_ms=0) for event in whole.reported][-len(again) :]
    assert 0 < len(again) <= len(whole.reported)


def test_a_replay_of_all_there_is_reports_only_how_it_ended(tell):
    whole = tell([{"a": CALL}, {"b": CALL}], answers=[EffectResult(b"1"), EffectResult(b"2")])
    assert tell([{"a": CALL}, {"b": CALL}], journal=whole.journal).rows == [("completed", "b")]


def test_what_is_reported_goes_with_the_entry_that_it_lies_before(evaluator):
    telling = Telling(evaluator, [{"a": CALL}, {"b": {"set": {"x": "${ now }"}}}])
    first = telling.run.advance()
    assert [row(event) for event in first.lifecycle_events] == life("a")
    last = telling.run.resume(first.perform[0], EffectResult(b"1"))
    assert [[row(event) for event in write.lifecycle_events] for write in last.writes] == [[], [("completed", "a")]]
    assert [row(event) for event in last.lifecycle_events] == done("b")
    assert last.ending is not None


def test_a_fault_that_is_not_journaled_is_reported_with_the_end(evaluator):
    telling = Telling(evaluator, [{"a": CALL}])
    turn = telling.run.resume(telling.run.advance().perform[0], WRONG)
    assert (turn.writes, turn.ending is not None) == ((), True)
    assert [row(event) for event in turn.lifecycle_events] == [("faulted", "a")]


def test_a_task_that_goes_on_from_a_snapshot_is_known(tell, monkeypatch):
    monkeypatch.setattr(journal, "COMPACT_ENTRIES", 1)
    do = [{"outer": {"do": [{"a": CALL}, {"b": CALL}]}}]
    whole = tell(do, answers=[EffectResult(b"1"), EffectResult(b"2")])
    snapshot = [entry for entry in whole.journal if entry.key == "@"]
    again = tell(do, journal=snapshot, answers=[EffectResult(b"2")])
    assert again.rows == [*done("b"), ("completed", "outer")]
    assert set(again.reported) <= set(whole.reported)
