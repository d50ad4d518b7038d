"""A way to run documents without a clock, a socket or a guard."""

from __future__ import annotations

from itertools import count

import orjson
import pytest
from support.clocks import Clock

from runner.evaluation.evaluator import Evaluator
from runner.interpreter.effects import EffectResult, Perform, WorkflowCompleted, WorkflowFaulted
from runner.interpreter.execution_context import ExecutionContext
from runner.interpreter.execution_machine import ExecutionMachine
from runner.interpreter.program import compile_program


class World:
    """Answers effects: with what `answers` says by function, or with a count."""

    def __init__(self, answers=None):
        self.responses = answers or {}
        self.performed: list[Perform] = []
        self._count = count(1)

    def perform(self, effect):
        self.performed.append(effect)
        answer = self.responses.get(effect.function)
        if answer is None:
            return EffectResult(orjson.dumps({"n": next(self._count)}))
        value = answer(effect) if callable(answer) else answer
        return value if isinstance(value, EffectResult) else EffectResult(orjson.dumps(value))


class StandingClock(Clock):
    """Stands still; the moments that are waited for come at once."""

    def __init__(self, now=1_700_000_001_000):
        super().__init__(now)


class RunOutcome:
    """How far a run came: to its end, to `stop_after`, or to where only an event can help (then `step` is None).

    `fragments` is its history, with the index of the entry that was written next.
    """

    def __init__(self, turn, world, journal, turns, performing, *, tasks, fragments):
        self.tasks, self.fragments = tasks, fragments
        self.step, self.world, self.journal, self.turns = turn.ending, world, journal, turns
        self.subscriptions, self.performing = turn.subscriptions, performing

    @property
    def output(self):
        assert isinstance(self.step, WorkflowCompleted), self.step
        return orjson.loads(self.step.output)

    @property
    def error(self):
        assert isinstance(self.step, WorkflowFaulted), self.step
        return self.step.error


@pytest.fixture(scope="session")
def evaluator():
    return Evaluator()


@pytest.fixture
def execute(evaluator):
    """Run tasks to the end: `execute(tasks, input, ...)`; `workflow` has more arguments of `ExecutionContext`."""

    def run(do, data=None, *, journal=(), world=None, stop_after=None, secrets=None, clock=None, workflow=None, **more):
        definition = {"document": {"namespace": "default", "name": "test"}, "do": do, **more}
        program = compile_program(definition, evaluator)
        clock = clock or StandingClock()
        known = {"id": "evt_1", "secrets": secrets or {}, **(workflow or {})}
        given = ExecutionContext(
            definition=definition, raw_input=data, started_at_ms=1_700_000_000_000, clock=clock, **known
        )
        world = world or World()
        written, turns, reported = list(journal), 0, []

        def keep(writes):
            for write in writes:
                reported.append((len(written), write.history))
                written.append(write.entry)

        execution = ExecutionMachine(program, given, journal)
        turn, waiting = execution.advance(), []
        while True:
            keep(turn.writes)
            waiting = [*(effect for effect in waiting if effect.key not in turn.cancel), *turn.perform]
            turns += turn.paused
            if turn.ending is not None or (stop_after is not None and len(written) >= stop_after):
                break
            if waiting and not turn.paused:
                effect = waiting.pop(0)
                keep(execution.queue_result(effect, world.perform(effect)))
                turn = execution.advance()
                continue
            if turn.wake_at_ms is not None:
                clock.now = turn.wake_at_ms
            elif turn.subscriptions:
                break
            turn = execution.advance()
        reported.append((len(written), execution.take_history()))
        tasks = [task for _, each in reported if each for task in orjson.loads(each)]
        return RunOutcome(turn, world, tuple(written), turns, waiting, tasks=tasks, fragments=reported)

    run.World = World
    run.Clock = StandingClock
    return run


START = 1_700_000_000_000


class Begun:
    """A run that a test takes from turn to turn; `now` is what its clock says."""

    def __init__(self, evaluator, do, *, overdue=lambda: False, chance=0.5, **parts):
        self.now = START
        definition = {"document": {"name": "test"}, "do": do, **parts}
        workflow = ExecutionContext("evt_1", definition, {"n": 0}, START, lambda: self.now, must_yield=overdue)
        self.run = ExecutionMachine(compile_program(definition, evaluator), workflow, chance=lambda: chance)
        self.turn = self.run.advance()
        self.effects = list(self.turn.perform)

    def after(self, seconds=0.0, effect=None, result=b'{"n": 1}'):
        """Go on when time has passed, or with the result of an effect."""
        self.now += round(seconds * 1000)
        if effect is None:
            self.turn = self.run.advance()
        else:
            self.turn = self.run.resume(effect, result if isinstance(result, EffectResult) else EffectResult(result))
        self.effects += self.turn.perform
        return self.turn

    def keys(self):
        return [effect.key for effect in self.turn.perform]


@pytest.fixture
def begin(evaluator):
    return lambda do, **more: Begun(evaluator, do, **more)


def task(name, **body):
    return {name: body}
