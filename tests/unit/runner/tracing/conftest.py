"""Runs documents as a runner does, and traces what that leaves."""

from __future__ import annotations

import orjson
import pytest
from support.clocks import Clock

from flowhook.model import Event, Execution, ExecutionDetail, JournalEntry, Origin, Status
from flowhook.v1.execution_service_pb2 import GetExecutionResponse
from flowhook.wire.mapping import to_proto
from runner.evaluation.evaluator import Evaluator
from runner.interpreter.effects import DeliveredEvent, EffectResult, WorkflowCompleted, WorkflowFaulted
from runner.interpreter.execution_context import ExecutionContext, OneTimeUrls, secrets_data
from runner.interpreter.execution_machine import ExecutionMachine
from runner.interpreter.program import compile_program
from runner.tracing.replay import trace_execution

NOW = 1_700_000_000_000
ID = "evt_01999999990000000000000000"


class Observed:
    """What an observer of the run saw: tasks that ended, by number."""

    def __init__(self):
        self.ended, self.cancelled = {}, set()

    def task_started(self, started):
        pass

    def task_cancelled(self, number):
        self.cancelled.add(number)

    def task_ended(self, seen):
        self.ended[seen.number] = seen


class Run:
    """A run, and the trace of what it left."""

    def __init__(self, definition, detail, observed, body):
        self.definition, self.detail, self.observed = definition, detail, observed
        stored = to_proto(detail, GetExecutionResponse).SerializeToString()
        self.trace = trace_execution(orjson.dumps(definition), stored, body)

    def value(self, index):
        return None if index is None else orjson.loads(self.trace.values[index].text)

    def task(self, name):
        found = [each for each in self.trace.tasks if each.name == name]
        assert len(found) == 1, [each.name for each in self.trace.tasks]
        return found[0]


@pytest.fixture(scope="session")
def evaluator():
    return Evaluator()


@pytest.fixture
def run(evaluator):
    """Run tasks, then trace: `run(tasks, input, answers, ...)`.

    `answers`: by function, a result, an `EffectResult`, or a function of the effect. `events`: entries for
    subscriptions, by the end of their key. `stop_after`: entries of the journal after which the run is abandoned.
    `held`: results that a replay took over. `status`: what is stored instead of how the run ended.
    """

    def start(do, data=None, answers=None, *, events=(), secrets=None, stop_after=None, journal=None, **more):
        document = {"namespace": "default", "name": "test", "version": "1.0.0", "dsl": "1.0.3"}
        event = more.pop("event", None) or Event(
            ID, "test", NOW, None, "", "", "", "", "", (), orjson.dumps(data), origin=Origin.WORKFLOW
        )
        stored, held = more.pop("status", None), more.pop("held", ())
        body, given = more.pop("body", b""), more.pop("given", data)
        definition = {"document": document, "do": do, **more}
        clock = Clock(NOW)
        names = tuple((definition.get("webhook") or {}).get("callbacks") or ())
        context = ExecutionContext(
            id=ID,
            definition=definition,
            raw_input=given,
            started_at_ms=NOW,
            clock=clock,
            secrets=secrets_data(secrets or {}),
            one_time=OneTimeUrls(names, lambda name, number: f"/hook/test/{name}/{number}") if names else None,
        )
        observed = Observed()
        machine = ExecutionMachine(compile_program(definition, evaluator), context, held, observer=observed)
        written, events, waiting, answers = [], list(events), [], answers or {}
        step = machine.advance()
        while True:
            written += [write.entry for write in step.writes]
            waiting += step.perform
            if step.ending is not None or (stop_after is not None and len(written) >= stop_after):
                break
            if step.paused:
                step = machine.advance()
            elif waiting:
                effect = waiting.pop(0)
                answer = answers[effect.function]
                answer = answer(effect) if callable(answer) else answer
                step = machine.resume(
                    effect, answer if isinstance(answer, EffectResult) else EffectResult(orjson.dumps(answer))
                )
            elif step.subscriptions and events:
                kind, output = events.pop(0)
                (key,) = [each.key for each in step.subscriptions if each.key.endswith(kind)]
                step = machine.deliver(DeliveredEvent(JournalEntry(key, orjson.dumps(output)), 1))
            elif step.wake_at_ms is not None:
                clock.now = step.wake_at_ms
                step = machine.advance()
            else:
                break
        status, output, error = Status.WAITING if step.subscriptions else Status.RUNNING, None, None
        match step.ending:
            case WorkflowCompleted(output=output):
                status = Status.COMPLETED
            case WorkflowFaulted(error=error):
                status = Status.FAULTED
        execution = Execution(
            id=ID,
            flow_id="test",
            flow_revision=1,
            status=stored or status,
            attempts=1,
            receive_time_ms=NOW,
            end_time_ms=None,
            error=error,
        )
        detail = ExecutionDetail(execution, event, tuple(written if journal is None else journal), output)
        return Run(definition, detail, observed, body)

    return start
