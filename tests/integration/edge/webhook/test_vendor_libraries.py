"""Senders' own libraries on one side, a whole edge on the other: what they sign passes, and nothing near it does.

`requests` and `httpx` carry what the vendors' libraries signed, so that nothing of ours takes part in making a request.
The other way round, the vendors' verifiers take what our `sign` makes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from urllib.parse import parse_qsl

import httpx
import pytest
import requests
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from nacl.signing import SigningKey
from slack_sdk.signature import Clock, SignatureVerifier
from standardwebhooks import Webhook as StandardWebhook
from stripe import WebhookSignature
from support.patience import PATIENCE
from svix.webhooks import Webhook as SvixWebhook
from twilio.request_validator import RequestValidator

from flowhook.document.models.auth import parse_auth
from flowhook.signatures.build import sign

WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_WHSEC = "whsec_plJ3nmyCDGBKInavdOK15jsl"
SIGNING_KEY, OTHER_SIGNING_KEY = SigningKey(bytes(range(32))), SigningKey(bytes(32))
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}

Signed = Callable[[str, bytes, str, float], dict[str, str]]
"""From a URL, a body, a secret and a Unix time to headers."""


@dataclass(frozen=True)
class Vendor:
    """How to sign as a vendor does.

    Attributes:
        auth: in the flow file.
        header: that carries the signature.
        signed: the vendor's library at work.
        secret: right.
        wrong: secret of somebody else.
        timed: whether a request grows stale.
        query: of the URL, made of the body.
    """

    auth: dict
    header: str
    signed: Signed
    secret: str = "a secret of the vendor"
    wrong: str = "a secret of another vendor"
    body: bytes = b'{"id": "evt_1", "amount": 7}'
    timed: bool = True
    query: Callable[[bytes], str] = lambda _body: ""


def stripe(_url, body, secret, at):
    return JSON | {"Stripe-Signature": WebhookSignature.generate_signature_header(body.decode(), secret, int(at))}


def slack(_url, body, secret, at):
    signature = SignatureVerifier(secret).generate_signature(timestamp=str(int(at)), body=body)
    return JSON | {"X-Slack-Request-Timestamp": str(int(at)), "X-Slack-Signature": signature}


def standard(_url, body, secret, at):
    signature = StandardWebhook(secret).sign("msg_1", datetime.fromtimestamp(at, UTC), body.decode())
    return JSON | {"webhook-id": "msg_1", "webhook-timestamp": str(int(at)), "webhook-signature": signature}


def svix(_url, body, secret, at):
    signature = SvixWebhook(secret).sign("msg_1", datetime.fromtimestamp(at, UTC), body.decode())
    return JSON | {"svix-id": "msg_1", "svix-timestamp": str(int(at)), "svix-signature": signature}


def twilio_form(url, body, secret, _at):
    fields = dict(parse_qsl(body.decode(), keep_blank_values=True))
    return FORM | {"X-Twilio-Signature": RequestValidator(secret).compute_signature(url, fields)}


def twilio_json(url, _body, secret, _at):
    return JSON | {"X-Twilio-Signature": RequestValidator(secret).compute_signature(url, {})}


def discord(_url, body, secret, at):
    key = OTHER_SIGNING_KEY if secret == "other" else SIGNING_KEY
    timestamp = str(int(at))
    signature = key.sign(timestamp.encode() + body).signature.hex()
    return JSON | {"X-Signature-Timestamp": timestamp, "X-Signature-Ed25519": signature}


VENDORS = {
    "stripe": Vendor({"stripe": {"secret": "k"}}, "Stripe-Signature", stripe),
    "slack": Vendor({"slack": {"secret": "k"}}, "X-Slack-Signature", slack),
    "standardwebhooks": Vendor(
        {"standard-webhooks": {"secret": "k"}}, "webhook-signature", standard, WHSEC, OTHER_WHSEC
    ),
    "svix": Vendor({"standard-webhooks": {"secret": "k"}}, "svix-signature", svix, WHSEC, OTHER_WHSEC),
    "twilio, a form": Vendor(
        {"twilio": {"secret": "k"}},
        "X-Twilio-Signature",
        twilio_form,
        body=b"To=%2B4930&From=%2B4940&Body=caf%C3%A9+%26+cake&Empty=",
        timed=False,
    ),
    "twilio, JSON": Vendor(
        {"twilio": {"secret": "k"}},
        "X-Twilio-Signature",
        twilio_json,
        timed=False,
        query=lambda body: f"?bodySHA256={sha256(body).hexdigest()}",
    ),
    "discord": Vendor(
        {"discord": {"public_key": SIGNING_KEY.verify_key.encode().hex()}},
        "X-Signature-Ed25519",
        discord,
        wrong="other",
        timed=False,  # Discord's pages name no tolerance
    ),
}
vendors = pytest.mark.parametrize("vendor", VENDORS.values(), ids=VENDORS)


@dataclass
class Post:
    """A request by a vendor that is yet to be sent."""

    url: str
    body: bytes
    headers: dict[str, str]

    async def by_requests(self):
        return await asyncio.to_thread(requests.post, self.url, data=self.body, headers=self.headers, timeout=PATIENCE)

    async def by_httpx(self):
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.post(self.url, content=self.body, headers=self.headers)


@pytest.fixture
def prepare(edge):
    """Set a flow up for a vendor, and give a request as the vendor's library signs it."""

    def make(vendor, *, secret=None, at=None):
        edge.router.secrets["k"] = vendor.secret.encode()
        edge.router.put_flow("vendor", auth=vendor.auth)
        url = f"http://127.0.0.1:{edge.port}/hook/vendor{vendor.query(vendor.body)}"
        headers = vendor.signed(url, vendor.body, secret or vendor.secret, time.time() if at is None else at)
        return Post(url, vendor.body, headers)

    return make


@vendors
async def test_what_the_vendors_library_signs_is_accepted_from_any_client(edge, prepare, vendor):
    post = prepare(vendor)
    by_requests = await post.by_requests()
    assert (by_requests.status_code, by_requests.json()["id"][:4]) == (202, "evt_")
    assert (await post.by_httpx()).status_code == 202
    assert {event.body for event in edge.events()} == {vendor.body}
    assert all(vendor.header.lower() not in {field.name for field in event.headers} for event in edge.events())


@vendors
async def test_one_changed_byte_of_the_body_is_refused(edge, prepare, vendor):
    post = prepare(vendor)
    for index in (0, len(post.body) // 2, len(post.body) - 1):
        changed = post.body[:index] + bytes([post.body[index] ^ 1]) + post.body[index + 1 :]
        assert (await Post(post.url, changed, post.headers).by_requests()).status_code == 401
    assert (await Post(post.url, post.body + b"\n", post.headers).by_requests()).status_code == 401
    assert edge.events() == []


@vendors
async def test_a_truncated_or_missing_signature_is_refused(edge, prepare, vendor):
    post = prepare(vendor)
    whole = post.headers[vendor.header]
    for sent in (whole.rstrip("=")[:-1], whole[: len(whole) // 2], whole[:4], ""):
        short = post.headers | {vendor.header: sent}
        assert (await Post(post.url, post.body, short).by_requests()).status_code == 401
    without = {name: value for name, value in post.headers.items() if name != vendor.header}
    assert (await Post(post.url, post.body, without).by_httpx()).status_code == 401
    assert edge.events() == []


@vendors
async def test_the_secret_of_somebody_else_is_refused(edge, prepare, vendor):
    assert (await prepare(vendor, secret=vendor.wrong).by_requests()).status_code == 401
    assert edge.events() == []


@pytest.mark.parametrize(
    "vendor",
    [each for each in VENDORS.values() if each.timed],
    ids=[name for name, each in VENDORS.items() if each.timed],
)
async def test_a_request_of_another_time_is_refused_although_it_is_signed(edge, prepare, vendor):
    now = time.time()
    for at in (now - 310, now + 310):
        assert (await prepare(vendor, at=at).by_requests()).status_code == 401
    assert (await prepare(vendor, at=now - 290).by_requests()).status_code == 202


async def test_another_url_than_the_one_twilio_signed_is_refused(edge, prepare):
    post = prepare(VENDORS["twilio, a form"])
    assert (await Post(f"{post.url}?x=1", post.body, post.headers).by_requests()).status_code == 401
    assert edge.events() == []


@pytest.mark.parametrize("encode", [to_structured_event, to_binary_event])
async def test_an_event_of_the_cloudevents_sdk_is_accepted_once(edge, encode):
    edge.router.secrets["k"] = WHSEC.encode()
    edge.router.put_flow("events", auth={"api_key": {"header": "X-Api-Key", "secret": "k"}})
    attributes = {"id": "1", "source": "/shop", "type": "com.example.paid", "specversion": "1.0"}
    message = encode(CloudEvent(attributes={**attributes, "datacontenttype": "application/json"}, data={"amount": 7}))
    url = f"http://127.0.0.1:{edge.port}/hook/events"
    first = await Post(url, message.body, {**message.headers, "X-Api-Key": WHSEC}).by_requests()
    again = await Post(url, message.body, {**message.headers, "X-Api-Key": WHSEC}).by_httpx()
    assert (first.status_code, again.status_code) == (202, 202)
    assert (await Post(url, message.body, {**message.headers, "X-Api-Key": WHSEC[:-1]}).by_httpx()).status_code == 401
    if encode is to_structured_event:  # the binary mode's attributes stand in headers, which are the flow's affair
        assert first.json() == again.json()


class _At(Clock):
    def __init__(self, at):
        self._at = at

    def now(self):
        return self._at


def ours(auth, secret, body):
    (kind,) = parse_auth(auth)
    return dict(sign(kind, {"k": secret.encode()}, method="POST", url="", body=body, headers=[], now=time.time()))


def test_the_vendors_verifiers_take_what_we_sign():
    body, secret = b'{"id": "evt_1"}', "a secret of the vendor"
    header = ours({"stripe": {"secret": "k"}}, secret, body)["Stripe-Signature"]
    assert WebhookSignature.verify_header(body.decode(), header, secret, tolerance=300)
    assert SignatureVerifier(secret).is_valid_request(body, ours({"slack": {"secret": "k"}}, secret, body))
    headers = ours({"standard-webhooks": {"secret": "k"}}, WHSEC, body)
    assert StandardWebhook(WHSEC).verify(body, headers) == {"id": "evt_1"}
    SvixWebhook(WHSEC).verify(body, headers)
