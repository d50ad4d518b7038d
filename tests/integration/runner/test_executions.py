"""Whole runners, parent and child, against a router that speaks the real protocol."""

from __future__ import annotations

import asyncio

import orjson
import pytest
from aiohttp import web
from support.edge_heads import UNREADABLE
from support.patience import PATIENCE

from flowhook.v1.envelope_pb2 import Event


@pytest.fixture
async def settings(settings, http_server):
    """Let `twitter.post` reach somebody who takes everything."""

    async def take(_request):
        return web.json_response({"data": {"id": "1"}}, status=201)

    return settings.model_copy(update={"twitter_base_url": await http_server(take)})


async def test_a_flow_of_set_switch_and_do_completes(router, served):
    router.define(
        "orders",
        [
            {"total": {"set": {"id": "${ .body.id }", "total": "${ [.body.items[].price] | add }"}}},
            {
                "size": {
                    "switch": [
                        {"large": {"when": ".total > 100", "then": "review"}},
                        {"other": {"then": "accept"}},
                    ]
                }
            },
            {"accept": {"set": {"accepted": "${ .id }"}, "then": "end"}},
            {"review": {"do": [{"mark": {"set": {"review": "${ .id }", "total": "${ .total }"}}}]}},
        ],
    )
    stream = await router.attached()
    outcome = await router.run(stream, "orders", {"id": "o-1", "items": [{"price": 60}, {"price": 70}]})
    assert orjson.loads(outcome.completed.output) == {"review": "o-1", "total": 130}
    outcome = await router.run(stream, "orders", {"id": "o-2", "items": [{"price": 6}]})
    assert orjson.loads(outcome.completed.output) == {"accepted": "o-2"}


async def test_a_flow_without_a_webhook_is_given_the_content_as_it_is(router, served):
    router.define("bare", [{"keep": {"set": {"n": "${ .n }", "all": "${ $workflow.input }"}}}], webhook=None)
    stream = await router.attached()
    outcome = await router.run(stream, "bare", {"n": 7, "body": {"n": 8}})
    assert orjson.loads(outcome.completed.output) == {"n": 7, "all": {"n": 7, "body": {"n": 8}}}


async def test_an_event_that_no_input_can_be_made_of_faults_and_harms_nobody(router, served):
    router.define("good", [{"run": {"set": {"n": "${ .body.n }"}}}])
    stream = await router.attached()
    await router.run(stream, "good", {"n": 1})
    bad = router.assignment("good", receive_time_ms=2**62)
    router.assign(stream, bad, good := router.assignment("good", {"n": 2}))
    outcome = await router.outcome(bad.lease)
    assert (outcome.faulted.type.rpartition("/")[2], outcome.faulted.status) == ("runtime", 500)
    assert orjson.loads((await router.outcome(good.lease)).completed.output) == {"n": 2}
    assert router.streams == [stream]


async def test_a_head_that_can_not_be_read_faults_its_execution_and_no_other(router, served):
    router.define("good", [{"run": {"set": {"n": "${ .body.n }"}}}])
    stream = await router.attached()
    bad, good = router.assignment("good"), router.assignment("good", {"n": 2})
    bad.event = Event(id="evt_1", flow_id="good", head=UNREADABLE).SerializeToString()
    router.assign(stream, bad, good)
    outcome = await router.outcome(bad.lease)
    assert (outcome.faulted.type.rpartition("/")[2], outcome.faulted.detail) == (
        "runtime",
        "the stored event can't be read",
    )
    assert orjson.loads((await router.outcome(good.lease)).completed.output) == {"n": 2}


async def test_a_definition_that_breaks_the_compiler_faults_and_harms_nobody(router, served):
    router.define("good", [{"run": {"set": {"n": 1}}}])
    router.define("bad", [{"run": "no mapping"}])
    router.define("worse", None)
    stream = await router.attached()
    for flow in ("bad", "worse"):
        assert (await router.run(stream, flow)).faulted.type.endswith("/configuration")
    assert (await router.run(stream, "good")).completed.output == b'{"n":1}'
    assert router.streams == [stream]


async def test_a_router_that_is_away_when_a_component_requests_its_secret_is_asked_again(router, served):
    router.secrets["twitter"] = b'{"bearer_token": "t"}'
    router.away = 2
    router.define("post", [{"post": {"call": "twitter.post", "with": {"text": "hello"}}}])
    stream = await router.attached()
    outcome = await router.run(stream, "post")
    assert (router.away, outcome.completed.output) == (0, b'{"id":"1"}')


async def test_executions_that_wait_for_a_slow_server_do_not_hold_up_others(router, served, http_server):
    waiting, release = [], asyncio.Event()

    async def slow(request):
        waiting.append(request.headers["Idempotency-Key"])
        await release.wait()
        return web.json_response({"ok": True})

    base = await http_server(slow)
    router.define("slow", [{"ask": {"call": "http", "with": {"method": "post", "endpoint": base}}}])
    router.define("good", [{"run": {"set": {"n": "${ .body.n + 1 }"}}}])
    stream = await router.attached()
    assignments = [router.assignment("slow") for _ in range(256)]
    router.assign(stream, *assignments)
    async with asyncio.timeout(PATIENCE):
        while len(waiting) < len(assignments):
            await asyncio.sleep(0.01)
    for number in range(20):
        outcome = await router.run(stream, "good", {"n": number})
        assert orjson.loads(outcome.completed.output) == {"n": number + 1}
    assert not {outcome.lease for outcome in stream.outcomes} & {assignment.lease for assignment in assignments}
    release.set()
    for assignment in assignments:
        assert (await router.outcome(assignment.lease)).completed.output == b'{"ok":true}'
    assert len(set(waiting)) == len(waiting) == len(assignments)
