from __future__ import annotations

import pytest
from support.cases import cases

from flowhook.document.models.auth import parse_auth
from flowhook.errors import InvalidError
from flowhook.signatures.build import build_verifiers, sign
from flowhook.signatures.schemes import MAX_HEADER_BYTES
from flowhook.signatures.types import RequestView, SignatureError

NOW = 1_700_000_000.0


def verifier_of(auth, secrets=None):
    (verifier,) = build_verifiers(parse_auth(auth), {"k": b"sesame"} if secrets is None else secrets)
    return verifier


def signed(auth, *, secrets=None, headers=(), body=b"{}", method="POST"):
    (kind,) = parse_auth(auth)
    url = "https://h.example/hook/x"
    added = sign(kind, secrets or {"k": b"sesame"}, method=method, url=url, body=body, headers=list(headers), now=NOW)
    fields = [(name.lower(), value.encode()) for name, value in [*headers, *added]]
    return RequestView(method, url, "/hook/x", "", fields, body)


def refusal(verifier, request):
    with pytest.raises(SignatureError) as caught:
        verifier.verify(request, NOW)
    return caught.value


def test_the_match_names_the_secret_that_signed_while_rotating():
    both = {"new": b"fresh", "old": b"stale"}
    verifier = verifier_of({"github": {"secrets": ["new", "old"]}}, both)
    for name in ("new", "old"):
        request = signed({"github": {"secret": name}}, secrets=both)
        assert verifier.verify(request, NOW) == ("github", name)


def test_a_secret_that_is_not_set_leaves_the_others_working_and_is_named_in_refusals():
    verifier = verifier_of({"github": {"secrets": ["next", "k"]}})
    assert verifier.verify(signed({"github": {"secret": "k"}}), NOW).secret == "k"
    error = refusal(verifier, signed({"github": {"secret": "k"}}, secrets={"k": b"other"}))
    assert error.reason == "SIGNATURE_MISMATCH"
    assert "secret next is not set" in error.detail


@pytest.mark.parametrize("secrets", [{}, {"k": b""}, {"other": b"sesame"}])
def test_without_its_secret_a_kind_refuses_even_what_is_signed_with_nothing(secrets):
    request = signed({"github": {"secret": "k"}})
    assert refusal(verifier_of({"github": {"secret": "k"}}, secrets), request).reason == "SECRET_NOT_SET"


def test_a_header_longer_than_the_limit_is_not_looked_into():
    value = b"t=1700000000," + b"v0=x," * MAX_HEADER_BYTES
    request = RequestView("POST", "", "", "", [("stripe-signature", value)], b"")
    error = refusal(verifier_of({"stripe": {"secret": "k"}}), request)
    assert error.reason == "SIGNATURE_MALFORMED"
    assert str(MAX_HEADER_BYTES) in error.detail


def test_a_signature_of_the_wrong_length_costs_no_hash_of_the_body():
    verifier = verifier_of({"github": {"secret": "k"}})
    unhashable = None
    request = RequestView("POST", "", "", "", [("x-hub-signature-256", b"sha256=00")], unhashable)
    assert refusal(verifier, request).reason == "SIGNATURE_MALFORMED"


def test_a_repeated_timestamp_header_is_refused():
    request = signed({"slack": {"secret": "k"}})
    twice = request._replace(headers=[*request.headers, ("x-slack-request-timestamp", b"1700000000")])
    assert refusal(verifier_of({"slack": {"secret": "k"}}), twice).reason == "SIGNATURE_MALFORMED"


def test_a_header_that_is_signed_must_be_there_once():
    auth = {"hmac": {"secret": "k", "header": "X-Sig", "content": "{header:X-Tenant}.{body}"}}
    request = signed(auth, headers=[("X-Tenant", "acme")])
    assert verifier_of(auth).verify(request, NOW).secret == "k"
    without = request._replace(headers=[field for field in request.headers if field[0] != "x-tenant"])
    twice = request._replace(headers=[*request.headers, ("x-tenant", b"evil")])
    assert {refusal(verifier_of(auth), other).reason for other in (without, twice)} == {"SIGNATURE_MALFORMED"}
    with pytest.raises(InvalidError, match="x-tenant"):
        signed(auth)


def test_the_empty_body_is_verified_like_any_other():
    auth = {"github": {"secret": "k"}}
    assert verifier_of(auth).verify(signed(auth, body=b"", method="GET"), NOW).secret == "k"
    unsigned = RequestView("GET", "", "", "", [], b"")
    assert refusal(verifier_of(auth), unsigned).reason == "SIGNATURE_MISSING"


def test_the_id_of_a_spelled_out_scheme_names_the_delivery_whether_signed_or_not():
    auth = {"hmac": {"secret": "k", "header": "X-Sig", "id": {"header": "X-Event-Id"}}}
    request = signed(auth, headers=[("X-Event-Id", "e-1")])
    assert verifier_of(auth).delivery_id(request) == "e-1"
    signed_id = {"hmac": {"secret": "k", "header": "X-Sig", "content": "{id}.{body}"}}
    request = signed(signed_id, headers=[("Webhook-Id", "e-2")])
    assert verifier_of(signed_id).verify(request, NOW)
    assert verifier_of(signed_id).delivery_id(request) == "e-2"


@cases(
    ("auth", "headers", "body", "expected"),
    [
        ({"github": {"secret": "k"}}, [("x-github-delivery", b"d1")], b"", "d1"),
        ({"github": {"secret": "k"}}, [], b"", None),
        ({"github": {"secret": "k"}}, [("x-github-delivery", b"")], b"", None),
        ({"github": {"secret": "k"}}, [("x-github-delivery", b"d1"), ("x-github-delivery", b"d2")], b"", None),
        ({"github": {"secret": "k"}}, [("x-github-delivery", b"d" * 257)], b"", "d" * 257),
        ({"shopify": {"secret": "k"}}, [("x-shopify-webhook-id", b"\xff")], b"", "ÿ"),
        ({"standard-webhooks": {"secret": "k"}}, [("svix-signature", b"v1,"), ("svix-id", b"m")], b"", "m"),
        ({"standard-webhooks": {"secret": "k"}}, [("webhook-signature", b""), ("svix-id", b"m")], b"", None),
        ({"stripe": {"secret": "k"}}, [], b'{"id": "evt_1"}', "evt_1"),
        ({"stripe": {"secret": "k"}}, [], b'{"id": 7}', "7"),
        ({"stripe": {"secret": "k"}}, [], b'{"id": true}', None),
        ({"stripe": {"secret": "k"}}, [], b'["id"]', None),
        ({"stripe": {"secret": "k"}}, [], b"\xff{", None),
        ({"stripe": {"secret": "k"}}, [], b"[" * 100_000, None),
        ({"slack": {"secret": "k"}}, [], b'{"event_id": "Ev1", "type": "event_callback"}', "Ev1"),
        ({"slack": {"secret": "k"}}, [], b"payload=%7B%7D", None),
        ({"hmac": {"secret": "k", "header": "X-Sig"}}, [("webhook-id", b"m")], b'{"id": "x"}', None),
    ],
)
def test_the_delivery_id_is_the_providers_own(auth, headers, body, expected):
    assert verifier_of(auth).delivery_id(RequestView("POST", "", "", "", headers, body)) == expected


def test_every_header_that_carries_a_signature_is_to_be_stripped():
    assert verifier_of({"github": {"secret": "k"}}).credential_headers == {"x-hub-signature-256", "x-hub-signature"}
    assert verifier_of({"standard-webhooks": {"secret": "k"}}).credential_headers == {
        "webhook-signature",
        "svix-signature",
    }
    assert verifier_of({"hmac": {"secret": "k", "header": "X-Sig"}}).credential_headers == {"x-sig"}


def test_a_sender_keeps_the_id_and_the_time_it_has_already():
    auth = {"standard-webhooks": {"secret": "k"}}
    headers = [("Webhook-Id", "msg_mine"), ("webhook-timestamp", "1700000000")]
    request = signed(auth, headers=headers)
    assert [name for name, _ in request.headers] == ["webhook-id", "webhook-timestamp", "webhook-signature"]
    assert verifier_of(auth).verify(request, NOW)


def test_a_sender_makes_an_id_of_its_own_for_each_delivery():
    auth = {"standard-webhooks": {"secret": "k"}}
    ids = {dict(signed(auth).headers)["webhook-id"] for _ in range(2)}
    assert len(ids) == 2


def test_signing_needs_a_secret_that_is_set_and_can_be_read():
    (kind,) = parse_auth({"standard-webhooks": {"secret": "k"}})
    arguments = {"method": "POST", "url": "https://h/", "body": b"", "headers": [], "now": NOW}
    with pytest.raises(InvalidError, match="secret k is not set"):
        sign(kind, {}, **arguments)
    with pytest.raises(InvalidError, match="secret k is not base64 after whsec_") as error:
        sign(kind, {"k": b"whsec_!hush"}, **arguments)
    assert "hush" not in str(error.value)
