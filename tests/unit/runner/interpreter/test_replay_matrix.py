"""Replays of random flows with all kinds of tasks: the journal fits, and a preview names what really runs."""

from __future__ import annotations

import random
from collections import Counter

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.examples import examples

from flowhook.errors import ConflictError, NotFoundError
from flowhook.events.keys import EventKeys
from flowhook.model import Event, Execution, ExecutionDetail, JournalEntry, Origin, Status
from flowhook.model.replays import ReplayOptions, ReplayOrigin
from flowhook.v1 import execution_service_pb2 as pb
from flowhook.wire.mapping import to_proto
from router.executions.reading import build_task_history
from router.replay import resumption
from router.replay.journal_keys import is_around, locate_runs, position_of, position_of_task
from router.replay.plan import Plan
from router.storage.model import ExecutionContent, ExecutionRecord
from runner.interpreter import journal as journals
from runner.interpreter.effects import RUN_WORKFLOW, DeliveredEvent, EffectResult, Perform, WorkflowFaulted
from runner.interpreter.errors import Kind, error
from runner.interpreter.execution_context import ExecutionContext
from runner.interpreter.execution_machine import ExecutionMachine
from runner.interpreter.program import compile_program
from runner.tracing.replay import trace_execution

DOCUMENT = {"dsl": "1.0.3", "namespace": "default", "name": "test", "version": "1.0.0"}
RETRY = {"delay": {"seconds": 1}, "limit": {"attempt": {"count": 2}}}
CALL = {"call": "f"}
CHILD = {"namespace": "default", "name": "child", "version": "1.0.0"}
EVENT = {"specversion": "1.0", "id": "1", "source": "x", "type": "z", "data": {"k": 1}}
TWO_EVENTS = {"to": {"any": [{"with": {"type": "z"}}], "until": "${ length >= 2 }"}}
AWAY = EffectResult(None, error(Kind.RUNTIME, "away", status=503))
USE = {
    "functions": {
        "twice": {"do": [{"x": CALL}, {"y": CALL}]},
        "guarded": {"try": [{"x": CALL}], "catch": {"do": [{"z": CALL}]}},
    }
}
EXTENSIONS = [{"log": {"extend": "call", "before": [{"bb": {"call": "g"}}], "after": [{"aa": {"call": "g"}}]}}]
LEAVES = [
    CALL,
    CALL | {"metadata": {"retry": RETRY}},
    CALL | {"output": {"as": "${ {o: .} }"}, "export": {"as": "${ {c: .} }"}},
    CALL | {"input": {"from": "${ {i: .} }"}, "if": "${ true }"},
    CALL | {"timeout": {"after": {"seconds": 3}}},
    {"call": "twice"},
    {"call": "guarded"},
    {"emit": {"event": {"with": {"type": "a.b", "source": "https://example.com"}}}},
    {"run": {"workflow": CHILD}},
    {"run": {"workflow": CHILD, "await": False}},
    {"set": {"x": "${ $context }"}},
    {"set": "${ error }"},
    {"set": {"at": "${ now }"}},
    {"raise": {"error": {"type": "https://example.com/no", "status": 500}}},
    {"wait": {"seconds": 2}},
    {"listen": {"to": {"one": {"with": {"type": "z"}}}}},
    {"listen": TWO_EVENTS, "foreach": {"item": "it", "do": [{"fe": CALL}]}},
]
SETTINGS = settings(max_examples=examples(60), deadline=None, suppress_health_check=list(HealthCheck))


class Ran:
    """A run: its journal, its history, what it performed, how it ended."""

    def __init__(self, machine, written):
        self.machine, self.journal, self.fragments, self.performed, self.ending = machine, list(written), [], [], None

    def add(self, writes):
        for write in writes:
            self.fragments.append((len(self.journal), write.history))
            self.journal.append(write.entry)

    @property
    def record(self):
        status = Status.FAULTED if isinstance(self.ending, WorkflowFaulted) else Status.COMPLETED
        problem = getattr(self.ending, "error", None)
        return ExecutionRecord("evt_1", "shop", 1, status, 1, 0, 5, problem, seq=1)

    @property
    def content(self):
        """The journal as the router stores it: from the last snapshot on."""
        start = max((index for index, entry in enumerate(self.journal) if entry.key == "@"), default=0)
        return ExecutionContent(b"", tuple(self.journal[start:]), None, None, start)

    @property
    def runs(self):
        return locate_runs(self.fragments)

    def trace(self, definition, name):
        status = Status.RUNNING if self.ending is None else self.record.status
        problem = getattr(self.ending, "error", None)
        execution = Execution(name, "test", 1, status, 1, 1_700_000_000_000, None, problem)
        event = Event(name, "test", 1_700_000_000_000, None, "", "", "", "", "", (), b'{"n":0}', origin=Origin.WORKFLOW)
        if name != "evt_1":
            event = event._replace(replay=ReplayOrigin(task="/do/0/t0"))
        detail = ExecutionDetail(execution, event, self.content.journal, getattr(self.ending, "output", None))
        stored = to_proto(detail, pb.GetExecutionResponse).SerializeToString()
        return trace_execution(orjson.dumps(definition), stored, b"")

    def replayed_from_failed(self):
        return resumption.from_failed_task(self.record, self.content, 1)

    def replayed_from(self, task, output=None):
        content, runs = self.content, self.runs
        cut = resumption.cut_before(task, self.record, content, runs, 1)
        return cut, resumption.from_task(task, cut, content, runs, output)

    def preview(self, definition, options, resumes, cut=None):
        plan = Plan(self.record, options, self.content, None, 1, EventKeys(""), resumes, self.runs, cut)
        return plan.preview(definition)


@pytest.fixture
def perform(evaluator):
    """Run a definition; `choose` picks what happens next, `stop_after` is a number of new journal entries."""

    def run(definition, answer, *, choose=lambda options: options[0], journal=(), name="evt_1", stop_after=None):
        now = [1_700_000_001_000]
        context = ExecutionContext(
            id=name,
            definition=definition,
            raw_input={"n": 0},
            started_at_ms=1_700_000_000_000,
            clock=lambda: now[0],
            secrets={},
        )
        ran = Ran(ExecutionMachine(compile_program(definition, evaluator), context, journal), journal)
        step, waiting = ran.machine.advance(), []
        while True:
            ran.add(step.writes)
            waiting = [*(each for each in waiting if each.key not in step.cancel), *step.perform]
            timers = [None] if step.wake_at_ms is not None else []
            options = [*waiting, *step.subscriptions, *timers]
            if step.paused:
                step = ran.machine.advance()
                continue
            if step.ending is not None or not options or len(ran.journal) - len(journal) >= (stop_after or 10_000):
                break
            match choose(options):
                case Perform() as effect:
                    waiting.remove(effect)
                    ran.performed.append(effect)
                    ran.add(ran.machine.queue_result(effect, answer(effect)))
                    step = ran.machine.advance()
                case None:
                    now[0] = step.wake_at_ms
                    step = ran.machine.advance()
                case subscription:
                    ended = answer(subscription) if subscription.execution_id else EffectResult(orjson.dumps(EVENT))
                    step = ran.machine.deliver(
                        DeliveredEvent(JournalEntry(subscription.key, ended.output, ended.error), 1)
                    )
        ran.fragments.append((len(ran.journal), ran.machine.take_history()))
        ran.ending = step.ending
        problem = getattr(ran.ending, "error", None)
        assert problem is None or "diverged" not in problem.detail, problem.detail
        return ran

    return run


def named(tasks):
    return [{f"t{index}": task} for index, task in enumerate(tasks)]


def jumps_back(block):
    """Run a block twice, by a flow directive."""
    counted = {"set": "${ . }", "export": {"as": "${ {n: (($context.n? // 0) + 1)} }"}}
    again = {"again": {"when": "${ ($context.n? // 9) < 2 }", "then": "n"}}
    return {"do": [{"n": counted}, {"b": {"do": block}}, {"sw": {"switch": [again]}}]}


def blocks(depth=2, *, exact=False):
    """Lists of tasks; `exact`: without retries and races, so that the same answers lead to the same course."""
    leaves = st.sampled_from(LEAVES)
    if not depth:
        return st.lists(leaves, min_size=1, max_size=2).map(named)
    inner = blocks(depth - 1, exact=exact)
    compete = st.just(False) if exact else st.booleans()
    # a limit starts anew with a replay: the course is the same if no wait fits into it, or all do
    limits = [{"seconds": 1}, {"hours": 1}] if exact else [{"seconds": 5}]
    tasks = [
        leaves,
        st.builds(lambda block, catch: {"try": block, "catch": {"do": catch}}, inner, inner),
        inner.map(lambda block: {"for": {"in": "${ [1, 2] }"}, "do": block}),
        st.builds(lambda block, race: {"fork": {"branches": block, "compete": race}}, inner, compete),
        st.builds(lambda block, after: {"do": block, "timeout": {"after": after}}, inner, st.sampled_from(limits)),
        inner.map(jumps_back),
    ]
    if not exact:
        handlers = st.sampled_from([{}, {"do": [{"c": CALL}]}])
        tasks.append(st.builds(lambda block, do: {"try": block, "catch": {"retry": RETRY, **do}}, inner, handlers))
    return st.lists(st.one_of(tasks), min_size=1, max_size=3).map(named)


def definitions(*, exact=False):
    def made(do, extended, limited):
        use = USE | ({"extensions": EXTENSIONS} if extended else {})
        limit = {"timeout": {"after": {"hours": 1} if exact else {"minutes": 1}}} if limited else {}
        return {"document": DOCUMENT, "use": use, "do": do, **limit}

    return st.builds(made, blocks(exact=exact), st.booleans(), st.booleans())


def result_of(asked):
    return EffectResult(b'{"execution":"evt_9"}' if getattr(asked, "function", "") == RUN_WORKFLOW else b'{"n":1}')


@pytest.mark.parametrize("compact", [3, 100])
@SETTINGS
@given(definition=definitions(), fails=st.lists(st.booleans(), max_size=30), seed=st.integers(0, 999), data=st.data())
def test_however_it_is_replayed_and_wherever_it_crashes_the_journal_fits(
    monkeypatch, perform, compact, *, definition, fails, seed, data
):
    monkeypatch.setattr(journals, "COMPACT_ENTRIES", compact)
    outcomes, retried = list(fails), b'"retry"' in orjson.dumps(definition["do"])
    succeeded = Counter()

    def answer(asked):
        if outcomes and outcomes.pop():
            return AWAY
        if getattr(asked, "function", "") != RUN_WORKFLOW:
            succeeded[asked.key] += 1
        return result_of(asked)

    ran = perform(definition, answer, choose=random.Random(seed).choice)
    for number in range(2, 6):
        failed = isinstance(ran.ending, WorkflowFaulted) and data.draw(st.booleans())
        try:
            if failed:
                journal = ran.replayed_from_failed().journal
            else:
                task = data.draw(st.sampled_from(ran.runs)).task if ran.runs else ""
                journal = ran.replayed_from(task, data.draw(st.sampled_from([None, b"5"])))[1].journal
                succeeded.clear()
        except (ConflictError, NotFoundError):
            break
        stop, name = data.draw(st.sampled_from([None, 1, 2, 5])), f"evt_{number}"
        more = {"choose": random.Random(seed).choice, "name": name}
        ran = perform(definition, answer, journal=journal, stop_after=stop, **more)
        if ran.ending is None:
            crashed = ran
            ran = perform(definition, answer, journal=crashed.journal, **more)
            ran.fragments = [*crashed.fragments, *ran.fragments]
        if failed and not retried:
            assert set(succeeded.values()) <= {1}


@SETTINGS
@given(definition=definitions(exact=True), fails=st.sets(st.integers(0, 15)), failed=st.booleans(), data=st.data())
def test_a_preview_names_what_really_runs(perform, *, definition, fails, failed, data):
    def answer(asked):
        is_start = getattr(asked, "function", "") == RUN_WORKFLOW
        return AWAY if not is_start and sum(asked.key.encode()) % 16 in fails else result_of(asked)

    ran = perform(definition, answer)
    for number in (2, 3):
        before, task = ran, ""
        try:
            if failed:
                if not isinstance(ran.ending, WorkflowFaulted):
                    return
                left = ran.replayed_from_failed()
                preview = ran.preview(definition, ReplayOptions(from_failed=True), left)
            else:
                if not ran.runs:
                    return
                task = data.draw(st.sampled_from(ran.runs)).task
                cut, left = ran.replayed_from(task)
                preview = ran.preview(definition, ReplayOptions(from_task=task), left, cut)
        except (ConflictError, NotFoundError):
            return
        ran = perform(definition, answer, journal=left.journal, name=f"evt_{number}")
        again = {each.task for each in preview.again}
        taken_over = {each.task for each in preview.taken_over}
        done = {position_of(effect.key).task for effect in ran.performed}
        written = [entry for entry in ran.journal[len(left.journal) :] if entry.key.endswith((":wait", ":event"))]
        waited = {position_of(entry.key).task for entry in written if not (entry.output or b"").startswith(b'{"over"')}
        around = {each for each in waited if task not in ("", each) and encloses(each, task)}
        assert (done | waited) - around <= again
        assert not done & (taken_over - again)
        named_exactly = {each.task for each in preview.again if each.kind in ("emit", "wait", "run")}
        changed = type(ran.ending) is not type(before.ending) or "extensions" in definition["use"]
        if not changed and b'"fork"' not in orjson.dumps(definition["do"]):  # a fork may fail earlier
            # a wait that was under way goes on with the time that its entry says
            goes_on = {position_of(entry.key).task for entry in left.journal if entry.key.endswith(":wait")}
            assert named_exactly <= done | waited | goes_on


@settings(SETTINGS, max_examples=examples(25))
@given(definition=definitions(), fails=st.lists(st.booleans(), max_size=30), gives=st.booleans(), data=st.data())
def test_a_trace_of_a_replay_agrees_with_its_history(perform, *, definition, fails, gives, data):
    outcomes = list(fails)

    def answer(asked):
        return AWAY if outcomes and outcomes.pop() else result_of(asked)

    ran, name = perform(definition, answer), "evt_1"
    for number in (2, 3):
        trace = ran.trace(definition, name)
        assert trace.diverged == ""
        history = build_task_history([each for _, each in ran.fragments], ended=ran.ending is not None)
        traced = {task.number: task for task in trace.tasks}
        for run in history:
            task = traced.get(run.number)
            if task is not None and task.outcome != "unfinished":
                assert (task.task, task.outcome) == (run.task, str(run.state))
        task = data.draw(st.sampled_from(ran.runs)).task if ran.runs else ""
        try:
            _, left = ran.replayed_from(task, b"5" if gives else None)
        except (ConflictError, NotFoundError):
            return
        name = f"evt_{number}"
        ran = perform(definition, answer, journal=left.journal, name=name)


def encloses(task, inner):
    return is_around(position_of_task(task), position_of_task(inner))


def test_an_output_is_givesto_the_run_that_is_known_not_to_an_earlier_one_that_was_taken_over(perform):
    flow = single([{"l": jumps_back([{"c": CALL}])}])
    fails = [AWAY]

    def answer(asked):
        return fails.pop() if asked.key.endswith("#1") and fails else result_of(asked)

    ran = perform(flow, answer)
    second = perform(flow, answer, journal=ran.replayed_from_failed().journal, name="evt_2")
    assert second.ending.output
    first = next(run for run in second.runs if run.task == "/do/0/l/do/1/b")
    cut, left = second.replayed_from("/do/0/l/do/2/sw", b"5")
    third = perform(flow, answer, journal=left.journal, name="evt_3")
    assert (third.ending.output, third.performed, first.number) == (b"5", [], cut.begins_with - 2)


def single(do, **more):
    return {"document": DOCUMENT, "do": do, **more}


def test_a_flow_that_was_started_in_each_try_is_started_again(perform):
    ends = [AWAY, AWAY, AWAY, EffectResult(b"1")]

    def answer(asked):
        return result_of(asked) if isinstance(asked, Perform) else ends.pop(0)

    flow = single([{"t": {"try": [{"k": {"run": {"workflow": CHILD}}}], "catch": {"retry": RETRY}}}])
    ran = perform(flow, answer)
    assert isinstance(ran.ending, WorkflowFaulted)
    again = perform(flow, answer, journal=ran.replayed_from_failed().journal)
    assert again.ending.output == b"1"
    assert len(again.performed) == 1


def test_a_loop_that_resumes_from_a_snapshot_keeps_its_place_although_results_are_held(perform, monkeypatch):
    monkeypatch.setattr(journals, "COMPACT_ENTRIES", 3)
    body = [{"c": CALL}, {"k": {"run": {"workflow": CHILD}}}]
    flow = single([{"l": {"for": {"in": "${ [1, 2] }"}, "do": body}}])
    ran = perform(flow, result_of)
    _, left = ran.replayed_from("/do/0/l/do/0/c[1]", b"5")
    crashed = perform(flow, result_of, journal=left.journal, name="evt_2", stop_after=1)
    again = perform(flow, result_of, journal=crashed.journal, name="evt_2")
    assert [effect.key for effect in again.performed] == ["/do/0/l/do/1/k[1]#0"]


def test_an_output_that_was_given_is_used_again_although_another_one_lets_fewer_tasks_run_before_it(perform):
    listens = {"for": {"in": "${ [1, 2] }"}, "do": [{"e": {"listen": {"to": {"one": {"with": {"type": "z"}}}}}}]}
    flow = single([{"both": {"fork": {"branches": [{"a": {"do": [{"b": CALL}, {"c": CALL}]}}, {"l": listens}]}}}])
    calls_first = {"choose": lambda options: min(options, key=lambda each: not isinstance(each, Perform))}
    ran = perform(flow, result_of, **calls_first)
    branch = "/do/0/both/fork/branches"
    second = perform(flow, result_of, journal=ran.replayed_from(f"{branch}/0/a/do/1/c", b"5")[1].journal, **calls_first)
    assert second.ending.output == b'[5,[{"k":1}]]'
    third = perform(flow, result_of, journal=second.replayed_from(f"{branch}/1/l", b"6")[1].journal)
    assert (third.ending.output, third.performed) == (b"[5,6]", [])


def test_a_call_is_made_again_after_a_task_of_its_extension(perform):
    flow = single([{"a": CALL}], use={"extensions": EXTENSIONS})
    ran = perform(flow, result_of)
    _, left = ran.replayed_from("/do/0/a#0:extended /use/extensions/0/log/before/0/bb", b"5")
    assert [effect.function for effect in perform(flow, result_of, journal=left.journal).performed] == ["f", "g"]


def test_a_preview_names_a_call_whose_extension_runs_again_at_the_second_visit_only(perform):
    flow = single([{"l": jumps_back([{"a": CALL}])}], use={"extensions": EXTENSIONS})
    ran = perform(flow, result_of)
    call = "/do/0/l/do/1/b/do/0/a"
    for extension, is_again in (("before/0/bb", True), ("after/0/aa", False)):
        task = f"{call}#1:extended /use/extensions/0/log/{extension}"
        cut, left = ran.replayed_from(task)
        again = [each.task for each in ran.preview(flow, ReplayOptions(from_task=task), left, cut).again]
        assert (task in again, call in again) == (True, is_again)
