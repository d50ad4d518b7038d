"""What a sender gets for every kind of request, from the whole cluster."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import time
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from support.patience import PATIENCE, seen_within
from support.systems import EVENT_ID, document

pytestmark = pytest.mark.e2e

STANDARD = "whsec_" + base64.b64encode(b"standard webhooks secret").decode()
SECRETS = {
    "locked_basic": "correct-horse",
    "locked_key": "s3cr3t-key",
    "locked_hmac": "hmac-secret",
    "locked_standard": STANDARD,
}
LOCKED = {
    "basic": "{basic: {username: bank, secret: locked-basic}}",
    "header-key": "{api_key: {header: X-Api-Key, secret: locked-key}}",
    "query-key": "{api_key: {query: api_key, secret: locked-key}}",
    "github": "{github: {secret: locked-hmac}}",
    "stripe": "{stripe: {secret: locked-hmac}}",
    "slack": "{slack: {secret: locked-hmac}}",
    "shopify": "{shopify: {secret: locked-hmac}}",
    "standard-webhooks": "{standard-webhooks: {secret: locked-standard}}",
    "own-hmac": "{hmac: {secret: locked-hmac, header: X-Signature, content: '{timestamp}.{body}', "
    "timestamp: {header: X-Timestamp, unit: s, tolerance: PT5M}}}",
    "without-secret": "{github: {secret: locked-never-set}}",
}


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def flows(system):
    await system.secrets(**SECRETS)
    await system.apply(
        document("open"),
        document(
            "configured",
            webhook="{auth: none, respond: {status: 201, headers: {X-Thanks: 'yes'}, body: 'thank you'}}",
        ),
        document("chosen-methods", webhook="{auth: none, methods: [PUT, POST]}"),
        document("elsewhere", webhook="{auth: none, allow_from: [192.0.2.0/24]}"),
        document("small", webhook="{auth: none, max_body: 1KiB}"),
        document("rated", webhook="{auth: none, rate_limit: {per_second: 1, burst: 2}}"),
        document("bounded", execution="{max_backlog: 2}"),
        document("suffixes", webhook="{auth: none, subpaths: true}", do="- keep: {set: {path: '${ .path }'}}"),
        *(document(f"locked-{name}", webhook=f"{{auth: {auth}}}") for name, auth in LOCKED.items()),
    )


def refusal(answer, status):
    """Return the reason of a refusal, having checked its form (RFC 9457)."""
    assert answer.status == status, answer
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json["status"] == status
    return answer.json["reason"]


async def raw(system, request):
    """Send bytes and return everything until the connection is closed."""
    address = urlsplit(system.cluster.http)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        writer.write(request)
        async with asyncio.timeout(PATIENCE):
            return await reader.read()
    finally:
        writer.close()


async def test_accepted_is_202_with_the_id_of_the_execution(system):
    answer = await system.send("open", {"n": 1})
    assert answer.status == 202
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json.keys() == {"id"}
    assert EVENT_ID.fullmatch(answer.id)
    assert await system.completed(answer.id) == {"n": 1}


async def test_the_configured_response_is_sent(system):
    answer = await system.send("configured", {})
    assert (answer.status, answer.headers["X-Thanks"], answer.body) == (201, "yes", b"thank you")


async def test_a_body_of_any_other_type_is_retained_whole(system):
    content = bytes(range(256)) * 10
    answer = await system.request("POST", "/hook/open", data=content, headers={"Content-Type": "image/x-own"})
    detail = await system.ended(answer.id)
    assert (detail.event.body, detail.event.content_type) == (content, "image/x-own")


async def test_head_reports_whether_there_is_a_flow_and_starts_nothing(system):
    before = await system.executions("configured")
    assert (await system.request("HEAD", "/hook/configured")).status == 200
    assert (await system.request("HEAD", "/hook/nothing-here")).status == 404
    assert await system.executions("configured") == before


@pytest.mark.parametrize(
    "path",
    [
        "/hook/nothing-here",
        "/hook/open/suffix",
        "/hook/open/",
        "/hook/",
        "/hook",
        "/",
        "/hook/Open",
        "/hook/..%2fopen",
        "/hook/%00",
        "/hook/" + "a" * 4000,
        "/hook/a.b.c",
        "/healthz",
        "/metrics",
    ],
)
async def test_there_is_nothing_at_any_other_url(system, path):
    assert refusal(await system.request("POST", path, json={}), 404) == "FLOW_NOT_FOUND"


async def test_there_is_no_reply_for_a_token_that_was_guessed(system):
    assert refusal(await system.request("GET", "/replies/guess"), 404) == "REPLY_NOT_FOUND"
    assert refusal(await system.request("POST", "/replies/guess", json={}), 405) == "METHOD_NOT_ALLOWED"


async def test_a_suffix_is_taken_where_the_flow_says_so(system):
    answer = await system.send("suffixes/orders/7", {})
    assert await system.completed(answer.id) == {"path": "/hook/suffixes/orders/7"}


async def test_a_deleted_flow_is_gone_and_what_it_had_accepted_completes(system):
    await system.apply(document("short-lived"))
    await system.client.flows.pause("short-lived")
    answer = await system.send("short-lived", {"n": 1})
    await system.client.flows.delete("short-lived")

    async def gone():
        return (await system.send("short-lived", {})).status == 404

    await seen_within(1, gone)
    assert await system.completed(answer.id) == {"n": 1}


async def test_another_method_is_405_and_learns_what_is_allowed(system):
    answer = await system.request("DELETE", "/hook/chosen-methods")
    assert refusal(answer, 405) == "METHOD_NOT_ALLOWED"
    assert {method.strip() for method in answer.headers["Allow"].split(",")} == {"POST", "PUT", "HEAD"}
    assert (await system.request("PUT", "/hook/chosen-methods", json={})).status == 202


async def test_an_address_that_is_not_allowed_is_403(system):
    assert refusal(await system.send("elsewhere", {}), 403) == "ADDRESS_FORBIDDEN"


@pytest.mark.parametrize("body", [b"{", b"", b"nope", b'{"a": 1} x', b"\xff\xfe", b"[" * 100_000, b'{"a": NaN}'])
async def test_a_body_that_is_not_the_json_it_says_it_is_is_400(system, body):
    for media_type in ("application/json", "application/cloudevents+json; charset=utf-8"):
        answer = await system.request("POST", "/hook/open", data=body, headers={"Content-Type": media_type})
        assert refusal(answer, 400) == "BODY_INVALID"


async def test_a_larger_body_is_413_before_it_is_read_and_then_the_connection_is_closed(system):
    head = b"POST /hook/small HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 5000000\r\n\r\n"
    answer = await raw(system, head)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"reason":"BODY_TOO_LARGE"' in answer


async def test_a_body_of_the_largest_size_is_taken(system):
    assert (await system.request("POST", "/hook/small", data=b"x" * 1024)).status == 202
    assert refusal(await system.request("POST", "/hook/small", data=b"x" * 1025), 413) == "BODY_TOO_LARGE"


@pytest.mark.parametrize(
    "request_",
    [
        b"POST /hook/open HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST /hook/open HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /hook/open HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /hook/open HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n",
        b"POST /hook/open HTTP/1.1\r\nHost: x\r\nX-A : 1\r\n\r\n",
        b"POST /hook/open HTTP/1.1\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
)
async def test_malformed_headers_are_400(system, request_):
    answer = await raw(system, request_)
    assert answer.startswith(b"HTTP/1.1 400 ")


async def test_headers_without_end_are_431(system):
    many = b"".join(b"X-%d: %s\r\n" % (number, b"v" * 1000) for number in range(80))
    answer = await raw(system, b"POST /hook/open HTTP/1.1\r\nHost: x\r\n" + many + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 431 ")


async def test_more_than_the_rate_is_429_and_says_when_to_come_again(system):
    answers = [await system.send("rated", {}) for _ in range(10)]
    refused = [answer for answer in answers if answer.status != 202]
    assert 2 <= len(answers) - len(refused) <= 5
    for answer in refused:
        assert refusal(answer, 429) == "RATE_LIMITED"
        assert int(answer.headers["Retry-After"]) >= 1


async def test_more_than_the_backlog_of_a_flow_is_429_until_there_is_room(system):
    await system.client.flows.pause("bounded")
    retained = [await system.send("bounded", {"n": number}) for number in range(2)]
    answer = await system.send("bounded", {})
    assert refusal(answer, 429) == "BACKLOG_FULL"
    assert int(answer.headers["Retry-After"]) >= 1
    await system.client.flows.resume("bounded")
    for number, accepted in enumerate(retained):
        assert await system.completed(accepted.id) == {"n": number}
    assert (await system.send("bounded", {})).status == 202


async def test_a_paused_flow_accepts_and_keeps_what_comes_until_it_is_resumed(system):
    await system.apply(document("sleepy"))
    await system.client.flows.pause("sleepy")
    waiting = await system.send("sleepy", {"n": 1})
    # another flow's event that came later and ended shows that the queue moved on
    await system.completed((await system.send("open", {})).id)
    assert str((await system.client.executions.get(waiting.id)).execution.status) == "pending"
    await system.client.flows.resume("sleepy")
    assert await system.completed(waiting.id) == {"n": 1}


def basic(credentials):
    return {"Authorization": "Basic " + base64.b64encode(credentials).decode()}


def digest(body=b"{}", secret=b"hmac-secret"):
    return hmac.new(secret, body, hashlib.sha256).hexdigest()


def stale(seconds=3600):
    return str(int(time.time()) - seconds)


def wrong_credentials():
    """Give (flow, headers, query) that must not pass; {} {} is: none at all."""
    yield from ((name, {}, {}) for name in LOCKED)
    yield "basic", basic(b"bank:wrong"), {}
    yield "basic", basic(b"other:correct-horse"), {}
    yield "basic", basic(b"no colon"), {}
    yield "basic", {"Authorization": "Basic !!!"}, {}
    yield "basic", {"Authorization": "Bearer correct-horse"}, {}
    yield "basic", {"Authorization": "Basic"}, {}
    yield "header-key", {"X-Api-Key": "wrong"}, {}
    yield "header-key", {"X-Api-Key": "Ünïcode"}, {}
    yield "header-key", {}, {"X-Api-Key": "s3cr3t-key"}
    yield "query-key", {}, {"api_key": "wrong"}
    yield "query-key", {}, {"api_key": ""}
    yield "query-key", {"api_key": "s3cr3t-key"}, {}
    for malformed in ("", "sha256=", "sha256=zz", "sha1=" + digest(), digest(), "sha256=" + "0" * 64, "é", "\x80" * 20):
        yield "github", {"X-Hub-Signature-256": malformed}, {}
    yield "without-secret", {"X-Hub-Signature-256": "sha256=" + digest(secret=b"")}, {}
    now = stale(0)
    signed = digest(f"{now}.{{}}".encode())
    for malformed in (
        "",
        "t=,v1=",
        f"t={now}",
        f"v1={signed}",
        f"t=x,v1={signed}",
        f"t={'9' * 400},v1={signed}",
        f"t={now},v1={signed[:-1]}",
        f"t={stale()},v1=" + digest(f"{stale()}.{{}}".encode()),
        "=,=,=",
    ):
        yield "stripe", {"Stripe-Signature": malformed}, {}
    yield "slack", {"X-Slack-Signature": "v0=" + "0" * 64, "X-Slack-Request-Timestamp": now}, {}
    yield "slack", {"X-Slack-Signature": "v0", "X-Slack-Request-Timestamp": "yesterday"}, {}
    yield "shopify", {"X-Shopify-Hmac-Sha256": "not base64!"}, {}
    yield "shopify", {"X-Shopify-Hmac-Sha256": base64.b64encode(b"0" * 32).decode()}, {}
    standard = {"webhook-id": "msg_1", "webhook-timestamp": now}
    for malformed in ("", "v1", "v1,", "v1,AAAA", "v2,AAAA", ",", "v1,!!! v1,???"):
        yield "standard-webhooks", {**standard, "webhook-signature": malformed}, {}
    yield "own-hmac", {"X-Signature": signed, "X-Timestamp": "soon"}, {}
    yield "own-hmac", {"X-Signature": signed}, {}
    yield "own-hmac", {"X-Signature": digest(), "X-Timestamp": now}, {}


async def test_missing_wrong_and_malformed_credentials_are_401_with_always_the_same_text(system):
    bodies = set()
    for name, headers, query in wrong_credentials():
        answer = await system.send(f"locked-{name}", {}, headers=headers, params=query)
        assert refusal(answer, 401) == "UNAUTHENTICATED", (name, headers)
        assert answer.headers.get("WWW-Authenticate", "").startswith("Basic ") == (name == "basic")
        bodies.add(answer.body)
    assert len(bodies) == 1
    for name in LOCKED:
        assert await system.executions(f"locked-{name}") == []


@pytest.mark.parametrize("name", [name for name in LOCKED if name != "without-secret"])
async def test_send_has_the_right_credentials_of_every_kind(system, name):
    result = await system.flowhook("send", f"locked-{name}", "--data", '{"n": 1}', "--json")
    assert result.code == 0, result
    [answer] = result.rows
    assert answer["status"] == 202
    [execution] = await system.executions(f"locked-{name}")
    assert execution.id in answer["body"]
    assert await system.completed(execution.id) == {"n": 1}
