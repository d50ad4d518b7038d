"""Traces in processes of their own: an endless expression, many traces at a time."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import orjson
import pytest

from flowhook.errors import ExhaustedError, InvalidError
from flowhook.model import Event, Execution, ExecutionDetail, Origin, Status
from runner.tracing.tracer import ExecutionTracer

ID = "evt_01999999990000000000000000"


def definition(expression):
    document = {"namespace": "default", "name": "test", "version": "1.0.0", "dsl": "1.0.3"}
    return orjson.dumps({"document": document, "do": [{"one": {"set": {"x": "${ " + expression + " }"}}}]})


def detail(flow_id="test"):
    event = Event(ID, flow_id, 1_700_000_000_000, None, "", "", "", "", "", (), b'{"a":1}', origin=Origin.WORKFLOW)
    execution = Execution(
        id=ID,
        flow_id=flow_id,
        flow_revision=1,
        status=Status.RUNNING,
        attempts=1,
        receive_time_ms=1_700_000_000_000,
        end_time_ms=None,
        error=None,
    )
    return ExecutionDetail(execution, event, (), None)


@pytest.fixture
async def tracer():
    tracer = ExecutionTracer(seconds=0.3)
    yield tracer
    await tracer.aclose()


async def test_an_endless_expression_is_ended_and_the_next_trace_works(tracer, monkeypatch):
    monkeypatch.setenv("HIDDEN", "value of the environment")
    with pytest.raises(InvalidError) as caught:
        await tracer.trace(definition("[recurse(.)] | length"), detail())
    assert caught.value.reason == "TOO_COSTLY"
    trace = await tracer.trace(definition(".a + 1 | tostring + ($ENV | tostring)"), detail())
    assert (trace.outcome, trace.values[trace.output].text) == ("completed", '{"x":"2{}"}')


async def test_a_definition_that_can_not_be_compiled_is_refused(tracer):
    with pytest.raises(InvalidError) as caught:
        await tracer.trace(b'{"document":{},"do":[{"one":{"dance":1}}]}', detail())
    assert caught.value.reason == "FLOW_UNREADABLE"


async def test_more_traces_than_may_wait_are_refused():
    async with aclosing(ExecutionTracer(max_traces=2)) as tracer:
        calls = [tracer.trace(definition(".a"), detail()) for _ in range(4)]
        traces = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(each) for each in traces[2:]] == [ExhaustedError, ExhaustedError]
    assert [each.outcome for each in traces[:2]] == ["completed", "completed"]
