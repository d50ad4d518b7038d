"""What the router reads of what others sent: large bodies and documents cost its loop nothing to speak of."""

from __future__ import annotations

import gzip
from contextlib import aclosing

import orjson
import pytest
from structlog.testing import capture_logs
from support.cpu import loop_seconds

from flowhook import limits
from flowhook.errors import InvalidError, InvalidFlowError
from flowhook.events import ids
from flowhook.events.keys import EventKeys, KeyExpressions, ShapingKeys
from flowhook.model import Event
from flowhook.sandbox.offload import Offload
from router.flows.parsing import InputParser
from router.scheduling.matching import EventContent, FilterShape

BOUND = 0.1
"""CPU seconds of the loop's thread for a body of a few MiB, which take ten times that to be parsed."""

XML = b"<order><account>a</account>" + b"<line n='1'/>" * 80_000 + b"</order>"


@pytest.fixture
async def parser():
    parser = InputParser()
    yield parser
    await parser.aclose()


def event(body, content_type="application/json", headers=(), callback=""):
    return Event(
        ids.mint(ids.slot_of("f")),
        "f",
        0,
        None,
        "",
        "POST",
        "/hook/f",
        "",
        content_type,
        headers,
        body,
        callback=callback,
    )


@pytest.mark.parametrize(
    ("message", "path"),
    [
        (event(b'{"account": "a"}'), ".body.account"),
        (event(orjson.dumps({"account": "a", "lines": [1] * 400_000})), ".body.account"),
        (event(XML, "application/xml"), ".body.order.account"),
        (event(gzip.compress(XML), "text/xml", (("content-encoding", b"gzip"),)), ".body.order.account"),
    ],
)
async def test_the_order_key_of_a_large_body_is_made_elsewhere(parser, message, path):
    expressions = KeyExpressions(f"${{ {path} }}")

    async def read():
        assert await parser.keys(expressions, message) == ("a", (), None)

    assert await loop_seconds(read, BOUND) < BOUND


@pytest.mark.parametrize("lines", [1, 400_000])
async def test_keys_of_shaping_are_made_with_the_order_key(parser, lines):
    message = event(orjson.dumps({"account": "a", "lines": [1] * lines}))
    expressions = KeyExpressions(shaping={"rate": "${ .body.account }"})
    assert (await parser.keys(expressions, message)).shaping == ShapingKeys("a")


async def test_an_event_that_takes_too_much_to_be_read_has_no_order_and_the_operator_learns_so():
    message = event(XML, "application/xml")._replace(traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
    async with aclosing(InputParser(Offload("reading bodies", seconds=0.02))) as parser:
        with capture_logs() as written:
            assert await parser.keys(KeyExpressions("${ .body.order.account }"), message) == EventKeys()
    assert written == [
        {
            "event": "event too costly to parse; it runs without order key, search attributes and keys of shaping",
            "log_level": "warning",
            "flow": "f",
            "execution": message.id,
            "trace_id": "a" * 32,
            "reason": "TOO_COSTLY",
        }
    ]


@pytest.mark.parametrize("lines", [1, 400_000])
async def test_a_flow_that_wants_bodies_raw_has_none_to_look_into(parser, lines):
    """The edge sees none either, nor does the workflow's input."""
    message = event(orjson.dumps({"account": "a", "lines": [1] * lines}))
    assert await parser.keys(KeyExpressions("${ .body.account }", raw=True), message) == EventKeys()
    assert (await parser.keys(KeyExpressions("${ .method }", raw=True), message)).order_key == "POST"


@pytest.mark.parametrize("lines", [1, 400_000])
@pytest.mark.parametrize(("path", "webhook", "key"), [(".body.account", True, "a"), (".account", False, "a")])
async def test_a_flow_without_a_webhook_looks_into_the_content_itself(parser, lines, path, webhook, key):
    message = event(orjson.dumps({"account": "a", "lines": [1] * lines}))
    expressions = KeyExpressions(f"${{ {path} }}", {"account": path, "none": ".x"}, webhook=webhook)
    expected = (key, (("account", key),), None)
    assert await parser.check(message, expressions) == await parser.keys(expressions, message) == expected


async def test_the_event_of_a_callback_is_made_elsewhere_when_it_is_large(parser):
    small = event(b"<a>1</a>", "application/xml", callback="done")
    large = event(b"<a>" + b"<b/>" * 30_000 + b"</a>", "application/xml", callback="done")
    assert orjson.loads(await parser.callback_event(small, raw=False))["data"]["body"] == {"a": "1"}
    payloads = []

    async def read():
        payloads.append(await parser.callback_event(large, raw=False))

    assert await loop_seconds(read, BOUND) < BOUND
    assert len(orjson.loads(payloads[0])["data"]["body"]["a"]["b"]) == 30_000


async def test_one_that_is_too_large_for_an_event_is_refused_as_it_is_here(parser):
    large = event(b"x" * limits.MAX_RESULT_BYTES, "text/plain", callback="done")
    with pytest.raises(InvalidError) as refusal:
        await parser.callback_event(large, raw=False)
    assert refusal.value.reason == "CALLBACK_TOO_LARGE"


def document(expression):
    return f"""
document: {{dsl: 1.0.3, namespace: default, name: f, version: 1.0.0}}
do:
  - a: {{set: {{x: '${{ {expression} }}'}}}}
""".encode()


async def test_a_document_is_read(parser):
    flow = (await parser.document(document(".a + 1"), file="0", functions=None)).document
    assert (flow.id, flow.definition["do"][0]["a"]["set"]["x"]) == ("f", "${ .a + 1 }")


async def test_what_is_wrong_with_it_is_said(parser):
    with pytest.raises(InvalidFlowError) as refusal:
        await parser.document(document("env"), file="0", functions=None)
    [fault] = refusal.value.faults
    assert (fault.file, fault.line, fault.code) == ("0", 4, "EXPRESSION_INVALID")
    assert "environment" in fault.cause


@pytest.mark.parametrize("expression", ['"a" * 1e9', '"a" * 3e8 | length', '[limit(9; "a" * 4e8)]'])
async def test_constants_that_jq_computes_while_it_compiles_are_limited(parser, expression):
    async def read():
        with pytest.raises(InvalidFlowError) as refusal:
            await parser.document(document(expression), file="0", functions=None)
        [fault] = refusal.value.faults
        assert "large constant" in fault.cause
        assert fault.code == "FILE_INVALID"

    assert await loop_seconds(read, BOUND) < BOUND
    assert (await parser.document(document(".a"), file="0", functions=None)).document.id == "f"


async def test_where_a_large_event_is_looked_into_it_is_read_elsewhere(parser):
    shapes = [FilterShape((), (".data.order",)), FilterShape(("subject",), ()), FilterShape((), (".data.lines",))]
    event = {"subject": "s", "data": {"order": 7, "lines": [[]] * 300_000}}
    payload = orjson.dumps(event)
    content = await parser.content("f", payload, shapes)
    values = [content.values(shape) for shape in shapes]
    assert content._parsed is None
    assert values == [EventContent(payload).values(shape) for shape in shapes]
    assert values[2] is None
