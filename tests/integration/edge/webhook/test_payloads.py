"""What a body has to be, whatever its type; what is wrong is told to its sender and stored nowhere."""

from __future__ import annotations

import asyncio
import gzip
from contextlib import suppress

import brotli
import orjson
import psutil
import pytest
from support.patience import PATIENCE

JSON = "application/json"
XML = "application/xml"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b"
BOMB = b"<!DOCTYPE a [<!ENTITY x 'xxxxxxxx'>" + b"".join(
    b"<!ENTITY x%d '%b'>" % (number, (b"&x%d;" % (number - 1) if number else b"&x;") * 10) for number in range(9)
)


@pytest.fixture(autouse=True)
async def flows(router):
    router.put_flow("open")


@pytest.mark.parametrize(
    ("kind", "body", "codings"),
    [
        (XML, BOMB + b"]><a>&x8;</a>", ""),
        (XML, b"<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a>&x;</a>", ""),
        (XML, b"<!DOCTYPE a SYSTEM 'http://127.0.0.1/a.dtd'><a/>", ""),
        (XML, b"<!DOCTYPE a [<!ENTITY % p SYSTEM 'http://127.0.0.1/p'> %p;]><a/>", ""),
        (XML, b"<a>" * 1_000_000, ""),
        ("image/svg+xml", b"<svg>", ""),
        (JSON, b"[" * 10_000 + b"]" * 10_000, ""),
        (JSON, b'{"a": NaN}', ""),
        (JSON, b'{"a": Infinity}', ""),
        (JSON, b'"\xed\xa0\x80"', ""),
        (JSON, b'"\\ud800"', ""),
        ("application/x-ndjson", b'{"a": 1}\n{"a"', ""),
        ("application/cloudevents+json", b"{", ""),
        ("text/plain; charset=utf-8", b"\xff", ""),
        ("text/x-java-properties", b"a=\\ud800", ""),
        (FORM, b"a=%FF", ""),
        (FORM, b"&".join(b"f%d=1" % number for number in range(100_000)), ""),
        (MULTIPART, b"--b\r\n\r\n" + b"x" * 100_000, ""),
        (MULTIPART, b"--b\r\nContent-Disposition: form-data" + b";" * 15_000 + b"\r\n\r\nx\r\n", ""),
        (MULTIPART, (b"--b\r\nContent-Disposition: form-data" + b";" * 15_000 + b"\r\n\r\n\r\n") * 100 + b"--b--", ""),
        ("multipart/mixed", b"--b\r\n\r\nx\r\n--b--", ""),
        (JSON, brotli.compress(b"{}")[:-1], "br"),
        (JSON, gzip.compress(b"{}", mtime=0) + b"trailing", "gzip"),
    ],
)
async def test_what_is_not_what_it_says_is_400_at_once(edge, kind, body, codings):
    fields = [("Content-Type", kind), *([("Content-Encoding", codings)] if codings else [])]
    async with asyncio.timeout(PATIENCE):
        answer = await edge.post("/hook/open", body, fields)
    assert (answer.status, answer.json()["reason"]) == (400, "BODY_INVALID")
    assert edge.events() == []


@pytest.mark.parametrize(
    ("kind", "body", "cause"),
    [
        (JSON, b"", "The body is not JSON."),
        (XML, b"<!DOCTYPE a><a/>", "The XML has a document type declaration."),
        (FORM, b"a=1&" * 20_000, "A form has at most 10000 fields."),
        ("multipart/form-data", b"x", "The body is not multipart: its Content-Type names no boundary."),
    ],
)
async def test_the_sender_learns_what_is_wrong(edge, kind, body, cause):
    assert (await edge.post("/hook/open", body, [("Content-Type", kind)])).json()["detail"] == cause


@pytest.mark.parametrize("coding", ["gzip", "br"])
@pytest.mark.parametrize("kind", [JSON, XML, "image/png"])
async def test_a_bomb_is_413(edge, kind, coding):
    bomb = {"gzip": gzip.compress, "br": brotli.compress}[coding](b" " * 11_000_000)
    answer = await edge.post("/hook/open", bomb, [("Content-Type", kind), ("Content-Encoding", coding)])
    assert (answer.status, answer.json()["reason"]) == (413, "BODY_TOO_LARGE")
    assert edge.events() == []


async def test_of_repeated_members_the_last_counts(edge):
    edge.router.put_flow("last", respond={"body": "${ .body.a }"})
    answer = await edge.post("/hook/last", b'{"a": 1, "a": 2}')
    assert (answer.status, answer.body) == (202, b"2")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (FORM, b"order[id]=7&order[items][]=a"),
        (XML, b"<order><id>7</id><items>a</items></order>"),
        ("text/x-java-properties", b"order[id]=7\norder[items][]=a"),
        (MULTIPART, b'--b\r\nContent-Disposition: form-data; name="order[id]"\r\n\r\n7\r\n--b--'),
        ("application/cloudevents+json", b'{"order": {"id": "7"}}'),
    ],
)
async def test_a_configured_response_and_a_dedupe_key_see_any_body_as_data(edge, kind, body):
    edge.router.put_flow(
        "order",
        respond={
            "status": 200,
            "headers": {"X-Order": "${ .body.order.id }"},
            "body": {"order": "${ .body.order.id }"},
        },
        dedupe={"key": "${ .body.order.id }"},
    )
    for _ in range(2):
        answer = await edge.post("/hook/order", body, [("Content-Type", kind)])
        assert (answer.status, answer.headers["x-order"], answer.json()) == (200, "7", {"order": "7"})
    assert len(edge.events()) == 1


def is_parser(process):
    with suppress(psutil.ZombieProcess):  # of another test: it has ended, and was not waited for yet
        return "flowhook.sandbox.process" in process.cmdline()
    return False


@pytest.mark.parametrize("fields", [[("Content-Type", XML)], [("Content-Type", XML), ("Content-Encoding", "gzip")]])
async def test_a_body_that_takes_long_to_parse_keeps_nobody_else_waiting(edge, fields):
    body = b"<a>" + b"<b/>" * 20_000 + b"</a>"
    body = gzip.compress(body) if fields[1:] else body
    assert (await edge.post("/hook/open", body, fields)).status == 202
    parsers = [each for each in psutil.Process().children() if is_parser(each)]
    assert parsers
    for parser in parsers:  # they take as long as they like
        parser.suspend()
    try:
        long = asyncio.create_task(edge.post("/hook/open", body, fields))
        assert (await edge.post("/hook/open")).status == 202
        assert not long.done()
    finally:
        for parser in parsers:
            parser.resume()
    assert (await long).status == 202


@pytest.mark.parametrize("content_type", [XML, "application/json"])
async def test_a_large_body_that_is_not_what_it_says_is_refused(edge, content_type):
    answer = await edge.post("/hook/open", b"<" * 100_000, [("Content-Type", content_type)])
    assert (answer.status, answer.json()["reason"]) == (400, "BODY_INVALID")


async def test_of_a_large_body_expressions_see_what_they_look_at(edge, router):
    router.put_flow(
        "order",
        respond={
            "status": 200,
            "headers": {"X-First": "${ .body.lines[0].id }"},
            "body": {"order": "${ .body.order.id }"},
        },
        dedupe={"key": "${ .body.order.id }"},
        order_by="${ .body.order.account }",
    )
    body = orjson.dumps({"order": {"id": "7", "account": "a"}, "lines": [{"id": "1"}] * 20_000})
    for _ in range(2):
        answer = await edge.post("/hook/order", body, [("Content-Type", "application/json")])
        assert (answer.status, answer.headers["x-first"], answer.json()) == (200, "1", {"order": "7"})
    [event] = edge.events()
    assert (event.order_key, event.body) == ("a", body)


async def test_the_edge_makes_the_order_key_also_when_there_is_none(edge, router):
    router.put_flow("ordered", order_by="${ .body.account }")
    for body in (b'{"account": "a"}', b"{}"):
        await edge.post("/hook/ordered", body, [("Content-Type", "application/json")])
    await edge.post("/hook/open")
    events = edge.events()
    assert [event.HasField("order_key") for event in events] == [True] * 3
    assert [event.order_key for event in events] == ["a", "", ""]


@pytest.mark.parametrize("lines", [1, 400_000], ids=["small", "large"])
async def test_the_edge_makes_the_search_attributes_that_a_flow_declares(edge, router, lines):
    router.put_flow("found", search={"order": ".body.order.id", "via": "${ .query.via }", "none": ".body.none"})
    body = orjson.dumps({"order": {"id": 7}, "lines": [1] * lines})
    await edge.post("/hook/found?via=shop", body, [("Content-Type", "application/json")])
    await edge.post("/hook/open", body, [("Content-Type", "application/json")])
    made, none = edge.events()
    assert [(each.name, each.value) for each in made.attributes] == [("order", "7"), ("via", "shop")]
    assert not none.attributes


class TestRatesOfSenders:
    async def test_one_credential_has_one_rate(self, edge, router):
        router.put_secret("other", b"another key")
        keys = [{"api_key": {"header": "X-Api-Key", "secret": name}} for name in ("key", "other")]
        router.put_flow("keyed", auth=keys, sender_rate_limit={"per_second": 0.01, "burst": 2})

        async def send(key):
            return await edge.post("/hook/keyed", b"{", [("X-Api-Key", key)])

        assert [(await send("a secret of sixteen")).status for _ in range(3)] == [202, 202, 429]
        refused = await send("a secret of sixteen")
        assert refused.json()["reason"] == "SENDER_RATE_LIMITED"
        assert 90 < int(refused.headers["retry-after"]) <= 100
        assert (await send("another key")).status == 202
        assert (await send("no key")).status == 401
        assert len(edge.events()) == 3

    async def test_without_credentials_an_address_has_one(self, start_edge, router):
        edge = await start_edge(trusted_proxies="127.0.0.1/32")
        router.put_flow("free", sender_rate_limit={"per_second": 0.01, "burst": 1})

        async def send(address):
            return (await edge.post("/hook/free", b"{}", [("X-Forwarded-For", address)])).status

        assert [await send(each) for each in ("192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.1")] == [
            202,
            429,
            202,
            429,
        ]
        assert len(edge.events()) == 2

    async def test_a_callback_has_its_own(self, edge, router):
        limited = {"auth": "none", "sender_rate_limit": {"per_second": 0.01, "burst": 1}}
        router.put_flow("waits", callbacks={"limited": limited})
        targets = ("/hook/waits/limited", "/hook/waits/limited", "/hook/waits")
        assert [(await edge.post(target)).status for target in targets] == [202, 429, 202]


@pytest.mark.parametrize("pad", [0, 200_000], ids=["small", "large"])
async def test_declared_fields_are_numbers_for_the_edge_and_refused_by_name_otherwise(edge, pad):
    edge.router.put_flow("pay", fields={"amount": "number"}, accept={"filter": "${ .body.amount > 100 }"})
    form = (("Content-Type", "application/x-www-form-urlencoded"),)

    async def send(amount, query=""):
        return await edge.post(f"/hook/pay{query}", b"pad=%b&amount=%b" % (b"x" * pad, amount), form)

    assert (await send(b"20")).status == 204
    assert (await send(b"200")).status == 202
    for answer in (await send(b"a+lot"), await send(b"200", "?amount=lots")):
        assert (answer.status, orjson.loads(answer.body)["detail"]) == (400, "The field amount is not a number.")
