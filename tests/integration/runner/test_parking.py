"""Executions that wait for events, in a whole runner."""

from __future__ import annotations

import asyncio
import time

import orjson
import pytest
from aiohttp import web
from support.attach_messages import decode_subscriptions, entry_message
from support.patience import PATIENCE

from flowhook.model import Correlation, EventFilter, JournalEntry, Subscription
from flowhook.v1 import runner_service_pb2

PAID = {"with": {"type": "paid"}, "correlate": {"order": {"from": ".data.order", "expect": "${ .body.order }"}}}
LISTEN = {"wait": {"listen": {"to": {"one": PAID}}}}
FILTER = EventFilter(False, "paid", (), (Correlation(".data.order", b'"A-1"'),))


def arrived(key, data):
    event = {"specversion": "1.0", "id": "1", "source": "/s", "type": "paid", "data": data}
    return entry_message(JournalEntry(key, orjson.dumps(event)))


async def test_an_execution_parks_with_what_it_waits_for_and_goes_on_with_what_arrived(router, served):
    router.define("orders", [LISTEN, {"put": {"set": {"order": "${ .[0].order }"}}}])
    stream = await router.attached()
    outcome = await router.run(stream, "orders", {"order": "A-1"})
    assert not outcome.parked.HasField("wake_time")
    (subscription,) = outcome.parked.subscriptions
    assert decode_subscriptions([subscription]) == (Subscription("/do/0/wait#0:event", (FILTER,)),)
    assignment = router.assignment("orders", {"order": "A-1"}, attempt=2)
    assignment.journal.append(arrived(subscription.key, {"order": "A-1"}))
    router.assign(stream, assignment)
    assert orjson.loads((await router.outcome(assignment.lease)).completed.output) == {"order": "A-1"}


async def test_an_execution_that_waits_for_an_event_and_a_time_parks_with_both(router, served):
    router.define("orders", [{"wait": {**LISTEN["wait"], "timeout": {"after": {"hours": 1}}}}])
    stream = await router.attached()
    outcome = await router.run(stream, "orders", {"order": "A-1"})
    assert [each.key for each in outcome.parked.subscriptions] == ["/do/0/wait#0:event"]
    assert 3500 < outcome.parked.wake_time.seconds - time.time() < 3700
    (checkpoint,) = stream.checkpoints
    assert checkpoint.entry.key == "/do/0/wait#0:timeout"


@pytest.fixture
async def hanging(http_server):
    """An address that answers when the test says so, who asked, and the gate."""
    requested, gate = asyncio.Queue(), asyncio.Event()

    async def answer(request):
        requested.put_nowait(request.headers["Idempotency-Key"])
        await gate.wait()
        return web.json_response({"n": 1})

    yield {"method": "get", "endpoint": await http_server(answer)}, requested, gate
    gate.set()


def hand_over(stream, listening, number, data):
    (subscription,) = listening.subscriptions
    delivery = runner_service_pb2.EventDelivery(
        lease=listening.lease,
        generation=listening.generation,
        number=number,
        entry=arrived(subscription.key, data),
    )
    stream.responses.put_nowait(
        runner_service_pb2.AttachResponse(deliveries=runner_service_pb2.EventDeliveryBatch(deliveries=[delivery]))
    )


async def test_an_event_is_taken_in_while_a_call_of_another_branch_is_under_way(router, served, hanging):
    ask, requested, gate = hanging
    branches = [LISTEN, {"ask": {"call": "http", "with": ask}}]
    router.define("orders", [{"both": {"fork": {"branches": branches}}}])
    stream = await router.attached()
    assignment = router.assignment("orders", {"order": "A-1"})
    router.assign(stream, assignment)
    [listening] = await router.until(lambda: stream.subscriptions)
    async with asyncio.timeout(PATIENCE):
        await requested.get()
    assert [each.filters for each in decode_subscriptions(listening.subscriptions)] == [(FILTER,)]
    hand_over(stream, listening, 7, {"order": "A-1"})
    [checkpoint] = await router.until(lambda: stream.checkpoints)
    assert (checkpoint.index, checkpoint.consumed) == (0, 7)
    await router.until(lambda: len(stream.subscriptions) > 1)
    assert not stream.subscriptions[1].subscriptions
    assert stream.subscriptions[1].generation > listening.generation
    assert stream.outcomes == []
    gate.set()
    outcome = await router.outcome(assignment.lease)
    assert orjson.loads(outcome.completed.output) == [[{"order": "A-1"}], {"n": 1}]
    assert requested.empty()


async def test_what_comes_wins_a_race_against_a_call_that_hangs(router, served, hanging):
    ask, _, _ = hanging
    branches = [LISTEN, {"ask": {"call": "http", "with": ask}}]
    router.define("orders", [{"race": {"fork": {"compete": True, "branches": branches}}}])
    stream = await router.attached()
    assignment = router.assignment("orders", {"order": "A-1"})
    router.assign(stream, assignment)
    [listening] = await router.until(lambda: stream.subscriptions)
    hand_over(stream, listening, 7, {"order": "A-1"})
    assert orjson.loads((await router.outcome(assignment.lease)).completed.output) == [{"order": "A-1"}]


@pytest.mark.parametrize("settings", [{"http_timeout": 3600.0}], indirect=True)
async def test_a_wait_is_over_in_time_while_a_call_of_another_branch_hangs(router, served, hanging):
    ask, _, _ = hanging
    pause = {"pause": {"wait": {"milliseconds": 400}}}
    branches = [{"later": {"do": [pause, {"put": {"set": {"over": True}}}]}}, {"ask": {"call": "http", "with": ask}}]
    router.define("orders", [{"race": {"fork": {"compete": True, "branches": branches}}}])
    stream = await router.attached()
    began = time.monotonic()
    outcome = await router.run(stream, "orders", {})
    assert orjson.loads(outcome.completed.output) == {"over": True}
    assert time.monotonic() - began >= 0.4


async def test_an_execution_whose_call_is_tried_again_parks_with_what_failed(router, served, http_server):
    asked = []

    async def answer(request):
        asked.append(request.headers["Idempotency-Key"])
        return web.json_response({"why": "down"}, status=503) if len(asked) == 1 else web.json_response({"n": 1})

    ask = {"call": "http", "with": {"method": "get", "endpoint": await http_server(answer)}}
    ask["metadata"] = {"retry": {"delay": {"hours": 1}, "limit": {"attempt": {"count": 3}}}}
    router.define("orders", [{"ask": ask}])
    stream = await router.attached()
    began = time.time()
    outcome = await router.run(stream, "orders", {})
    retry = outcome.parked.retry
    assert (retry.error.status, retry.error.instance, retry.tries, retry.others) == (503, "/do/0/ask", 1, 0)
    assert orjson.loads(retry.error.response.body) == {"why": "down"}
    assert began + 3500 < retry.next_time.seconds < began + 3700
    assert list(outcome.parked.retry_keys) == ["/do/0/ask#0:retry"]
    assignment = router.assignment("orders", {}, attempt=2)
    assignment.journal.extend(each.entry for each in stream.checkpoints)
    over = orjson.dumps({"over": int(began * 1000), "early": True})  # as the router writes it when an operator says so
    assignment.journal.append(entry_message(JournalEntry("/do/0/ask#0:retry", over)))
    router.assign(stream, assignment)
    assert orjson.loads((await router.outcome(assignment.lease)).completed.output) == {"n": 1}
    assert [key.partition(":")[2] for key in asked] == ["/do/0/ask#0", "/do/0/ask#0"]


async def test_of_several_retries_the_next_one_is_told_without_secrets_and_all_can_be_ended(router, served):
    router.secrets["key"] = b"hunter2-hunter2"
    error = {"type": "https://example.com/no", "status": 503, "title": "No", "detail": '${ "by \\($secrets.key)" }'}
    branches = [
        {
            name: {
                "try": [{"no": {"raise": {"error": error}}}],
                "catch": {"retry": {"delay": {"hours": hours}, "limit": {"attempt": {"count": 3}}}},
            }
        }
        for name, hours in (("late", 2), ("soon", 1))
    ]
    router.define("orders", [{"both": {"fork": {"branches": branches}}}], use={"secrets": ["key"]})
    parked = (await router.run(await router.attached(), "orders", {})).parked
    assert (parked.retry.tries, parked.retry.others) == (1, 1)
    assert parked.retry.error.instance.endswith("/soon/try/0/no")
    assert "hunter2" not in str(parked)
    assert [key.split("/")[-1] for key in parked.retry_keys] == ["soon#0:retry", "late#0:retry"]
    assert parked.retry.next_time == parked.wake_time
