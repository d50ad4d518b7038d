"""What is read of a body before it is known whose it is: once, and no more than is read quickly."""

from __future__ import annotations

from base64 import b64encode
from functools import partial
from urllib.parse import parse_qsl, quote_from_bytes

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cpu import cpu_seconds
from support.senders import sign_adyen

from flowhook import limits
from flowhook.document.models.auth import parse_auth
from flowhook.signatures import types
from flowhook.signatures.build import build_verifiers
from flowhook.signatures.public_keys import MAX_ED25519_SIGNATURES
from flowhook.signatures.request_values import (
    MAX_CREDENTIALS,
    MAX_FORM_BYTES,
    MAX_PARAMETERS,
    contains_credential,
    credentials_of,
    parameter_values,
    strip_query,
    without_credential_copies,
)
from flowhook.signatures.schemes import MAX_ITEMS
from flowhook.signatures.types import (
    MAX_JSON_BYTES,
    MAX_VALUES,
    JsonBody,
    RequestView,
    SignatureError,
    json_of,
    read_json,
    verify_any,
)


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("", ""),
        ("api_key=x", ""),
        ("a=1&api_key=x&b=%20+", "a=1&b=%20+"),
        ("api%5Fkey=x&a=1", "a=1"),
        ("%61pi_%6bey=x&a=1&api_key", "a=1"),
        ("API_KEY=x&xapi_key=1", "API_KEY=x&xapi_key=1"),
        ("a=api_key&&b", "a=api_key&&b"),
        ("a=1;api_key=x&b=2;c", "b=2;c"),
        ("a;api%5fkey=x;b", ""),
    ],
)
def test_a_parameter_is_stripped_whatever_its_encoding_and_the_rest_stays_as_it_was(query, left):
    assert strip_query(query, {"api_key"}) == left


def test_a_name_with_a_space_is_found_as_plus_too():
    assert strip_query("api+key=1&api%20key=2&a=3", {"api key"}) == "a=3"


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["k", "%6B", "%6b", "a", "k%00", "+k"]), st.text("ab%=+", max_size=5))))
def test_what_a_flow_would_read_as_the_parameter_is_gone(fields):
    query = "&".join(f"{name}={value}" for name, value in fields)
    before = parse_qsl(query, keep_blank_values=True)
    after = parse_qsl(strip_query(query, {"k"}), keep_blank_values=True)
    assert after == [(name, value) for name, value in before if name != "k"]


def test_a_query_of_very_many_parameters_is_not_looked_through():
    names = "&".join(["%61"] * MAX_PARAMETERS)
    assert parameter_values(names, "a") == [(b"",)] * MAX_PARAMETERS
    with pytest.raises(SignatureError) as refusal:
        parameter_values(names + "&a=1", "a")
    assert refusal.value.reason == "SIGNATURE_MALFORMED"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", []),
        ("a=1&api_key=s%2Fcret+1", [b"s/cret+1"]),
        ("api%5Fkey=first&a=1;api_key=second;b", [b"first", b"second"]),
        ("api_key=abc&api_key", []),
        ("&".join(["api_key=sesame"] * 1000), [b"sesame"] * MAX_CREDENTIALS),
    ],
)
def test_what_was_sent_as_a_credential_is_found(query, found):
    assert credentials_of(query, {"api_key"}) == found


@given(st.binary(min_size=4, max_size=20), st.binary(max_size=10), st.binary(max_size=10), st.integers(0, 2))
def test_a_credential_is_found_in_whatever_it_is_encoded(credential, before, after, times):
    value = credential
    for _ in range(times):
        value = quote_from_bytes(value, safe="").encode()
    assert contains_credential(before.replace(b"%", b"") + value + after, [credential])


@given(st.lists(st.tuples(st.just("x"), st.binary(max_size=20))))
def test_headers_that_repeat_nothing_are_left_as_they_are(headers):
    fields = tuple(headers)
    retained = without_credential_copies(fields, [b"sesame"])
    assert retained == tuple(field for field in fields if b"sesame" not in field[1])


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

    monkeypatch.setattr(types, "load_json", loads)
    return found


SIGNED = [("linear-signature", b"0" * 64), ("x-sig", b"0" * 64)]


@pytest.mark.parametrize("kind", IN_BODY)
def test_a_kind_that_looks_into_the_body_says_so(kind):
    assert all(verifier.reads_json and verifier.needs_body for verifier in verifiers(IN_BODY[kind]))


def test_a_kind_that_hashes_the_body_does_not_read_it():
    kinds = verifiers(
        {"github": {"secret": "k"}}, {"twilio": {"secret": "k"}}, {"api_key": {"query": "q", "secret": "k"}}
    )
    assert not any(verifier.reads_json for verifier in kinds)


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
    assert json_of(seen) == json_of(seen) == {"a": 1}
    assert json_of(seen._replace(body=b"[]")) == []
    assert json_of(seen) == {"a": 1}


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
