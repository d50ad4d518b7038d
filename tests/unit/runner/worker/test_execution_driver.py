import asyncio
import gc
from contextlib import asynccontextmanager

import pytest
from support.patience import PATIENCE

from flowhook.attach import messages
from flowhook.model import Event
from flowhook.wire import convert
from runner.evaluation.evaluator import Evaluator
from runner.guard.evaluation_record import EvaluationRecord
from runner.interpreter.execution_machine import ExecutionMachine
from runner.interpreter.program import compile_program
from runner.session import Session
from runner.worker import execution_driver
from runner.worker.execution_driver import ACTIVE, ACTIVE_AT_ONCE, ACTIVE_BYTES, RECENT, ExecutionDriver, window
from runner.worker.preparation import Prepared
from runner.worker.router_reads import LoadedFlow


@pytest.mark.parametrize(
    ("waiting", "at_once", "event_bytes", "expected"),
    [
        (0, 0.0, 0, ACTIVE),
        (0, 1.0, 0, ACTIVE + ACTIVE_AT_ONCE),
        (0, 0.5, 1000, ACTIVE + ACTIVE_AT_ONCE // 2),
        (0, 1.0, ACTIVE_BYTES, ACTIVE),
        (30, 0.0, 0, ACTIVE + 40),
        (30, 1.0, ACTIVE_BYTES, ACTIVE + 40),
    ],
)
def test_more_is_requested_beside_what_waits_and_if_executions_end_at_once(waiting, at_once, event_bytes, expected):
    assert window(waiting, at_once, event_bytes) == expected


SETS = {"document": {"name": "f"}, "do": [{"a": {"set": {"x": 1}}}, {"b": {"set": {"y": 2}}}]}


class AtOnce:
    """Prepares executions of one flow without I/O."""

    def __init__(self):
        self.flow = LoadedFlow(compile_program(SETS, Evaluator()))
        self.seen = []

    def at_once(self, execution):
        self.seen.append(execution.lease)
        return Prepared(self.flow, {}, {})

    def attachments(self, execution):
        raise NotImplementedError


class Driven:
    """A driver that was assigned executions, their leases numbered from 0, and runs them once it pumps."""

    def __init__(self, tasks, preparer, executions):
        self.session = Session(runner_id="r", components=(), build="", capacity=4, losses_explained=True)
        self.session.connected(0)
        self.session.take()  # its hello
        self.session.receive(messages.Welcome(60.0, frozenset()), 0)
        self.ended = asyncio.Event()
        self.tasks = tasks
        self.driver = ExecutionDriver(
            session=self.session,
            preparer=preparer,
            secrets=None,
            executor=None,
            record=EvaluationRecord(),
            tasks=tasks,
            request_send=lambda *, urgent=False: self.ended.set() if self.session.running == 0 else None,
            sent=None,
            quarantine=(),
            now_ms=lambda: 1,
        )
        event = Event("evt_1", "f", 1, None, "", "POST", "/hook/f", "", "application/json", (), b"{}")
        stored = convert.event_to_bytes(event)
        self.assignments = [messages.Assignment(bytes([n]), 1, 1, stored) for n in range(executions)]
        self.session.receive(messages.AssignmentBatch(tuple(self.assignments)), 0)

    def start(self):
        for assignment in self.assignments:
            self.driver.start(assignment)

    async def pump(self):
        pump = self.tasks.create_task(self.driver.pump())
        await self.ended.wait()
        while self.driver._ready:
            await asyncio.sleep(0)
        pump.cancel()

    def outcomes(self):
        batches = [each for each in self.session.take() if isinstance(each, messages.OutcomeBatch)]
        return [outcome.ending for batch in batches for outcome in batch.outcomes]


@asynccontextmanager
async def driving(preparer=None, executions=4):
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
        yield Driven(tasks, preparer or AtOnce(), executions)


def machines():
    return sum(isinstance(each, ExecutionMachine) for each in gc.get_objects())


async def test_an_execution_that_ends_leaves_nothing_to_the_garbage_collector():
    async with driving() as driven:
        gc.collect()
        before = machines()
        gc.disable()
        try:
            driven.start()
            await driven.pump()
            assert machines() - before <= 1  # the pump's last one
        finally:
            gc.enable()


@pytest.mark.parametrize(
    ("end", "prepared"),
    [(lambda driver: driver.abandon(b"\1"), [b"\0", b"\2"]), (ExecutionDriver.drain, [])],
    ids=["abandon", "drain"],
)
async def test_what_has_not_begun_is_neither_prepared_nor_run_once_it_is_taken_away(end, prepared):
    preparer = AtOnce()
    async with driving(preparer, 3) as driven:
        driven.start()
        end(driven.driver)
        driven.session.receive(messages.Revocation((b"\1",), ""), 0)
        await driven.pump()
    assert preparer.seen == prepared


async def test_an_execution_that_pauses_in_its_first_turn_may_still_have_ended_at_once(monkeypatch):
    paused, carry_out = [], ExecutionDriver._carry_out
    monkeypatch.setattr(execution_driver, "TURN_SECONDS", -1.0)  # each turn is over as soon as it begins
    monkeypatch.setattr(
        ExecutionDriver,
        "_carry_out",
        lambda self, execution, step: paused.append(step) or carry_out(self, execution, step),
    )
    async with driving() as driven:
        driven.start()
        await driven.pump()
        assert all(step.paused for step in paused)
        assert len(paused) >= 4
        assert driven.driver._at_once == pytest.approx(1 - (1 - 1 / RECENT) ** 4)


async def test_an_execution_whose_machine_can_not_be_made_faults_and_others_run():
    class Broken(AtOnce):
        def at_once(self, execution):
            return Prepared(None if execution.lease == b"\1" else self.flow, {}, {})

    async with driving(Broken()) as driven:
        driven.start()
        await driven.pump()
        endings = [type(each) for each in driven.outcomes()]
    assert sorted(each.__name__ for each in endings) == ["Completed", "Completed", "Completed", "Faulted"]
