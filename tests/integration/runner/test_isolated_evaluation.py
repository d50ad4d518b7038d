"""Evaluation in separate processes: results, limits, and what happens to the processes."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from functools import partial

import orjson
import psutil
import pytest
from structlog.testing import capture_logs
from support.patience import PATIENCE

from flowhook.events.workflow_input import workflow_input
from flowhook.limits import MAX_VALUES
from flowhook.model import Blob, Event, Part
from flowhook.process.settings import RunnerSettings
from flowhook.sharing.table import OffloadLimits
from runner.evaluation.evaluator import Evaluator
from runner.evaluation.supervision import Supervision
from runner.guard.evaluation_record import Activity, EvaluationRecord
from runner.interpreter.errors import ExpressionFailed, SchemaViolated, TaskFault
from runner.interpreter.execution_context import ExecutionContext
from runner.interpreter.nodes import Block, DataFlowStage, Program
from runner.interpreter.scope import ExpressionScope
from runner.quarantine.isolated_evaluator import (
    EvaluationInterrupted,
    EvaluationKilled,
    EvaluatorPool,
    IsolatedEvaluator,
)
from runner.quarantine.quarantined_flows import QuarantinedFlows
from runner.worker.active_execution import ActiveExecution
from runner.worker.preparation import OFFLOAD_BYTES, ExecutionPreparer
from runner.worker.quarantine_driver import QuarantineDriver
from runner.worker.router_reads import LoadedFlow

ENDLESS = "last(range(1e15))"
GREEDY = 'reduce range(1e9) as $i ("xxxxxxxx"; . + .) | length'


SEGMENTATION_FAULT = "reduce range(100000) as $i (0; [.]) | error"


@pytest.fixture
async def make_pool():
    """Make a pool whose evaluations have 0.3 s, or `seconds`, and 64 MiB."""
    made = []

    def make(*, seconds=0.3, **options):
        settings = RunnerSettings(expression_seconds=seconds, expression_bytes=64 * 1024 * 1024)
        made.append(EvaluatorPool(settings, **options))
        return made[-1]

    yield make
    for each in made:
        await each.aclose()


@pytest.fixture
def pool(make_pool):
    return make_pool()


def request(content_type, body):
    return Event("evt_1", "f", 0, None, "", "POST", "/x", "a=1&a=2", content_type, (("x-a", b"\xe9"),), body)


@pytest.fixture
async def quick_pool():
    pool = EvaluatorPool(RunnerSettings(expression_seconds=0.1, expression_bytes=2**30))
    yield pool
    await pool.aclose()


def scope(evaluator):
    workflow = ExecutionContext("evt_1", {}, None, 0, lambda: 0)
    workflow.remote_evaluator = evaluator
    return ExpressionScope(workflow, instance="/do/0/a")


async def evaluate(pool, source, data=None, flow_id="f"):
    """Evaluate an expression in a process apart, as the interpreter does."""
    expression = Evaluator().expression(source)
    async with pool.process(flow_id) as evaluator:
        return await evaluator.run(lambda: expression(data, scope(evaluator)), pool.threads)


async def test_an_expression_gives_there_what_it_gives_here(pool):
    for source in ("[.a, 1] | add", "[.a, .b] | add", "empty", "{a, c: [limit(3; repeat(1))]}", "nan"):
        here = Evaluator().expression(source)({"a": 1, "b": 2**53 + 1}, scope(None))
        assert await evaluate(pool, source, {"a": 1, "b": 2**53 + 1}) == here


async def test_it_fails_there_as_it_fails_here(pool):
    for source in (".a.b.c + 1", "error", "{", '"\\(.a) " | tonumber'):
        with pytest.raises(ExpressionFailed) as here:
            Evaluator().expression(source)({"a": "x"}, scope(None))
        with pytest.raises(ExpressionFailed) as there:
            await evaluate(pool, source, {"a": "x"})
        assert str(there.value) == str(here.value)


async def test_a_schema_is_checked_there_too(pool):
    validate = Evaluator().schema({"type": "object", "properties": {"n": {"minimum": 3}}})
    async with pool.process("f") as evaluator:
        await evaluator.run(lambda: validate({"n": 3}, scope(evaluator)), pool.threads)
        with pytest.raises(SchemaViolated, match=r"\.n does not meet minimum: 3"):
            await evaluator.run(lambda: validate({"n": 2}, scope(evaluator)), pool.threads)


async def read(pool, event, **options):
    """Read an event in a process apart."""
    async with pool.process("f") as evaluator:
        text = await evaluator.run(
            lambda: evaluator.event_input(event, webhook=True, raw=False, owner=event.id, **options), pool.threads
        )
        return orjson.loads(text)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b'{"a": [1, 1e300, 12345678901234567890, "\\u00e9", null]}'),
        ("application/xml", b"<a><b>1</b></a>"),
        ("application/octet-stream", b"\xff\x00"),
        ("application/json", b"{"),
        ("", b""),
    ],
)
async def test_an_event_is_read_there_as_it_is_here(pool, content_type, body):
    event = request(content_type, body)
    assert await read(pool, event, contents={}) == workflow_input(event)


async def test_contents_of_attachments_are_read_there_too(pool):
    parts = (Part(0, 3, "text/plain", "a.txt", "a", b"1" * 32), Part(9, 2, "", "b", "b", b"2" * 32))
    event = request("multipart/form-data", b"")._replace(
        body_blob=Blob("blob", 99, b"3" * 32), parts=parts, form=b'{"f":1}'
    )
    contents = {0: b"abc", 1: b"\xff\xfe"}
    assert await read(pool, event, contents=contents) == workflow_input(event, contents=contents)


class Local:
    """What an execution needs, without a router."""

    loaded = LoadedFlow(Program({"webhook": {}}, DataFlowStage(), Block((), {}), DataFlowStage(), (), has_webhook=True))

    def cached(self, _flow_id, _revision):
        return self.loaded

    async def load(self, _flow_id, _revision):
        return self.loaded

    async def contents(self, _event, **_options):
        return {}

    read = None  # nothing is stored apart


@pytest.fixture
def shared_record():
    record = EvaluationRecord()
    yield record
    record.close()


@pytest.fixture
def preparer(pool, shared_record):
    flows = QuarantinedFlows(lambda: 0.0)
    flows.add("f")
    local = Local()
    return ExecutionPreparer(
        flows=local,
        secrets=local,
        bodies=local,
        supervision=Supervision(shared_record),
        quarantine=QuarantineDriver(flows, pool),
    )


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
def test_a_body_that_is_compressed_is_read_apart_however_small_it_is(preparer, coding):
    event = request("application/json", b"{}")._replace(headers=(("content-encoding", coding.encode()),))
    assert preparer.at_once(ActiveExecution(b"lease", event, 1, (), "evt_1", 0)) is None
    small = event._replace(headers=())
    assert preparer.at_once(ActiveExecution(b"lease", small, 1, (), "evt_1", 0)).data["body"] == {}


async def test_a_guard_sees_that_what_was_read_apart_is_taken_in(preparer, shared_record, monkeypatch):
    loads, seen = orjson.loads, []

    def looked_at(text):
        seen.append(shared_record.read())
        return loads(text)

    monkeypatch.setattr(orjson, "loads", looked_at)
    event = request("application/json", b'{"a": 1%s}' % (OFFLOAD_BYTES * b" "))
    prepared = await preparer.prepare(ActiveExecution(b"lease", event, 1, (), "evt_1", 0))
    assert prepared.data["body"] == {"a": 1}
    assert [(each.started_ns > 0, each.lease, each.activity) for each in seen] == [(True, b"lease", Activity.INPUT)]
    assert shared_record.read().started_ns == 0


async def test_the_input_of_a_batch_is_the_array_of_those_of_its_events(preparer, monkeypatch):
    monkeypatch.setattr(Local, "loaded", LoadedFlow(replace(Local.loaded.program, batches=True)))
    large = request("application/json", b'{"a": 1%s}' % (OFFLOAD_BYTES * b" "))
    first = request("application/octet-stream", b"one")
    alone = ActiveExecution(b"lease", first, 1, (), "evt_1", 0)
    assert preparer.at_once(alone) is None
    assert [each["attachments"][0]["attachment"] for each in (await preparer.prepare(alone)).data] == ["evt_1/0"]
    others = (large._replace(id="evt_2"), request("application/octet-stream", b"three")._replace(id="evt_3"))
    batch = ActiveExecution(b"lease", first._replace(batch=others), 1, (), "evt_scope", 0)
    one, two, three = (await preparer.prepare(batch)).data
    assert (one["attachments"][0]["attachment"], three["attachments"][0]["attachment"]) == ("evt_scope/0", "evt_3/0")
    assert ([each["id"] for each in (two, three)], two["body"]) == (["evt_2", "evt_3"], {"a": 1})
    attachments = preparer.attachments(batch)
    assert (attachments.find("evt_scope/0").size, attachments.find("evt_3/0").size) == (3, 5)
    with pytest.raises(TaskFault):
        attachments.find("evt_4/0")


async def test_a_body_that_takes_too_long_is_ended_by_name(quick_pool):
    pool = quick_pool
    members = ",".join(f'"{number:x}":0' for number in range(MAX_VALUES - 1))
    long = request("application/json", f"{{{members}}}".encode())
    with pytest.raises(EvaluationKilled) as ended:
        await read(pool, long, contents={})
    assert ended.value.error.instance == "/input"
    assert ended.value.error.detail.startswith("reading the event's body took more than ")
    assert (await read(pool, request("application/json", b"1"), contents={}))["body"] == 1


@pytest.mark.parametrize(
    ("source", "seconds", "cause"),
    [
        (ENDLESS, 0.3, "ran for more than 0.3 s"),
        (GREEDY, 60.0, "more than 64 MiB"),
        (SEGMENTATION_FAULT, 60.0, "SIGSEGV"),
    ],
)
async def test_what_hangs_or_eats_memory_or_crashes_is_ended_and_the_next_one_gets_another_process(
    make_pool, source, seconds, cause
):
    pool = make_pool(seconds=seconds)
    with pytest.raises(EvaluationKilled) as ended:
        await evaluate(pool, source)
    assert cause in ended.value.error.detail
    assert (ended.value.error.type.rpartition("/")[2], ended.value.error.status) == ("expression", 400)
    assert ended.value.error.instance == "/do/0/a"
    assert await evaluate(pool, "[., 1] | add", 1) == 2


async def test_where_nobody_looks_the_kernel_ends_it(make_pool):
    pool = make_pool(start=partial(IsolatedEvaluator.start, poll_seconds=3600))
    with pytest.raises(EvaluationKilled, match="ran for more than"):
        await evaluate(pool, ENDLESS)


async def test_the_loop_goes_on_meanwhile(pool):
    turns = 0

    async def look():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    looking = asyncio.create_task(look())
    with pytest.raises(EvaluationKilled):
        await evaluate(pool, ENDLESS)
    looking.cancel()
    assert turns > 100


async def test_one_that_is_called_off_leaves_no_process(pool):
    before = {*psutil.Process().children(recursive=True)}
    running = asyncio.create_task(evaluate(pool, ENDLESS))
    async with asyncio.timeout(PATIENCE):
        while not (children := {*psutil.Process().children(recursive=True)} - before):
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await pool.aclose()
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)


async def test_no_flow_gets_all_processes(pool):
    inside, entered, leave = [], asyncio.Event(), asyncio.Event()

    async def hold(flow_id):
        async with pool.process(flow_id):
            inside.append(flow_id)
            entered.set()
            await leave.wait()

    greedy = [asyncio.create_task(hold("greedy")) for _ in range(3 * OffloadLimits().processes.total)]
    await entered.wait()
    async with pool.process("modest") as evaluator:
        assert evaluator.is_alive
        assert inside == ["greedy"]
    leave.set()
    await asyncio.gather(*greedy)


async def test_a_process_is_used_again(pool):
    pids = []
    for number in range(3):
        async with pool.process(f"flow-{number}") as evaluator:
            pids.append(evaluator.process.pid)
    assert len(set(pids)) == 1


async def test_a_process_that_died_idle_is_replaced(pool):
    async with pool.process("f") as evaluator:
        process = evaluator.process
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    assert await evaluate(pool, "[., 1] | add", 1) == 2


async def test_one_that_somebody_else_killed_says_nothing_of_what_it_evaluated(pool):
    expression = Evaluator().expression("[., 1] | add")
    async with pool.process("f") as evaluator:
        # within the block: the pool would replace one whose death it has noticed
        os.kill(evaluator.process.pid, signal.SIGKILL)
        with pytest.raises(EvaluationInterrupted):
            await evaluator.run(lambda: expression(1, scope(evaluator)), pool.threads)
    assert await evaluate(pool, "[., 1] | add", 1) == 2


async def test_one_that_does_not_start_is_tried_again_and_reported_once(make_pool):
    failures = iter([OSError(12, "Cannot allocate memory")] * 3)

    async def fail(settings):
        for failure in failures:
            raise failure
        return await IsolatedEvaluator.start(settings)

    with capture_logs() as lines:
        assert await evaluate(make_pool(start=fail, retry_seconds=0.0), "[., 1] | add", 1) == 2
    assert lines == [
        {
            "log_level": "error",
            "event": "a process can't be started; trying again",
            "purpose": "quarantine",
            "cause": "[Errno 12] Cannot allocate memory",
        }
    ]


async def test_what_a_process_imports_is_not_held_against_what_it_evaluates():
    pool = EvaluatorPool(RunnerSettings(expression_seconds=0.02, expression_bytes=4 * 1024 * 1024))
    assert await evaluate(pool, "[., 1] | add", 1) == 2
    await pool.aclose()
