"""What is read of a body before it is known whose it is: once, and no more than is read quickly."""

from __future__ import annotations

from base64 import b64encode
from functools import partial

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from support.cpu import cpu_seconds
from support.senders import sign_adyen

from flowhook import limits
from flowhook.document.models.auth import parse_auth
from flowhook.signatures import (
    JsonBody,
    RequestView,
    SignatureError,
    build_verifiers,
    json_body,
    reads_json,
    verify_any,
)
from flowhook.signatures.batch_items import MAX_ITEMS
from flowhook.signatures.content import MAX_FORM_BYTES
from flowhook.signatures.json_body import MAX_JSON_BYTES, MAX_VALUES, read_json
from flowhook.signatures.public_keys import MAX_ED25519_SIGNATURES

NOW = 1_700_000_000.0
KEY = b"0123456789abcdef" * 2
CPU_SECONDS = 0.25
"""Of reading whatever was sent: what no thread can do beside the event loop."""

TOPIC = "arn:aws:sns:eu-central-1:123456789012:orders"
IN_BODY = {
    "mailgun": {"mailgun": {"secret": "k"}},
    "adyen": {"adyen": {"secret": "k"}},
    "microsoft-graph": {"microsoft-graph": {"secret": "k"}},
    "aws-sns": {"aws-sns": {"topic_arn": TOPIC}},
    "linear": {"linear": {"secret": "k"}},
    "api_key": {"api_key": {"field": "auth.key", "secret": "k"}},
    "hmac": {"hmac": {"secret": "k", "field": "sig", "content": "{field:a}{field:b}{field:c}"}},
    "hmac time": {
        "hmac": {"secret": "k", "header": "x-sig", "timestamp": {"field": "t", "tolerance": "PT5M"}},
    },
}


def verifiers(*auths):
    return build_verifiers(parse_auth(list(auths)), {"k": KEY})


def request(body, headers=(), **more):
    return RequestView("POST", "https://h/hook/f", "/hook/f", "", headers, body, **more)


@pytest.fixture
def reads(monkeypatch):
    """Count the bytes that are read as JSON."""
    found = []

    def loads(data):
        found.append(len(data))
        return orjson.loads(data)

    monkeypatch.setattr(json_body, "load_json", loads)
    return found


SIGNED = [("linear-signature", b"0" * 64), ("x-sig", b"0" * 64)]


@pytest.mark.parametrize("kind", IN_BODY)
def test_a_kind_that_looks_into_the_body_says_so(kind):
    assert all(reads_json(verifier) and verifier.needs_body for verifier in verifiers(IN_BODY[kind]))


def test_a_kind_that_hashes_the_body_does_not_read_it():
    kinds = verifiers(
        {"github": {"secret": "k"}}, {"twilio": {"secret": "k"}}, {"api_key": {"query": "q", "secret": "k"}}
    )
    assert not any(reads_json(verifier) for verifier in kinds)


def test_a_body_is_read_once_for_all_that_look_at_it(reads):
    items = [
        {"NotificationRequestItem": {"additionalData": {"hmacSignature": "x" * 43 + "="}}, "clientState": "no"}
    ] * MAX_ITEMS
    body = orjson.dumps(
        {"notificationItems": items, "value": items, "signature": {"signature": "0" * 64, "timestamp": str(NOW)}}
    )
    seen = request(body, SIGNED, json=JsonBody())
    for verifier in verifiers(*IN_BODY.values()):
        with pytest.raises(SignatureError):
            verifier.verify(seen, NOW)
        verifier.delivery_id(seen)
    assert reads == [len(body)]


def test_what_a_body_said_is_not_reported_of_another(reads):
    seen = request(b'{"a":1}', json=JsonBody())
    assert json_body.json_of(seen) == json_body.json_of(seen) == {"a": 1}
    assert json_body.json_of(seen._replace(body=b"[]")) == []
    assert json_body.json_of(seen) == {"a": 1}


@pytest.mark.parametrize("kind", IN_BODY)
def test_a_body_that_is_too_large_is_not_read(reads, kind):
    body = b"[" + b" " * MAX_JSON_BYTES + b"]"
    with pytest.raises(SignatureError):
        verify_any(verifiers(IN_BODY[kind]), request(body, SIGNED), NOW)
    assert reads == []
    assert read_json(body, len(body)) == []


GREEDY = {
    "lists": (b"[", b"[],", b"1]"),
    "objects": (b"[", b'{"a":{}},', b"1]"),
    "numbers": (b"[", b"1.25e3,", b"1]"),
    "texts": (b"[", b'"aaaaaaaaaaaaaaaa",', b"1]"),
    "escapes": (b'["', rb"\u00e9", b'"]'),
}


@pytest.mark.parametrize("size", [MAX_JSON_BYTES, limits.MAX_BODY_BYTES])
@pytest.mark.parametrize("kind", GREEDY)
def test_no_body_takes_long_to_read(kind, size):
    start, middle, end = GREEDY[kind]
    body = start + middle * ((size - len(start) - len(end)) // len(middle)) + end
    assert cpu_seconds(lambda: read_json(body, limits.MAX_BODY_BYTES), CPU_SECONDS) < CPU_SECONDS


@pytest.mark.parametrize(("count", "is_read"), [(MAX_VALUES - 1, True), (limits.MAX_BODY_BYTES // 24, False)])
def test_no_object_of_many_names_takes_long_to_read(count, is_read):
    body = b"{" + b",".join(b'"%020x":0' % n for n in range(count)) + b"}"
    assert (read_json(body, limits.MAX_BODY_BYTES) is not None) == is_read
    assert cpu_seconds(lambda: read_json(body, limits.MAX_BODY_BYTES), CPU_SECONDS) < CPU_SECONDS


def test_a_large_body_of_few_values_is_read_where_a_flow_allows_for_it():
    body = orjson.dumps(["a" * 100] * (MAX_VALUES // 20))
    assert len(body) > MAX_JSON_BYTES
    assert read_json(body) is None
    assert len(read_json(body, limits.MAX_BODY_BYTES)) == MAX_VALUES // 20


def adyen(count, key=KEY):
    return orjson.dumps({"notificationItems": [{"NotificationRequestItem": sign_adyen(key)}] * count})


def test_more_items_than_the_limit_are_refused():
    (verifier,) = verifiers(IN_BODY["adyen"])
    assert verifier.verify(request(adyen(MAX_ITEMS)), NOW).scheme == "adyen"
    with pytest.raises(SignatureError, match=f"1 to {MAX_ITEMS} items"):
        verifier.verify(request(adyen(MAX_ITEMS + 1)), NOW)


def test_large_items_take_no_longer_than_reading_them_once():
    items = [
        {"NotificationRequestItem": {"additionalData": {"hmacSignature": "x" * 43 + "="}, "x": [[]] * 3000}}
    ] * MAX_ITEMS
    body = orjson.dumps({"notificationItems": items})
    (verifier,) = verifiers(IN_BODY["adyen"])

    def verify():
        with pytest.raises(SignatureError):
            verifier.verify(request(body, json=JsonBody()), NOW)

    assert cpu_seconds(verify, CPU_SECONDS) < CPU_SECONDS


def test_a_form_that_takes_long_to_take_apart_is_refused_unread():
    (verifier,) = verifiers({"twilio": {"secret": "k"}})
    headers = [
        ("x-twilio-signature", b"x" * 27 + b"="),
        ("content-type", b"application/x-www-form-urlencoded"),
    ]

    def verify(body):
        with pytest.raises(SignatureError):
            verifier.verify(request(body, headers), NOW)

    for size in (MAX_FORM_BYTES, 10 * limits.MIB):
        body = b"a=" + b"%41" * ((size - 2) // 3)
        assert cpu_seconds(partial(verify, body), CPU_SECONDS) < CPU_SECONDS


def test_no_sender_chooses_how_often_ed25519_hashes_the_body():
    private = Ed25519PrivateKey.generate()
    key = "whpk_" + b64encode(private.public_key().public_bytes_raw()).decode()
    (verifier,) = verifiers({"standard-webhooks": {"public_key": key}})
    wrong, right = b"x" * 64, private.sign(b"m.%d.{}" % NOW)

    def verify(*signatures):
        sent = b" ".join(b"v1a," + b64encode(each) for each in signatures)
        headers = [("webhook-signature", sent), ("webhook-id", b"m"), ("webhook-timestamp", b"%d" % NOW)]
        return verifier.verify(request(b"{}", headers), NOW)

    assert verify(*[wrong] * (MAX_ED25519_SIGNATURES - 1), right).scheme == "standard-webhooks"
    with pytest.raises(SignatureError):
        verify(*[wrong] * MAX_ED25519_SIGNATURES, right)
