"""`webhook.send` against a real receiver, verified by what Flowhook itself verifies with."""

from __future__ import annotations

import asyncio
import time
from urllib.parse import urlsplit

import pytest
from support.http_servers import http_server

from flowhook.document.models.auth import provider
from flowhook.process.settings import RunnerSettings
from flowhook.signatures.build import build_verifiers
from flowhook.signatures.types import Match, RequestView
from runner.components import TaskFault
from runner.components.testing import Answer, call, receiver
from runner.components.webhook_send import MAX_KEPT_BYTES, send

SECRET = b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
KEY = "evt_1:/do/0/tell#0"


def deliver(url, body=None, *, secrets=None, key=KEY, **more):
    arguments = {"url": url, "body": body, "secret": "partner", **more}
    return call(send, arguments, secrets=secrets or {"partner": SECRET}, idempotency_key=key)


def verify(received, secret=SECRET):
    path = urlsplit(received.path)
    headers = [(name, value.encode()) for name, value in received.headers.items()]
    request = RequestView(received.method, received.path, path.path, path.query, headers, received.body)
    (verifier,) = build_verifiers([provider("standard-webhooks", secret="partner")], {"partner": secret})
    return verifier.verify(request, time.time()), verifier.delivery_id(request)


def kind(problem):
    error = problem.value.error
    return error.type.rpartition("/")[2], error.status


@pytest.mark.parametrize(
    ("body", "sent", "content_type"),
    [
        (
            {"type": "invoice.paid", "data": {"id": "ü"}},
            '{"type":"invoice.paid","data":{"id":"ü"}}',
            "application/json",
        ),
        (None, "null", "application/json"),
        ([1, 2.5, True], "[1,2.5,true]", "application/json"),
        ("as it is\n", "as it is\n", "text/plain; charset=utf-8"),
        (10**30, str(10**30), "application/json"),
    ],
)
async def test_what_is_sent_passes_verification(body, sent, content_type):
    async with receiver() as partner:
        await deliver(partner.url + "/in?x=1", body)
    (received,) = partner.received
    assert (received.method, received.path, received.body.decode()) == ("POST", "/in?x=1", sent)
    assert received.headers["content-type"] == content_type
    assert verify(received) == (Match("standard-webhooks", "partner"), KEY)


async def test_a_secret_that_is_any_text_signs_too():
    async with receiver() as partner:
        await deliver(partner.url, {}, secrets={"partner": b"just some words!"})
    assert verify(partner.received[0], b"just some words!")


async def test_a_repetition_carries_the_same_id_and_key():
    async with receiver() as partner:
        await deliver(partner.url, {"n": 1})
        await deliver(partner.url, {"n": 1})
    first, second = partner.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == KEY
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"] == KEY


async def test_an_id_made_of_a_key_with_full_stops_has_none_and_stays_the_same():
    async with receiver() as partner:
        for _ in range(2):
            await deliver(partner.url, {}, key="evt_1:/do/0/v1.5#0")
    first, second = (received.headers["webhook-id"] for received in partner.received)
    assert first == second
    assert first.startswith("msg_")
    assert "." not in first
    assert verify(partner.received[0])[1] == first


async def test_the_author_may_name_id_content_type_and_headers():
    async with receiver() as partner:
        await deliver(
            partner.url, "<a/>", id="order-7", content_type="application/xml", headers={"X-Source": "flowhook"}
        )
    headers = partner.received[0].headers
    assert (headers["webhook-id"], headers["content-type"], headers["x-source"]) == (
        "order-7", "application/xml", "flowhook",
    )  # fmt: skip
    assert headers["idempotency-key"] == KEY
    assert verify(partner.received[0])[1] == "order-7"


async def test_the_answer_is_returned_without_cookies():
    answer = Answer(202, json={"queued": True}, headers={"Set-Cookie": "session=1", "X-Request-Id": "r1"})
    async with receiver(answer) as partner:
        result = await deliver(partner.url, {})
    assert (result["status"], result["body"], result["headers"]["x-request-id"]) == (202, {"queued": True}, "r1")
    assert "set-cookie" not in result["headers"]


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (Answer(204), None),
        (Answer(body=b"thanks"), "thanks"),
        (Answer(body=b"\xff\xfe"), None),
        (Answer(body=b"{oops", headers={"Content-Type": "application/json"}), None),
        (Answer(body=b"x" * (MAX_KEPT_BYTES + 1)), None),
    ],
)
async def test_an_answer_of_any_kind_is_no_failure(answer, body):
    async with receiver(answer) as partner:
        result = await deliver(partner.url, {})
    assert result.get("body") == body


@pytest.mark.parametrize("status", [301, 400, 410, 429, 500, 503])
async def test_any_other_status_is_a_communication_error_and_nothing_is_sent_again(status):
    async with receiver(Answer(status, headers={"Location": "/elsewhere"})) as partner:
        with pytest.raises(TaskFault) as problem:
            await deliver(partner.url, {})
    assert kind(problem) == ("communication", status)
    assert len(partner.received) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"url": "ftp://example.com"}, "http"),
        ({"url": "http://[::1"}, "URL"),
        ({"id": "a.b"}, "with.id"),
        ({"id": "a\nb"}, "with.id"),
        ({"headers": {"Webhook-Id": "x"}}, "set by the call itself"),
        ({"headers": {"X-A": "a\r\nX-B: b"}}, "one line"),
        ({"headers": {"X A": "a"}}, "not a valid header name"),
        ({"content_type": "text/plain\r\nX-B: b"}, "with.content_type"),
        ({"timeout": "soon"}, "with.timeout"),
        ({"retries": 3}, "with.retries"),
    ],
)
async def test_wrong_arguments_are_configuration_errors_and_nothing_is_sent(arguments, message):
    async with receiver() as partner:
        with pytest.raises(TaskFault) as problem:
            await deliver(**{"url": partner.url, "body": {}, **arguments})
    assert kind(problem) == ("configuration", 400)
    assert message in problem.value.error.detail
    assert not partner.received


async def test_a_secret_that_cannot_be_read_is_a_configuration_error_that_does_not_show_it():
    with pytest.raises(TaskFault) as problem:
        await deliver("http://127.0.0.1:1/", {}, secrets={"partner": b"whsec_!!!not-base64!!!"})
    assert kind(problem) == ("configuration", 400)
    assert "whsec_!!!" not in problem.value.error.detail


async def test_a_private_address_is_refused_unless_allowed():
    async with receiver() as partner:
        with pytest.raises(TaskFault) as problem:
            await call(
                send,
                {"url": partner.url, "body": {}, "secret": "partner"},
                secrets={"partner": SECRET},
                settings=RunnerSettings(),
            )
    assert kind(problem) == ("communication", 403)
    assert "not allowed" in problem.value.error.detail
    assert not partner.received


async def test_an_answer_that_does_not_come_is_a_timeout():
    requested = asyncio.Event()

    async def never(_request):
        requested.set()
        await asyncio.Event().wait()

    async with http_server(never, shutdown_timeout=0.1) as url:
        with pytest.raises(TaskFault) as problem:
            await deliver(f"{url}/", {}, timeout="PT0.2S")
    assert requested.is_set()
    assert kind(problem) == ("timeout", 408)


async def test_how_long_the_receiver_asks_to_be_left_alone_comes_with_the_error():
    async with receiver(Answer(503, headers={"Retry-After": "7"})) as partner:
        with pytest.raises(TaskFault) as problem:
            await deliver(partner.url)
    assert (kind(problem), problem.value.retry_after_ms) == (("communication", 503), 7_000)
