"""Senders that wait for the answer of a flow."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest
from prometheus_client import CollectorRegistry
from support.patience import PATIENCE, until

from flowhook.errors import ExhaustedError, InvalidError, NotFoundError, UnavailableError
from flowhook.v1.envelope_pb2 import Header, Reply
from flowhook.v1.failure_pb2 import WorkflowError

JSON = (("Content-Type", "application/json"),)
FAULT = WorkflowError(type="https://example.org/secret", status=500, title="Secret", detail="hunter2", instance="/do/0")


def reply(status=200, body=b"", **headers):
    fields = [Header(name=name.replace("_", "-"), value=value) for name, value in headers.items()]
    return Reply(status=status, headers=fields, body=body)


@pytest.fixture
def quote(router):
    """A flow that answers; what it answers is up to the test."""

    def put(**respond):
        router.put_flow("quote", respond={"mode": "reply", "timeout": "PT20S", **respond})

    put()
    return put


async def held(edge, count=1):
    """Send a request, wait until the router has it, and return it with the ID of its execution."""
    sending = asyncio.create_task(edge.post("/hook/quote"))
    await until(lambda: len(edge.router.invoked) >= count or sending.done())
    return sending, edge.router.invoked[-1] if edge.router.invoked else ""


async def answered(edge, **outcome):
    sending, execution_id = await held(edge)
    edge.router.answer(execution_id, **outcome)
    return await sending, execution_id


async def test_the_reply_of_the_flow_is_the_answer(edge, quote):
    answer, _ = await answered(edge, reply=reply(418, b"short", content_type=b"text/x-tea", x_leaf=b"green"))
    assert (answer.status, answer.body) == (418, b"short")
    assert (answer.headers["content-type"], answer.headers["x-leaf"]) == ("text/x-tea", "green")


async def test_fields_of_the_connection_and_broken_ones_are_left_out(edge, quote):
    fields = {
        "connection": b"close",
        "transfer_encoding": b"chunked",
        "content_length": b"9999",
        "date": b"today",
        "x split": b"1",
        "x_split": b"a\r\nX-Injected: b",
        "set_cookie": b"a=1",
    }
    answer, _ = await answered(edge, reply=reply(200, b"ok", **fields))
    assert answer.body == b"ok"
    assert answer.headers["content-length"] == "2"
    assert answer.headers["set-cookie"] == "a=1"
    assert not answer.headers.keys() & {"connection", "transfer-encoding", "x-injected", "x-split", "x split"}
    assert answer.headers["date"].endswith("GMT")


async def test_the_output_of_the_flow_is_the_answer_when_it_gives_none(edge, quote):
    output = {"reply": reply(200, b'{"n":1}', content_type=b"application/json"), "from_output": True}
    answer, _ = await answered(edge, **output)
    assert (answer.status, answer.json(), answer.headers["content-type"]) == (200, {"n": 1}, "application/json")


async def test_the_output_is_sent_with_the_configured_status_and_headers(edge, quote):
    quote(status=201, headers={"X-Thanks": "yes", "X-Id": "${ .id }", "Content-Type": "application/vnd.x+json"})
    answer, execution_id = await answered(edge, reply=reply(200, b'{"n":1}'), from_output=True)
    assert (answer.status, answer.json()) == (201, {"n": 1})
    assert (answer.headers["x-thanks"], answer.headers["x-id"]) == ("yes", execution_id)
    assert answer.raw.lower().count(b"content-type") == 1


@pytest.mark.parametrize("status", [204, 205, 304])
async def test_an_answer_that_has_no_content_is_sent_without(edge, quote, status):
    sender = await edge.connect()
    for count in (1, 2):  # the connection is still in step
        sending = asyncio.create_task(sender.request("POST", "/hook/quote", body=b"{}", headers=JSON))
        await until(lambda count=count: len(edge.router.invoked) == count)
        edge.router.answer(edge.router.invoked[-1], reply=reply(status, b"surprise"))
        assert (await sending).status == status


async def test_a_fault_is_reported_without_internals(edge, quote):
    answer, execution_id = await answered(edge, error=FAULT)
    assert answer.status == 502
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "about:blank",
        "title": "Bad Gateway",
        "status": 502,
        "reason": "FLOW_FAULTED",
        "detail": "The flow ended without an answer.",
        "execution": execution_id,
    }


@pytest.mark.parametrize(
    ("on_fault", "status", "body"),
    [
        ({"status": 599}, 599, None),
        ({"status": 404, "body": "no such order"}, 404, b"no such order"),
        ({"status": 200, "body": {"ok": False}}, 200, b'{"ok":false}'),
        ({"status": 204}, 204, b""),
    ],
)
async def test_a_fault_is_reported_as_the_flow_wants(edge, quote, on_fault, status, body):
    quote(on_fault={**on_fault, "headers": {"X-Id": "${ .id }"}})
    answer, execution_id = await answered(edge, error=FAULT)
    assert (answer.status, answer.headers["x-id"]) == (status, execution_id)
    if body is None:
        assert answer.json()["status"] == 599
    else:
        assert answer.body == body


async def test_whoever_waits_too_long_learns_where_the_answer_will_be(edge, quote):
    quote(timeout="PT0.1S")
    answer = await edge.post("/hook/quote")
    execution_id = edge.router.invoked[0]
    assert (answer.status, answer.json()) == (202, {"id": execution_id})
    assert answer.headers["location"] == f"/replies/{execution_id}.mac"
    assert int(answer.headers["retry-after"]) >= 1

    sender = await edge.connect()
    pending = await sender.request("GET", answer.headers["location"])
    assert (pending.status, pending.json()) == (202, {"id": execution_id})
    assert pending.headers["location"] == answer.headers["location"]
    edge.router.answer(execution_id, reply=reply(418, b"tea", x_leaf=b"green"))
    for method, body in (("GET", b"tea"), ("HEAD", b""), ("GET", b"tea")):
        late = await sender.request(method, answer.headers["location"])
        assert (late.status, late.body, late.headers["x-leaf"]) == (418, body, "green")
        assert late.headers["content-length"] == "3"


async def test_a_late_answer_is_as_its_flow_wants_it_or_plain_when_that_is_gone(edge, quote):
    quote(timeout="PT0.1S", status=201, on_fault={"status": 404})
    output, fault = [(await edge.post("/hook/quote")).headers["location"] for _ in range(2)]
    edge.router.answer(edge.router.invoked[0], reply=reply(200, b"1"), from_output=True)
    edge.router.answer(edge.router.invoked[-1], error=FAULT)
    assert [(await edge.post(place, method="GET")).status for place in (output, fault)] == [201, 404]
    edge.router.delete_flow("quote")
    async with asyncio.timeout(PATIENCE):
        while (await edge.post("/hook/quote")).status != 404:
            pass
    assert [(await edge.post(place, method="GET")).status for place in (output, fault)] == [200, 502]


@pytest.mark.parametrize("token", ["", "x", "evt_1.mac", "..", "%41", "a" * 200, "a/b"])
async def test_an_unknown_reply_is_not_found(edge, token):
    answer = await edge.post(f"/replies/{token}", method="GET")
    assert (answer.status, answer.json()["reason"]) == (404, "REPLY_NOT_FOUND")


async def test_a_reply_is_fetched_and_nothing_else(edge):
    answer = await edge.post("/replies/x")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


async def test_a_repeated_delivery_gets_the_same_answer(edge, router):
    router.put_flow("quote", respond={"mode": "reply"}, dedupe={"key": "${ .body.order }"})
    sending = [asyncio.create_task(edge.post("/hook/quote", b'{"order": 7}')) for _ in range(2)]
    await until(lambda: len(router.invoked) == 2)
    assert len(router.stored) == 1
    router.answer(router.invoked[0], reply=reply(200, b"one"))
    assert [(await each).body for each in sending] == [b"one", b"one"]


async def test_a_router_that_restarts_is_not_noticed(edge, quote):
    sending, execution_id = await held(edge)
    await edge.router.stop()
    await edge.router.start()
    await until(lambda: len(edge.router.invoked) == 2)
    assert edge.router.invoked == [execution_id] * 2
    edge.router.answer(execution_id, reply=reply(200, b"here"))
    assert (await sending).body == b"here"


async def test_a_router_that_stays_away_is_reported_when_the_time_is_up(edge, quote):
    quote(timeout="PT1S")
    sending, _ = await held(edge)
    await edge.router.stop()
    answer = await sending
    assert (answer.status, answer.json()["reason"]) == (503, "ROUTER_UNAVAILABLE")
    assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (ExhaustedError("rate", reason="RATE_LIMITED", retry_after=7), 429, "RATE_LIMITED"),
        (ExhaustedError("many", reason="TOO_MANY_WAITERS"), 503, "TOO_MANY_HELD"),
        (UnavailableError("full", reason="STORAGE_FULL"), 503, "STORAGE_FULL"),
        (NotFoundError("gone", reason="FLOW_NOT_FOUND"), 404, "FLOW_NOT_FOUND"),
        (InvalidError("no", reason="EVENT_TOO_LARGE"), 500, "NOT_STORED"),
    ],
)
async def test_a_refusal_of_the_router_is_reported_at_once(edge, quote, error, status, reason):
    edge.router.refuse.append(error)
    answer = await edge.post("/hook/quote")
    assert (answer.status, answer.json()["reason"]) == (status, reason)
    assert edge.router.stored == {}
    if status == 429:
        assert answer.headers["retry-after"] == "7"


async def test_no_more_requests_are_held_than_may_be(start_edge, quote):
    registry = CollectorRegistry()
    edge = await start_edge(max_held_requests=2, registry=registry)
    sending, execution_id = await held(edge)
    assert registry.get_sample_value("flowhook_edge_held_requests") == 1
    refused = await edge.post("/hook/quote")
    assert (refused.status, refused.json()["reason"], refused.headers["retry-after"]) == (429, "TOO_MANY_HELD", "1")
    assert len(edge.router.stored) == 1
    edge.router.answer(execution_id, reply=reply(200, b"one"))
    assert (await sending).status == 200
    assert registry.get_sample_value("flowhook_edge_held_requests") == 0


async def test_no_sender_holds_all_places_of_a_flow(start_edge, quote):
    edge = await start_edge(max_held_requests=8)
    of_one = [asyncio.create_task(edge.post("/hook/quote")) for _ in range(8)]
    await until(lambda: len(edge.router.invoked) + sum(each.done() for each in of_one) == 8)
    refused = [each for each in of_one if each.done()]
    assert {(await each).status for each in refused} == {429}
    assert 0 < len(refused) < 8
    other = await edge.connect("127.0.0.2")
    sending = asyncio.create_task(other.request("POST", "/hook/quote", body=b"{}", headers=JSON))
    await until(lambda: len(edge.router.invoked) == 9 - len(refused))
    for each in edge.router.invoked:
        edge.router.answer(each, reply=reply(200))
    assert (await sending).status == 200


@pytest.mark.parametrize("reset", [True, False], ids=["by a reset", "in good order"])
@pytest.mark.parametrize("behind", [b"", b"\r\n"], ids=["at once", "after an empty line"])
async def test_a_sender_who_goes_away_ends_the_call(edge, quote, reset, behind):
    sender = await edge.connect()
    sender.write(b"POST /hook/quote HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}" + behind)
    await until(lambda: edge.router.invoked)
    if reset:
        sock = sender.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sender.close()
    await until(lambda: edge.router.has_retries_left == 1)
    assert len(edge.router.stored) == 1


@pytest.mark.parametrize("behind", [b"", b"\r\n"], ids=["request", "empty line"])
async def test_a_sender_who_has_only_ended_its_side_gets_the_answer(edge, quote, behind):
    sender = await edge.connect()
    sender.write(b"POST /hook/quote HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}" + behind)
    sender.writer.write_eof()
    assert (await sender.response()).status == 100  # it was asked whether it is there
    edge.router.answer(edge.router.invoked[0], reply=reply(200, b"here"))
    while (answer := await sender.response()).status == 100:
        pass
    assert answer.body == b"here"


async def test_whoever_is_held_when_the_edge_stops_learns_where_the_answer_will_be(edge, quote):
    sending, execution_id = await held(edge)
    edge.lifecycle.stop.set()
    answer = await sending
    assert (answer.status, answer.headers["location"]) == (202, f"/replies/{execution_id}.mac")
    assert answer.headers["connection"] == "close"


async def test_a_flow_that_answers_requires_credentials_like_any_other(edge, router, hmac_auth, sign):
    router.put_flow("quote", auth=hmac_auth, respond={"mode": "reply"}, methods=["POST", "PUT"])
    assert (await edge.post("/hook/quote")).status == 401
    assert (await edge.post("/hook/quote", method="GET", body=None)).status == 405
    sender = await edge.connect()
    assert (await sender.request("HEAD", "/hook/quote")).status == 200
    assert router.invoked == []
    sending = asyncio.create_task(edge.post("/hook/quote", b"{}", sign(b"{}"), method="PUT"))
    await until(lambda: router.invoked)
    router.answer(router.invoked[0], reply=reply(200, b"in"))
    assert (await sending).body == b"in"
