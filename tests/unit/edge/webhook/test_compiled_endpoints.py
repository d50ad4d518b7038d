from __future__ import annotations

from ipaddress import ip_address

import pytest
from support.cases import cases

from edge.webhook.compiled_endpoints import URLS, CompiledEndpoint, FlowEndpoints, bounded_dedupe_key
from flowhook import limits
from flowhook.document.models.webhook import Webhook
from flowhook.http.listening import peer_address
from flowhook.signatures.types import Match, RequestView


def passed(verifier, secret="key"):
    return verifier, Match(verifier.scheme, secret)


def endpoint(**webhook):
    return CompiledEndpoint("orders", Webhook.model_validate({"auth": "none", **webhook}), {"key": b"secret"})


def flow(**webhook):
    auth = {"api_key": {"header": "X-Api-Key", "secret": "key"}}
    callbacks = {
        "approval": {"auth": auth, "methods": ["POST", "GET"], "max_body": "2KiB"},
        "v1.paid": {"auth": "none"},
    }
    settings = Webhook.model_validate({"auth": "none", "callbacks": callbacks, **webhook})
    return FlowEndpoints("orders", settings, {"key": b"secret"}, 7)


def request(*headers, body=b""):
    return RequestView("POST", "http://a/hook/orders", "/hook/orders", "", headers, body)


def shown(body=None):
    return {"body": body}


@cases(
    ("body", "key"),
    [
        ({"n": "A1"}, "A1"),
        ({"n": 17}, "17"),
        ({"n": {"a": 1}}, '{"a":1}'),
        ({"n": None}, ""),
        ({}, ""),
        ("text", ""),
        (None, ""),
    ],
)
def test_the_dedupe_key_is_what_its_expression_yields(body, key):
    compiled = endpoint(dedupe={"key": "${ .body.n }"})

    assert compiled.needs_view
    assert compiled.dedupe_key(passed(compiled.early[0]), request(), shown(body)) == (key and f"none:{key}")


def test_a_provider_brings_its_own_delivery_id():
    compiled = endpoint(auth={"github": {"secret": "key"}})
    assert compiled.dedupe_key(passed(compiled.late[0]), request(("x-github-delivery", b"d-1")), None) == "github:d-1"


@pytest.mark.parametrize("dedupe", [{"key": "${ .body }"}, None])
def test_no_sender_can_have_the_events_of_another_one_taken_for_repeated_ones(dedupe):
    hmac = {"header": "X-Signature", "id": {"header": "X-Delivery"}}
    auth = [
        {"hmac": {**hmac, "secret": "acme"}},
        {"hmac": {**hmac, "secrets": ["new", "old"]}},
        {"github": {"secret": "key"}},
        {"standard-webhooks": {"secret": "key"}},
    ]
    compiled = endpoint(auth=auth, **({"dedupe": dedupe} if dedupe else {}))
    seen = request(
        ("x-signature", b""),
        ("x-delivery", b"d"),
        ("x-github-delivery", b"d"),
        ("webhook-signature", b""),
        ("webhook-id", b"d"),
    )
    keys = [compiled.dedupe_key(passed(verifier), seen, shown("d")) for verifier in compiled.late]
    assert keys == ["hmac:d", "hmac.2:d", "github:d", "standard-webhooks:d"]


def test_nor_can_one_that_another_name_in_its_certificate_lets_in():
    compiled = endpoint(auth={"mtls": {"names": ["a.example", "b.example"]}}, dedupe={"key": "${ .body }"})
    (verifier,) = compiled.early
    matches = [verifier.verify(request()._replace(client_names=(name,)), 0.0) for name in ("a.example", "b.example")]
    first, second = (compiled.dedupe_key((verifier, match), request(), shown("d")) for match in matches)
    assert first != second
    assert first == compiled.dedupe_key((verifier, matches[0]), request(), shown("d"))


@pytest.mark.parametrize("length", [250, 251, 5000])
def test_a_delivery_id_of_any_length_is_recognised_again(length):
    compiled = endpoint(auth={"github": {"secret": "key"}})
    first, other = (
        compiled.dedupe_key(passed(compiled.late[0]), request(("x-github-delivery", b"d" * (length - 1) + last)), None)
        for last in (b"1", b"2")
    )
    assert first != other
    assert 0 < len(first) <= limits.MAX_DEDUPE_KEY_BYTES


def test_dedupe_can_be_turned_off():
    compiled = endpoint(auth={"github": {"secret": "key"}}, dedupe={"key": "none"})
    assert compiled.dedupe_key(passed(compiled.late[0]), request(("x-github-delivery", b"d-1")), None) == ""


def test_a_long_key_is_hashed_and_a_short_one_retained():
    assert bounded_dedupe_key("k" * 256) == "k" * 256
    assert bounded_dedupe_key("é" * 128) == "é" * 128
    assert bounded_dedupe_key("é" * 129).startswith("sha256:")
    assert bounded_dedupe_key("a" * 257) != bounded_dedupe_key("a" * 258)
    assert bounded_dedupe_key("\ud800") == "?"


@cases(
    ("peer", "admitted"),
    [
        ("192.0.2.7", True),
        ("::ffff:192.0.2.7", True),
        ("192.0.3.7", False),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("fe80::1%eth0", False),
        ("198.51.100.7", True),
        ("::ffff:198.51.100.7", True),
        ("::ffff:198.51.100.8", False),
        ("::", False),
    ],
)
def test_allow_from_admits_its_networks(peer, admitted):
    networks = ["192.0.2.0/24", "2001:db8::/32", "::ffff:198.51.100.7"]
    assert endpoint(allow_from=networks).admits(peer_address(peer)) is admitted


def test_without_allow_from_everybody_is_admitted():
    assert endpoint().admits(ip_address("203.0.113.9"))


def test_credentials_are_among_what_is_dropped():
    compiled = endpoint(auth=[{"api_key": {"header": "X-Api-Key", "secret": "key"}}, {"github": {"secret": "key"}}])

    assert {"x-api-key", "x-hub-signature-256", "authorization", "cookie", "proxy-authorization", "te"} <= (
        compiled.dropped_headers
    )
    assert [verifier.scheme for verifier in compiled.early] == ["api_key"]
    assert [verifier.scheme for verifier in compiled.late] == ["github"]
    assert endpoint(auth={"api_key": {"query": "api_key", "secret": "key"}}).dropped_query == {"api_key"}


def test_a_method_that_is_not_allowed_learns_which_are():
    assert b"Allow: HEAD, POST, PUT\r\n" in endpoint(methods=["PUT", "POST"]).not_allowed.head


@cases(
    ("suffix", "found"),
    [
        ("approval", ("approval", False)),
        ("v1.paid", ("v1.paid", False)),
        ("approval/token", ("approval", True)),
        ("approval/", ("approval", True)),
        ("approval/a/b", ("approval", True)),
        ("Approval", None),
        ("approval2", None),
        ("appro%76al", None),
        ("a/approval", None),
        ("/approval", None),
        ("", None),
    ],
)
@cases("subpaths", [False, True])
def test_a_suffix_names_a_callback_or_belongs_to_the_flow_if_it_takes_any(suffix, found, subpaths):
    endpoint = flow(subpaths=subpaths).at_suffix(suffix)
    if found is None:
        found = ("", False) if subpaths else None
    assert (endpoint and (endpoint.callback, endpoint.one_time)) == found


def test_a_callback_has_settings_of_its_own():
    endpoints = flow(auth={"github": {"secret": "other"}})
    callback = endpoints.at_suffix("approval")
    assert (callback.methods, callback.max_body) == ({"POST", "GET"}, 2048)
    assert [verifier.scheme for verifier in callback.early + callback.late] == ["api_key"]
    assert [verifier.scheme for verifier in endpoints.own.early + endpoints.own.late] == ["github"]
    assert endpoints.secret_names == {"key", "other"}


def test_a_one_time_url_requires_no_credentials_and_retains_none():
    one_time = flow().at_suffix("approval/token")
    assert [verifier.scheme for verifier in one_time.early + one_time.late] == ["none"]
    assert not one_time.asks
    assert {"x-api-key", "authorization"} | URLS <= one_time.dropped_headers
    assert one_time.methods == {"POST", "GET"}


def test_a_one_time_url_needs_no_key_to_detect_repetitions():
    callbacks = {"approval": {"auth": "none", "dedupe": {"key": "${ .body.order }"}}}
    endpoints = flow(callbacks=callbacks)
    keys = [
        found.dedupe_key(passed(found.early[0]), request(), shown({"order": "A1"}))
        for found in (endpoints.at_suffix("approval"), endpoints.at_suffix("approval/token"))
    ]
    assert keys == ["none:A1", ""]
