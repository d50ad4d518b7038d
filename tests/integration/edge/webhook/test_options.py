"""OPTIONS, CORS, the fields of rate limits, and `Idempotency-Key`, at a whole edge."""

from __future__ import annotations

import base64

import pytest
from support.patience import until

JSON = (("Content-Type", "application/json"),)
PAGE = ("Origin", "https://app.example.com")
EVENT_GRID = ("WebHook-Request-Origin", "eventgrid.azure.net")
ASKED = (PAGE, ("Access-Control-Request-Method", "POST"))


async def options(edge, target, *headers):
    return await (await edge.connect()).request("OPTIONS", target, headers=headers)


async def reported(edge):
    await until(lambda: edge.router.rejections)
    return edge.router.rejections


async def test_a_webhook_is_validated_as_cloudevents_says(edge, hmac_auth):
    edge.router.put_flow("signed", auth=hmac_auth)
    answer = await options(edge, "/hook/signed", EVENT_GRID, ("WebHook-Request-Rate", "120"))
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["webhook-allowed-origin"] == "eventgrid.azure.net"
    assert answer.headers["webhook-allowed-rate"] == "*"
    assert "POST" in answer.headers["allow"]
    assert edge.events() == []
    [found] = await reported(edge)
    assert (found.reason, found.status) == ("HANDSHAKE", 200)


@pytest.mark.parametrize(("asked", "allowed"), [("60", "60"), ("1000", "120"), ("*", "120"), ("x", None), ("0", None)])
async def test_the_rate_that_is_allowed_is_that_of_the_flow(edge, asked, allowed):
    edge.router.put_flow("limited", rate_limit={"per_second": 2})
    answer = await options(edge, "/hook/limited", EVENT_GRID, ("WebHook-Request-Rate", asked))
    assert (answer.status, answer.headers.get("webhook-allowed-rate")) == (200, allowed)


@pytest.mark.parametrize("headers", [(), ASKED, (("WebHook-Request-Origin", "x" * 2000),), (PAGE,)])
async def test_any_other_options_request_is_not_allowed(edge, open_flow, headers):
    answer = await options(edge, "/hook/open", *headers)
    assert (answer.status, answer.json()["reason"]) == (405, "METHOD_NOT_ALLOWED")
    assert "access-control-allow-origin" not in answer.headers


async def test_who_may_not_call_may_not_validate_either(edge):
    edge.router.put_flow("inside", allow_from=["192.0.2.0/24"])
    assert (await options(edge, "/hook/inside", EVENT_GRID)).status == 405


async def test_a_page_may_call_if_the_flow_says_so(edge):
    edge.router.put_flow("cors", cors={"origins": ["https://app.example.com"], "max_age": "PT1M"})
    answer = await options(edge, "/hook/cors", *ASKED, ("Access-Control-Request-Headers", "content-type, x-key"))
    assert answer.status == 204
    fields = {name: value for name, value in answer.headers.items() if name.startswith("access-control")}
    assert fields == {
        "access-control-allow-origin": "https://app.example.com",
        "access-control-allow-methods": "POST",
        "access-control-allow-headers": "content-type, x-key",
        "access-control-max-age": "60",
    }
    for body, status in ((b"{}", 202), (b"{", 400)):
        answer = await edge.post("/hook/cors", body, (*JSON, PAGE))
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (status, "https://app.example.com")
        assert answer.headers["vary"] == "Origin"
    other = await edge.post("/hook/cors", b"{}", (*JSON, ("Origin", "https://evil.example")))
    assert "access-control-allow-origin" not in other.headers
    assert (await options(edge, "/hook/cors", ("Origin", "https://evil.example"), ASKED[1])).status == 405


async def test_any_page_may_call_if_the_flow_says_so(edge):
    edge.router.put_flow("any", cors={"origins": ["*"]})
    answer = await edge.post("/hook/any", b"{}", (*JSON, PAGE))
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "vary" not in answer.headers


async def test_answers_say_what_is_left_of_the_rate_of_a_sender(edge):
    edge.router.put_flow("limited", sender_rate_limit={"per_second": 0.001, "burst": 2}, rate_limit={"per_second": 100})
    answers = [await edge.post("/hook/limited") for _ in range(3)]
    assert [answer.status for answer in answers] == [202, 202, 429]
    assert {answer.headers["ratelimit-policy"] for answer in answers} == {'"flow";q=100;w=1, "sender";q=2;w=2000'}
    assert [answer.headers["ratelimit"] for answer in answers] == [
        '"sender";r=1;t=1000',
        '"sender";r=0;t=1000',
        '"sender";r=0;t=1000',
    ]


async def test_a_flow_without_a_limit_has_no_such_fields(edge, open_flow):
    answer = await edge.post("/hook/open")
    assert not [name for name in answer.headers if "ratelimit" in name or "access-control" in name]


@pytest.mark.parametrize("auth", ["none", "basic", "api_key"])
async def test_an_idempotency_key_is_the_dedupe_key(edge, auth):
    edge.router.put_secret("key", b"s3cret-of-a-partner")
    proof = {
        "none": (),
        "basic": (("Authorization", "Basic " + base64.b64encode(b"bank:s3cret-of-a-partner").decode()),),
        "api_key": (("X-Key", "s3cret-of-a-partner"),),
    }[auth]
    kinds = {
        "none": "none",
        "basic": {"basic": {"username": "bank", "secret": "key"}},
        "api_key": {"api_key": {"header": "X-Key", "secret": "key"}},
    }
    edge.router.put_flow("paid", auth=kinds[auth])
    for key in ('"8e03978e"', "8e03978e", r'"a\"b"', ""):
        answer = await edge.post("/hook/paid", b"{}", (*JSON, *proof, ("Idempotency-Key", key)))
        assert answer.status == 202
    twice = (("Idempotency-Key", "a"), ("Idempotency-Key", "b"))
    assert (await edge.post("/hook/paid", b"{}", (*JSON, *proof, *twice))).status == 202
    assert list(edge.router.dedupe) == [("paid", "", f"{auth}:8e03978e"), ("paid", "", f'{auth}:a"b')]
    assert len(edge.events()) == 4


async def test_a_key_of_the_flow_comes_before_the_header(edge):
    edge.router.put_flow("own", dedupe={"key": "${ .body.id }"})
    edge.router.put_flow("off", dedupe={"key": "none"})
    for flow in ("own", "off"):
        await edge.post(f"/hook/{flow}", b'{"id":"7"}', (*JSON, ("Idempotency-Key", "k")))
    assert list(edge.router.dedupe) == [("own", "", "none:7")]
