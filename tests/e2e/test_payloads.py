"""What a flow sees of every kind of body, from the edge through the router to a runner, and what is kept of it."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import hmac
import zlib

import brotli
import pytest
import pytest_asyncio
from support.systems import document

pytestmark = pytest.mark.e2e

SEEN = (
    "- look: {set: {body: '${ .body }', type: '${ .content_type }', files: '${ [.attachments[] | del(.attachment)] }'}}"
)
PNG = b"\x89PNG\r\n\x1a\n\x00\xff"
MULTIPART = (
    b'--b\r\nContent-Disposition: form-data; name="order[id]"\r\n\r\n7\r\n'
    b'--b\r\nContent-Disposition: form-data; name="meta"\r\nContent-Type: application/json\r\n\r\n{"x": [1]}\r\n'
    b'--b\r\nContent-Disposition: form-data; name="doc"; filename="../../etc/passwd"\r\n'
    b"Content-Type: text/plain\r\n\r\nfirst\r\n"
    b'--b\r\nContent-Disposition: form-data; name="doc"; filename="passwd"\r\nContent-Type: image/png\r\n\r\n'
    + PNG
    + b"\r\n"
    b"--b--\r\n"
)
EVENT = {"specversion": "1.0", "id": "e-1", "source": "/shop", "type": "order.paid"}
BINARY = {f"ce-{name}": value for name, value in EVENT.items()}


def file(name, data, media_type, **shown):
    sha256 = hashlib.sha256(data).hexdigest()
    return {"name": name, "type": media_type, "size": len(data), "sha256": sha256, **shown}


BODIES = {
    "a form": (
        {"Content-Type": "application/x-www-form-urlencoded"},
        b"order[id]=7&order[items][]=a&order[items][]=b&note=gr%C3%BC%C3%9Fe&note=2",
        {"order": {"id": "7", "items": ["a", "b"]}, "note": ["grüße", "2"]},
        [],
    ),
    "multipart": (
        {"Content-Type": "multipart/form-data; boundary=b"},
        MULTIPART,
        {"order": {"id": "7"}, "meta": {"x": [1]}},
        [
            file("passwd", b"first", "text/plain", field="doc", content="first"),
            file("passwd", PNG, "image/png", field="doc", base64="iVBORw0KGgoA/w=="),
        ],
    ),
    "XML": (
        {"Content-Type": "application/xml"},
        b'<?xml version="1.0" encoding="ISO-8859-1"?><o xmlns="urn:o" id="7"><i>a</i><i>\xe9</i><n/></o>',
        {"o": {"@xmlns": "urn:o", "@id": "7", "i": ["a", "é"], "n": None}},
        [],
    ),
    "NDJSON": ({"Content-Type": "application/x-ndjson"}, b'{"a": 1}\n\n[2]\n', [{"a": 1}, [2]], []),
    "text": ({"Content-Type": "text/plain; charset=shift_jis"}, "日本".encode("shift_jis"), "日本", []),
    "properties": (
        {"Content-Type": "text/x-java-properties"},
        b"# order\norder[id] = 7\nname = \\u00e9",
        {"order": {"id": "7"}, "name": "é"},
        [],
    ),
    "repeated members": ({"Content-Type": "application/json"}, b'{"a": 1, "a": 2}', {"a": 2}, []),
    "a structured event": (
        {"Content-Type": "application/cloudevents+json"},
        b'{"specversion": "1.0", "id": "e-0", "source": "/shop", "type": "order.paid", "data": {"n": 1}}',
        {**EVENT, "id": "e-0", "data": {"n": 1}},
        [],
    ),
    "a binary event": (
        {"Content-Type": "application/json", **BINARY},
        b'{"n": 1}',
        {**EVENT, "datacontenttype": "application/json", "data": {"n": 1}},
        [],
    ),
    "a batch of events": (
        {"Content-Type": "application/cloudevents-batch+json"},
        b'[{"specversion": "1.0", "id": "e-2", "source": "/shop", "type": "order.paid"}]',
        [{**EVENT, "id": "e-2"}],
        [],
    ),
    "gzip": (
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
        gzip.compress(b'{"a": 1}'),
        {"a": 1},
        [],
    ),
    "deflate": (
        {"Content-Type": "application/json", "Content-Encoding": "deflate"},
        zlib.compress(b'{"a": 1}'),
        {"a": 1},
        [],
    ),
    "brotli": ({"Content-Type": "text/xml", "Content-Encoding": "br"}, brotli.compress(b"<a>1</a>"), {"a": "1"}, []),
    "a file": ({"Content-Type": "image/png"}, PNG, None, [file("body", PNG, "image/png", base64="iVBORw0KGgoA/w==")]),
}


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def flows(system):
    await system.secrets(payloads_hook="a secret")
    reply = "{auth: none, respond: {mode: reply}, dedupe: {key: '${ .body.order }'}}"
    await system.apply(
        document("payloads", do=SEEN),
        document("payloads-once", webhook="{auth: {github: {secret: payloads-hook}}}"),
        document("payloads-reply", webhook=reply, do="- keep: {set: {id: '${ .id }'}}"),
        document("payloads-rated", webhook="{auth: none, sender_rate_limit: {per_second: 0.1, burst: 2}}"),
    )


async def send(system, headers, body):
    return (await system.request("POST", "/hook/payloads", data=body, headers=headers)).id


@pytest.mark.parametrize("kind", BODIES)
async def test_a_flow_sees_what_a_body_says_and_the_bytes_are_retained(system, kind):
    headers, body, expected, files = BODIES[kind]
    execution_id = await send(system, headers, body)
    assert await system.completed(execution_id) == {"body": expected, "files": files, "type": headers["Content-Type"]}
    assert (await system.client.executions.get(execution_id)).event.body == body


async def test_raw_prints_the_bytes_as_they_arrived(system):
    # the command takes its time to start: the kinds with bytes that are no text stand for all
    for kind in ("multipart", "gzip"):
        headers, body, _, _ = BODIES[kind]
        assert await system.raw_body(await send(system, headers, body)) == body


async def test_deliveries_at_the_same_time_make_one_execution_and_get_one_answer(system):
    body = b'{"action": "opened"}'
    signature = hmac.new(b"a secret", body, hashlib.sha256).hexdigest()
    headers = {
        "Content-Type": "application/json",
        "X-GitHub-Delivery": "d-1",
        "X-Hub-Signature-256": f"sha256={signature}",
    }
    requests = [system.request("POST", "/hook/payloads-once", data=body, headers=headers) for _ in range(20)]
    answers = await asyncio.gather(*requests)
    assert {(answer.status, answer.body) for answer in answers} == {(202, answers[0].body)}
    assert len(await system.executions("payloads-once")) == 1


async def test_those_who_wait_for_the_same_delivery_get_the_same_reply(system):
    answers = await asyncio.gather(*(system.send("payloads-reply", {"order": 7}) for _ in range(10)))
    assert {(answer.status, answer.body) for answer in answers} == {(200, answers[0].body)}
    assert [execution.id for execution in await system.executions("payloads-reply")] == [answers[0].json["id"]]


async def test_a_sender_that_sends_too_much_is_429_and_learns_when_to_come_again(system):
    answers = [await system.send("payloads-rated", {}) for _ in range(3)]
    assert [answer.status for answer in answers] == [202, 202, 429]
    assert answers[2].json["reason"] == "SENDER_RATE_LIMITED"
    assert 1 <= int(answers[2].headers["Retry-After"]) <= 10
