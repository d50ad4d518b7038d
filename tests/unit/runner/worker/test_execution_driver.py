import asyncio
import gc

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
from runner.worker.execution_driver import ACTIVE, ACTIVE_AT_ONCE, ACTIVE_BYTES, ExecutionDriver, window
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


class AtOnce:
    """Prepares executions of one flow without I/O."""

    def __init__(self, definition):
        self.flow = LoadedFlow(compile_program(definition, Evaluator()))

    def at_once(self, execution):
        return Prepared(self.flow, {}, {})

    def attachments(self, execution):
        raise NotImplementedError


def machines():
    return sum(isinstance(each, ExecutionMachine) for each in gc.get_objects())


async def test_an_execution_that_ends_leaves_nothing_to_the_garbage_collector():
    session = Session(runner_id="r", components=(), build="", capacity=4, losses_explained=True)
    session.connected(0)
    session.receive(messages.Welcome(60.0, frozenset()), 0)
    event = Event("evt_1", "f", 1, None, "", "POST", "/hook/f", "", "application/json", (), b"{}")
    assignments = [messages.Assignment(bytes([n]), 1, 1, convert.event_to_bytes(event)) for n in range(4)]
    session.receive(messages.AssignmentBatch(tuple(assignments)), 0)
    ended = asyncio.Event()
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
        driver = ExecutionDriver(
            session=session,
            preparer=AtOnce({"document": {"name": "f"}, "do": [{"a": {"set": {"x": 1}}}]}),
            secrets=None,
            executor=None,
            record=EvaluationRecord(),
            tasks=tasks,
            request_send=lambda *, urgent=False: ended.set() if session.running == 0 else None,
            sent=None,
            evaluator=Evaluator(),
            quarantine=(),
            now_ms=lambda: 1,
        )
        gc.collect()
        before = machines()
        gc.disable()
        try:
            for assignment in assignments:
                driver.start(assignment)
            pump = tasks.create_task(driver.pump())
            await ended.wait()
            pump.cancel()
            assert machines() - before <= 1  # the pump's last one
        finally:
            gc.enable()


@pytest.mark.parametrize(
    ("end", "prepared"),
    [(lambda driver: driver.abandon(b"\1"), [b"\0", b"\2"]), (ExecutionDriver.drain, [])],
    ids=["abandon", "drain"],
)
async def test_what_has_not_begun_is_neither_prepared_nor_run_once_it_is_taken_away(end, prepared):
    session = Session(runner_id="r", components=(), build="", capacity=4, losses_explained=True)
    session.connected(0)
    session.receive(messages.Welcome(60.0, frozenset()), 0)
    event = Event("evt_1", "f", 1, None, "", "POST", "/hook/f", "", "application/json", (), b"{}")
    assignments = [messages.Assignment(bytes([n]), 1, 1, convert.event_to_bytes(event)) for n in range(3)]
    session.receive(messages.AssignmentBatch(tuple(assignments)), 0)
    preparer, seen = AtOnce({"document": {"name": "f"}, "do": [{"a": {"set": {"x": 1}}}]}), []
    preparer.at_once = lambda execution: seen.append(execution.lease) or Prepared(preparer.flow, {}, {})
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
        driver = ExecutionDriver(
            session=session,
            preparer=preparer,
            secrets=None,
            executor=None,
            record=EvaluationRecord(),
            tasks=tasks,
            request_send=lambda *, urgent=False: None,
            sent=None,
            evaluator=Evaluator(),
            quarantine=(),
            now_ms=lambda: 1,
        )
        for assignment in assignments:
            driver.start(assignment)
        end(driver)
        pump = tasks.create_task(driver.pump())
        while driver._ready:
            await asyncio.sleep(0)
        pump.cancel()
    assert seen == prepared
