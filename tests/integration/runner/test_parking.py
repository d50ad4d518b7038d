"""Executions that wait for events, in a whole runner."""

from __future__ import annotations

import asyncio
import time

import orjson
import pytest
from aiohttp import web

from flowhook.model import Correlation, EventFilter, JournalEntry, Subscription
from flowhook.wire import convert

PAID = {"with": {"type": "paid"}, "correlate": {"order": {"from": ".data.order", "expect": "${ .body.order }"}}}
LISTEN = {"wait": {"listen": {"to": {"one": PAID}}}}
FILTER = EventFilter(False, "paid", (), (Correlation(".data.order", b'"A-1"'),))


def arrived(key, data):
    event = {"specversion": "1.0", "id": "1", "source": "/s", "type": "paid", "data": data}
    return convert.journal_entry_to_proto(JournalEntry(key, orjson.dumps(event)))


async def test_an_execution_parks_with_what_it_waits_for_and_goes_on_with_what_came(router, served):
    router.define("orders", [LISTEN, {"put": {"set": {"order": "${ .[0].order }"}}}])
    stream = await router.attached()
    outcome = await router.run(stream, "orders", {"order": "A-1"})
    assert not outcome.parked.HasField("wake_time")
    (subscription,) = outcome.parked.subscriptions
    assert convert.subscription_from_proto(subscription) == Subscription("/do/0/wait#0:event", (FILTER,))
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
async def slow(http_server):
    """An address that answers after a while, and the keys of those who asked."""
    asked = []

    async def answer(request):
        asked.append(request.headers["Idempotency-Key"])
        await asyncio.sleep(0.1)
        return web.json_response({"n": len(asked)})

    return await http_server(answer), asked


async def test_effects_make_way_for_events_after_a_second(router, served, slow):
    address, asked = slow
    poll = {"call": "http", "with": {"method": "get", "endpoint": address}}
    loop = {"poll": {"for": {"in": "[range(1000)]"}, "do": [{"ask": poll}]}}
    router.define("orders", [{"race": {"fork": {"compete": True, "branches": [LISTEN, loop]}}}])
    stream = await router.attached()
    outcome = await router.run(stream, "orders", {"order": "A-1"})
    (subscription,) = outcome.parked.subscriptions
    assert outcome.parked.wake_time.ToMilliseconds() <= time.time() * 1000
    results = [checkpoint.entry for checkpoint in stream.checkpoints]
    assert len(results) == len(asked) == len(set(asked))
    assert 2 <= len(results) < 100
    assignment = router.assignment("orders", {"order": "A-1"}, attempt=2)
    assignment.journal.extend([*results, arrived(subscription.key, {"order": "A-1"})])
    router.assign(stream, assignment)
    assert orjson.loads((await router.outcome(assignment.lease)).completed.output) == [{"order": "A-1"}]
    assert len(asked) == len(results)
