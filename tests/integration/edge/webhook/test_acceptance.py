"""`webhook.accept`: what a flow does not want is answered at the door, and nothing of it is stored."""

from __future__ import annotations

import asyncio
import gzip
import random
from collections import Counter
from types import SimpleNamespace

import jq
import orjson
import pytest
from jsonschema import Draft202012Validator
from support.patience import seen_within

from edge.webhook.acceptance import (
    MAX_WAITING_BYTES,
    SLOW_NS,
    SLOW_SECONDS,
    AcceptanceChecks,
    CompiledAcceptance,
)
from flowhook.document.models.webhook import Accept
from flowhook.errors import ExhaustedError
from flowhook.sharing import Principal

JSON = (("Content-Type", "application/json"),)
ENDLESS = "${ last(repeat(.)) }"
ORDER = {
    "type": "object",
    "required": ["body"],
    "properties": {
        "body": {
            "type": "object",
            "required": ["amount"],
            "properties": {"amount": {"type": "integer", "minimum": 1}, "items": {"items": {"type": "string"}}},
        }
    },
}


async def reported(edge, count=1):
    async def there():
        return len(edge.router.rejections) >= count

    await seen_within(10, there)
    return edge.router.rejections


@pytest.mark.parametrize(
    "program",
    ['${ .body.kind == "a" }', '${ [.body.kind] | any(. == "a") }', '.body.kind == "a" # a comment'],
    ids=["plain", "jq", "bare"],
)
async def test_what_the_filter_does_not_want_is_answered_and_not_stored(edge, program):
    edge.router.put_flow("chosen", accept={"filter": program})
    assert (await edge.post("/hook/chosen", b'{"kind":"a"}')).status == 202
    answer = await edge.post("/hook/chosen", b'{"kind":"b"}')
    assert (answer.status, answer.body) == (204, b"")
    assert [orjson.loads(event.body) for event in edge.events()] == [{"kind": "a"}]
    [reported_one] = await reported(edge)
    assert (reported_one.reason, reported_one.status, reported_one.body) == ("FILTERED", 204, b"")


async def test_what_violates_the_schema_is_refused_with_the_place(edge):
    edge.router.put_flow("orders", accept={"schema": {"document": ORDER}})
    assert (await edge.post("/hook/orders", b'{"amount":1}')).status == 202
    answer = await edge.post("/hook/orders", b'{"amount":0,"items":["a",2]}')
    problem = answer.json()
    assert (answer.status, problem["reason"]) == (422, "SCHEMA_VIOLATED")
    assert ".body.amount does not meet minimum: 1" in problem["detail"]
    assert {each["pointer"] for each in problem["errors"]} == {"#/body/amount", "#/body/items/1"}
    assert len(edge.events()) == 1
    [found] = await reported(edge)
    assert (found.reason, found.body) == ("SCHEMA_VIOLATED", b'{"amount":0,"items":["a",2]}')
    assert ".body.amount does not meet minimum: 1" in found.detail
    assert found.acceptability == type(found).ACCEPTABILITY_ACCEPTABLE


async def test_the_flow_says_how_the_others_are_answered(edge):
    accept = {"filter": "${ .body.a }", "schema": {"document": False}, "otherwise": {"filtered": 200, "invalid": 400}}
    edge.router.put_flow("own", accept=accept)
    assert (await edge.post("/hook/own", b'{"a":null}')).status == 200
    assert (await edge.post("/hook/own", b'{"a":0}')).status == 400


async def test_conditions_see_what_a_large_or_compressed_body_holds(edge):
    edge.router.put_flow("large", accept={"filter": '${ .body.kind == "a" }', "schema": {"document": ORDER}})
    for kind, amount, status in (("a", 1, 202), ("b", 1, 204), ("a", 0, 422)):
        body = orjson.dumps({"kind": kind, "amount": amount, "more": "x" * 100_000})
        assert (await edge.post("/hook/large", body)).status == status
        packed = gzip.compress(body)
        assert (await edge.post("/hook/large", packed, (*JSON, ("Content-Encoding", "gzip")))).status == status
    assert len(edge.events()) == 2


@pytest.mark.parametrize("program", ["${ .body | error }", "${ .body.a.b | test(1) }"])
async def test_a_filter_that_fails_loses_nothing(edge, program):
    edge.router.put_flow("failing", accept={"filter": program})
    answer = await edge.post("/hook/failing", b'{"a":{"b":"c"}}')
    assert (answer.status, answer.json()["reason"]) == (503, "FILTER_FAILED")
    assert "retry-after" in answer.headers
    [found] = await reported(edge)
    assert (found.reason, found.body) == ("FILTER_FAILED", b'{"a":{"b":"c"}}')
    assert found.acceptability == type(found).ACCEPTABILITY_ACCEPTABLE


async def test_conditions_that_never_end_are_bounded_and_delay_nobody(edge):
    """Given a filter and a schema that never end, when others are asked meanwhile, then these do not wait for them."""
    definitions = {f"n{n}": {"anyOf": [{"not": {"$ref": f"#/$defs/n{n - 1}"}}] * 2} for n in range(1, 101)}
    endless = {"$ref": "#/$defs/n100", "$defs": {"n0": False, **definitions}}
    edge.router.put_flow("endless", accept={"filter": ENDLESS})
    edge.router.put_flow("hostile", accept={"schema": {"document": endless}})
    edge.router.put_flow("quick", accept={"filter": "${ [.body.n] | any(. > 0) }"})
    edge.router.put_flow("open")
    first = [asyncio.create_task(edge.post(f"/hook/{name}")) for name in ("endless", "hostile")]
    for answer in await asyncio.gather(*first):  # they are known to be slow from now on
        assert (answer.status, answer.json()["reason"]) == (503, "ACCEPT_TOO_COSTLY")
    busy = [asyncio.create_task(edge.post(f"/hook/{name}")) for name in ("endless", "hostile")]
    for _ in range(10):
        assert (await edge.post("/hook/open")).status == 202
        assert (await edge.post("/hook/quick", b'{"n":1}')).status == 202
    assert not all(each.done() for each in busy)
    assert {answer.status for answer in await asyncio.gather(*busy)} == {503}
    assert len(await reported(edge, 4)) == 4


@pytest.mark.parametrize("size", [10_000, 2_000_000], ids=["small", "large"])
async def test_an_answer_is_short_whatever_the_names_of_members_are(edge, size):
    schema = {"properties": {"body": {"additionalProperties": {"items": {"type": "string"}}}}}
    edge.router.put_flow("named", accept={"schema": {"document": schema}})
    answer = await edge.post("/hook/named", orjson.dumps({"k" * size: [1] * 10}))
    assert (answer.status, answer.json()["reason"]) == (422, "SCHEMA_VIOLATED")
    assert len(answer.body) < 10_000


@pytest.mark.parametrize("depth", [300, 1024])
async def test_conditions_see_bodies_of_any_depth_that_is_parsed(edge, depth):
    body = b"[" * depth + b"]" * depth
    edge.router.put_flow("jq", accept={"filter": "${ [.body | ..] | length > 10 }"})
    edge.router.put_flow("schema", accept={"schema": {"document": {"properties": {"body": {"type": "string"}}}}})
    assert (await edge.post("/hook/jq", body)).status == 202
    answer = await edge.post("/hook/schema", body)
    assert (answer.status, answer.json()["reason"]) == (422, "SCHEMA_VIOLATED")


async def test_a_flow_is_slow_for_a_time_after_its_latest_slow_decision(monkeypatch):
    now = 100.0
    monkeypatch.setattr("edge.webhook.acceptance.time", SimpleNamespace(monotonic=lambda: now))
    acceptance = CompiledAcceptance(Accept.model_validate({"filter": "${ .a }"}))
    acceptance.took(SLOW_NS)
    assert not acceptance.is_slow
    acceptance.took(SLOW_NS + 1)
    now += SLOW_SECONDS - 1
    assert acceptance.is_slow
    acceptance.took(SLOW_NS + 1)
    now += SLOW_SECONDS - 1
    acceptance.took(1)
    assert acceptance.is_slow
    now += 1
    assert not acceptance.is_slow
    for seconds in (2 * SLOW_SECONDS, 4 * SLOW_SECONDS):
        acceptance.took(SLOW_NS + 1)
        now += seconds - 1
        assert acceptance.is_slow
        now += 1
        assert not acceptance.is_slow


async def test_the_bytes_are_limited_that_wait_for_the_decisions_of_a_flow():
    """Given a decision that takes its time, when many large ones follow, then some wait and the others are refused."""
    checks = AcceptanceChecks()
    acceptance = CompiledAcceptance(Accept.model_validate({"filter": "${ [.a] | any(. == 1) }"}))
    view = {"a": 1, "b": "x" * (MAX_WAITING_BYTES // 4)}
    try:
        await acceptance.turn.acquire()
        asked = [asyncio.create_task(checks.check("busy", acceptance, view)) for _ in range(8)]
        _, waiting = await asyncio.wait(asked, return_when=asyncio.FIRST_EXCEPTION)
        acceptance.turn.release()
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert Counter(map(type, found)) == {type(None): 3, ExhaustedError: 5}
        assert len(waiting) >= 3
        assert (acceptance.waiting, acceptance.waiting_bytes) == (0, 0)
    finally:
        await checks.aclose()


async def test_one_slow_flow_leaves_the_others_room_to_wait():
    checks = AcceptanceChecks()
    waiting = checks._slow._pool._queue.waiting

    def fill():
        while True:
            waiting.acquire(Principal("flow", "busy"))

    try:
        with pytest.raises(ExhaustedError):
            fill()
        waiting.acquire(Principal("flow", "other"))
    finally:
        await checks.aclose()


FILTER = '(.body.kind | IN("a", "b")) and (.body.n % 3 != 0 or (.body.tags // [] | index("urgent") != null))'


async def test_of_ten_thousand_events_those_pass_that_jq_and_the_schema_say():
    chance = random.Random(4)
    checks = AcceptanceChecks()
    acceptance = CompiledAcceptance(
        Accept.model_validate({"filter": f"${{ {FILTER} }}", "schema": {"document": ORDER}})
    )
    counts = Counter()
    program, validator = jq.compile(FILTER), Draft202012Validator(ORDER)
    try:
        for batch in range(0, 10_000, 500):
            views = [_event(chance, number) for number in range(batch, batch + 500)]
            asked = (checks.check("mixed", acceptance, view) for view in views)
            found = await asyncio.gather(*asked, return_exceptions=True)
            for view, refusal in zip(views, found, strict=True):
                invalid = None if validator.is_valid(view) else 422
                expected = invalid if program.input_value(view).first() else 204
                counts[expected] += 1
                assert (None if refusal is None else refusal.response.status) == expected, view
    finally:
        await checks.aclose()
    assert min(counts[each] for each in (None, 204, 422)) > 500, counts


def _event(chance, number):
    body = {
        "kind": chance.choice(["a", "b", "c", None]),
        "n": chance.choice([number, float(number), -number]),
        "tags": chance.choice([None, [], ["urgent"], ["later", "urgent"]]),
        "amount": chance.choice([1, 5, 5, 9, 2**53, 0, -1, "5", 1.5, 2.0, None]),
        "items": chance.choice([[], ["x"], ["x", "y"], ["x", 1], "x"]),
    }
    if chance.random() < 0.05:
        del body["amount"]
    return {"id": f"evt_{number}", "method": "POST", "headers": {}, "query": {}, "body": body}
