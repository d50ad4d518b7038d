"""Which bodies take so much CPU time that their flow is quarantined."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from flowhook import limits
from flowhook.model import Event
from runner.evaluation import supervision
from runner.evaluation.supervision import CPU_READING_NS, SLOW_NS, Supervision
from runner.interpreter.nodes import Block, DataFlowStage, Program
from runner.worker import preparation
from runner.worker.active_execution import ActiveExecution
from runner.worker.preparation import ExecutionPreparer
from runner.worker.router_reads import LoadedFlow

EVENT = Event("evt_1", "f", 1, None, "", "POST", "/hook/f", "", "application/json", (), b"{}")
FLOW = LoadedFlow(Program({}, DataFlowStage(), Block((), {}), DataFlowStage(), ()))


class Thread:
    """A thread whose time is set: its clocks, and the guard's record, in place of the real ones."""

    def __init__(self):
        self.wall = self.cpu = 1_000_000_000
        self.readings = 0

    def monotonic_ns(self):
        return self.wall

    def thread_time_ns(self):
        self.readings += 1
        return self.cpu

    def assign(self, _lease, _flow_id):
        pass

    def begin(self, _instance, _activity):
        return self.wall

    def end(self):
        pass

    def spends(self, wall, cpu):
        self.wall += wall
        self.cpu += cpu


@pytest.fixture
def thread(monkeypatch):
    made = Thread()
    monkeypatch.setattr(supervision, "time", made)
    return made


@pytest.fixture
def prepare(thread, monkeypatch):
    """Prepares an execution whose body takes some wall time and CPU time; returns whether it was slow."""
    slow = []
    flows = SimpleNamespace(cached=lambda _flow_id, _revision: FLOW)
    preparer = ExecutionPreparer(
        flows=flows, secrets=None, bodies=None, supervision=Supervision(thread, slow.append), quarantine=()
    )

    def one(wall, cpu):
        monkeypatch.setattr(preparation, "workflow_input", lambda *_, **__: thread.spends(wall, cpu))
        slow.clear()
        preparer.at_once(ActiveExecution(b"lease", EVENT, 1, (), "evt_1", 0))
        return slow == ["f"]

    return one


def test_a_body_is_slow_if_it_takes_both_wall_time_and_cpu_time(prepare):
    assert not prepare(SLOW_NS, SLOW_NS)
    assert prepare(SLOW_NS + 1, SLOW_NS + 1)
    assert not prepare(2 * SLOW_NS, SLOW_NS)


def test_bodies_within_some_ms_share_a_reading_of_the_cpu_time(prepare, thread):
    for _ in range(10):
        prepare(CPU_READING_NS // 10, CPU_READING_NS // 10)
    assert thread.readings == 1
    # it may count what was done since the reading, too, but no more than fits into its age
    assert prepare(SLOW_NS + 1, SLOW_NS + 1 - CPU_READING_NS)
    assert not prepare(SLOW_NS + 1, SLOW_NS)


async def test_events_of_a_batch_that_are_large_once_decompressed_fault_it_before_they_take_up_memory(thread):
    compressed = EVENT._replace(headers=(("content-encoding", b"gzip"),))
    taken = []

    class Quarantine:
        def __contains__(self, _flow_id):
            return True

        async def event_input(self, event, **_):
            taken.append(event.id)
            return '"' + "a" * limits.MAX_BODY_BYTES + '"'

    async def load(_flow_id, _revision):
        return LoadedFlow(replace(FLOW.program, batches=True))

    async def contents(_event, *, raw):
        return {}

    preparer = ExecutionPreparer(
        flows=SimpleNamespace(load=load),
        secrets=None,
        bodies=SimpleNamespace(contents=contents),
        supervision=Supervision(thread),
        quarantine=Quarantine(),
    )
    few, many = (compressed._replace(batch=(compressed,) * number) for number in (2, 999))
    prepared = await preparer.prepare(ActiveExecution(b"lease", few, 1, (), "evt_1", 0))
    assert [len(each) for each in prepared.data] == [limits.MAX_BODY_BYTES] * 3
    taken.clear()
    end = await preparer.prepare(ActiveExecution(b"lease", many, 1, (), "evt_1", 0))
    assert end.error.detail == "the events of its batch have more than 64 MiB, decompressed"
    assert len(taken) == 4
