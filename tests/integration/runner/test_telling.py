"""What a whole runner tells of tasks: while they run, with what they came to, and only if anybody wants to know."""

from __future__ import annotations

import asyncio

import orjson
import pytest
from aiohttp import web

from flowhook.events.lifecycle import FROM_RUNNERS, TaskEventType
from flowhook.v1 import runner_service_pb2

ASKED = (("good", ""), ("bad", "?fail=1"))


@pytest.fixture
async def gate():
    return asyncio.Event()


@pytest.fixture
async def flow(router, http_server, gate):
    """Two calls, the first of which is answered when the test says so; the second one fails."""

    async def answer(request):
        await gate.wait()
        return web.json_response({"n": 1}, status=400 if request.query else 200)

    base = await http_server(answer)
    calls = [{name: {"call": "http", "with": {"method": "get", "endpoint": base + query}}} for name, query in ASKED]
    router.define("orders", calls)
    yield "orders"
    gate.set()


def want(stream, types):
    lifecycle_filter = runner_service_pb2.LifecycleFilter(event_types=types)
    stream.responses.put_nowait(runner_service_pb2.AttachResponse(lifecycle_filter=lifecycle_filter))


def rows(events):
    return [(event.type, event.key, orjson.loads(event.data)["task"]) for event in events]


async def test_a_call_is_reported_while_it_is_under_way_and_its_fault_with_the_outcome(router, served, flow, gate):
    stream = await router.attached()
    want(stream, FROM_RUNNERS)
    assignment = router.assignment(flow)
    router.assign(stream, assignment)
    [bare] = await router.until(lambda: stream.checkpoints)
    assert (bare.HasField("entry"), bare.index, bare.number) == (False, 0, 1)
    first, second = "/do/0/good", "/do/1/bad"
    assert rows(bare.events) == [(TaskEventType.CREATED, "1", first), (TaskEventType.STARTED, "1", first)]
    gate.set()
    outcome = await router.outcome(assignment.lease)
    assert outcome.faulted.status == 400
    (entry,) = (each for each in stream.checkpoints if each.HasField("entry"))
    assert (entry.index, list(entry.events)) == (0, [])
    # in as many messages as the runner took turns
    later = stream.checkpoints[stream.checkpoints.index(entry) + 1 :]
    assert [row for each in later for row in rows(each.events)] == [
        (TaskEventType.COMPLETED, "1", first),
        (TaskEventType.CREATED, "2", second),
        (TaskEventType.STARTED, "2", second),
    ]
    assert rows(outcome.events) == [(TaskEventType.FAULTED, "2", second)]


async def test_nothing_is_reported_unless_it_is_wanted(router, served, flow, gate):
    gate.set()
    stream = await router.attached()
    outcome = await router.run(stream, flow)
    assert [len(each.events) for each in (outcome, *stream.checkpoints)] == [0, 0]


async def test_what_becomes_wanted_is_reported_of_what_begins_then(router, served, flow, gate):
    stream = await router.attached()
    assignment = router.assignment(flow)
    router.assign(stream, assignment)
    router.define("other", [{"say": {"set": {"x": 1}}}])
    await router.run(stream, "other")  # by now the first one is under way, and by the next one the interest is known
    want(stream, [TaskEventType.FAULTED])
    await router.run(stream, "other")
    gate.set()
    outcome = await router.outcome(assignment.lease)
    assert rows(outcome.events) == [(TaskEventType.FAULTED, "2", "/do/1/bad")]
    assert all(each.HasField("entry") for each in stream.checkpoints)
