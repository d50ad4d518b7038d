"""Providers whose keys stand elsewhere, with a real TLS server in the place of theirs."""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
import time

import pytest
from aiohttp import web
from support.certificates import Authority
from support.http_servers import http_server
from support.senders import SenderKeys

TOPIC = "arn:aws:sns:eu-central-1:123456789012:orders"
SNS = "https://sns.eu-central-1.amazonaws.com"
CERTIFICATE = "/SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem"
CONFIRM = "/?Action=ConfirmSubscription&TopicArn=x&Token=t"
HOSTS = ("sns.eu-central-1.amazonaws.com", "api.paypal.com", "sandbox.plaid.com")
PLAID = {"client_id": "5eb13e97fd0ed40013cc0000", "secret": "key", "environment": "sandbox"}


class Providers:
    """One server that is all of them.

    Attributes:
        keys: that sign.
        asked: what it was asked for, in order.
        down: whether it answers with errors.
    """

    def __init__(self):
        self.keys = SenderKeys()
        self.requested = []
        self.down = False

    async def answer(self, request):
        self.requested.append((request.method, request.host, request.path_qs))
        if self.down:
            return web.Response(status=500)
        if request.host == "sandbox.plaid.com":
            requested = await request.json()
            if requested != {"client_id": PLAID["client_id"], "secret": "a secret of sixteen", "key_id": "one"}:
                return web.json_response({"error_code": "INVALID_WEBHOOK_VERIFICATION_KEY_ID"}, status=400)
            return web.json_response({"key": self.keys.token.as_dict(private=False) | {"expired_at": None}})
        if request.path_qs in (CERTIFICATE, "/v1/notifications/certs/CERT-1"):
            return web.Response(body=self.keys.certificate())
        return web.Response(status=200 if request.path_qs == CONFIRM else 404)

    def message(self, **fields):
        """Return a message of Amazon SNS."""
        message = {"Type": "Notification", "MessageId": "m1", "TopicArn": TOPIC, "Message": '{"order": 7}', **fields}
        message["Timestamp"] = "2026-01-01T00:00:00.000Z"
        return json.dumps(self.keys.sign_sns(message, SNS + CERTIFICATE)).encode()

    def confirmation(self, kind="SubscriptionConfirmation", url=SNS + CONFIRM):
        return self.message(Type=kind, Token="t", SubscribeURL=url)


@pytest.fixture
async def providers(tmp_path, monkeypatch):
    chosen = Providers()
    authority = Authority(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.issue("providers", hosts=HOSTS))
    resolve = socket.getaddrinfo

    def resolved(host, *arguments, **options):
        if host in HOSTS:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address)]
        return resolve(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
    async with http_server(chosen.answer, tls=context) as url:
        address = "127.0.0.1", int(url.rpartition(":")[2])
        yield chosen


@pytest.fixture
async def edge(start_edge, providers):
    edge = await start_edge(allow_private_addresses=True)
    edge.router.put_flow("sns", auth={"aws-sns": {"topic_arn": TOPIC}})
    edge.router.put_flow("paypal", auth={"paypal": {"webhook_id": "WH1"}})
    edge.router.put_flow("plaid", auth={"plaid": PLAID})
    return edge


TEXT = [("Content-Type", "text/plain; charset=UTF-8")]


async def test_a_notification_is_an_event_and_its_certificate_is_fetched_once(edge, providers):
    body = providers.message()
    for _ in range(2):
        assert (await edge.post("/hook/sns", body, TEXT)).status == 202
    assert [event.body for event in edge.events()] == [body]
    assert [path for _, _, path in providers.requested] == [CERTIFICATE]
    assert (await edge.post("/hook/sns", body.replace(b"7", b"8"), TEXT)).status == 401


async def test_a_subscription_is_confirmed_by_a_visit_and_is_no_event(edge, providers):
    assert (await edge.post("/hook/sns", providers.confirmation(), TEXT)).status == 200
    assert providers.requested == [("GET", HOSTS[0], CERTIFICATE), ("GET", HOSTS[0], CONFIRM)]
    assert (await edge.post("/hook/sns", providers.confirmation("UnsubscribeConfirmation"), TEXT)).status == 200
    assert len(providers.requested) == 2
    assert edge.events() == []


async def test_a_subscription_that_is_not_signed_or_leads_elsewhere_is_not_confirmed(edge, providers):
    forged = providers.confirmation().replace(b"Token=t", b"Token=u")
    assert (await edge.post("/hook/sns", forged, TEXT)).status == 401
    for url in ("https://evil.example/?Action=ConfirmSubscription&a", f"{SNS}/?Action=DeleteTopic&a", f"{SNS}@evil.x/"):
        assert (await edge.post("/hook/sns", providers.confirmation(url=url), TEXT)).status == 400
    assert [path for _, _, path in providers.requested] == [CERTIFICATE]
    assert edge.events() == []


async def test_a_subscription_that_cannot_be_confirmed_now_is_asked_to_come_again(edge, providers):
    assert (await edge.post("/hook/sns", providers.message(), TEXT)).status == 202
    providers.down = True
    answer = await edge.post("/hook/sns", providers.confirmation(), TEXT)
    assert (answer.status, answer.json()["reason"]) == (503, "HANDSHAKE_UNAVAILABLE")


async def test_a_message_of_another_topic_has_us_fetch_nothing(edge, providers):
    other = providers.message(TopicArn=TOPIC + "2")
    assert (await edge.post("/hook/sns", other, TEXT)).status == 401
    assert providers.requested == []


async def test_paypal_signs_by_a_certificate_that_is_fetched(edge, providers):
    body = b'{"id": "WH-1"}'
    headers = [
        ("Content-Type", "application/json"),
        *providers.keys.sign_paypal(
            body, webhook_id="WH1", certificate_url="https://api.paypal.com/v1/notifications/certs/CERT-1"
        ),
    ]
    assert (await edge.post("/hook/paypal", body, headers)).status == 202
    assert (await edge.post("/hook/paypal", body + b" ", headers)).status == 401
    assert [path for _, _, path in providers.requested] == ["/v1/notifications/certs/CERT-1"]


async def test_a_key_is_requested_from_plaid_with_our_credentials_once(edge, providers):
    body = b'{"webhook_code": "DEFAULT_UPDATE"}'

    def headers(key_id):
        claims = {"iat": int(time.time()), "request_body_sha256": hashlib.sha256(body).hexdigest()}
        token = providers.keys.sign_token(claims, key_id)
        return [("Content-Type", "application/json"), ("Plaid-Verification", token)]

    for _ in range(2):
        assert (await edge.post("/hook/plaid", body, headers("one"))).status == 202
    assert len(providers.requested) == 1
    assert (await edge.post("/hook/plaid", body + b" ", headers("one"))).status == 401
    assert (await edge.post("/hook/plaid", body, headers("two"))).status == 401
    assert [event.principal.secret for event in edge.events()] == ["one", "one"]
