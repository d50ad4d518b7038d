"""What holds of every scheme: what a sender signs passes, and nothing near it does."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.cases import cases
from support.examples import examples

from flowhook.document.models.auth import KINDS, parse_auth
from flowhook.signatures.build import build_verifiers, sign, sign_url
from flowhook.signatures.request_values import strip_query
from flowhook.signatures.schemes import can_stream
from flowhook.signatures.types import KeyedVerifier, Match, RequestView, SignatureError, verify_any

NOW = 1_700_000_000.0
URL = "https://hooks.example.com/hook/bank.in/sub%20path?from=7&to=%C3%A4"

SIGNED = [
    {"github": {"secret": "k"}},
    {"stripe": {"secret": "k"}},
    {"slack": {"secret": "k"}},
    {"shopify": {"secret": "k"}},
    {"standard-webhooks": {"secret": "k"}},
    *({name: {"secret": "k"}} for name in ("asana", "docusign", "dropbox", "hubspot", "intercom", "jira", "meta")),
    *({name: {"secret": "k"}} for name in ("notion", "square", "twitch", "typeform", "x", "zendesk", "zoom")),
    {"elasticio": {"secret": "k"}},
    {"hmac": {"secret": "k", "header": "X-Signature"}},
    {"hmac": {"secret": "k", "numbered_header": "X-Sig-", "layout": "commas", "key": {"prefix": "key_"}}},
    {
        "hmac": {
            "secret": "k",
            "header": "X-Signature",
            "layout": "pairs",
            "prefix": "sig",
            "content": "{timestamp}:{path}:{decoded_url}:{body_crc32}:{body}",
            "timestamp": {"pair": "t", "unit": "ms"},
        }
    },
    {
        "hmac": {
            "secret": "k",
            "header": "Paddle-Signature",
            "layout": "pairs",
            "separator": ";",
            "prefix": "h1",
            "content": "{timestamp}:{body}",
            "timestamp": {"pair": "ts"},
        }
    },
    {
        "hmac": {
            "secret": "k",
            "header": "X-Signature",
            "algorithm": "sha1",
            "encoding": "base64",
            "prefix": "sha1=",
            "content": "{method}\n{url}\n{path}\n{header:content-type}\n{{}}{body}",
        }
    },
    *(
        {
            "hmac": {
                "secret": "k",
                "header": "X-Signature",
                "algorithm": algorithm,
                "encoding": "base64url",
                "content": "{timestamp}{id}{body}",
                "timestamp": {"header": "X-Timestamp", "unit": unit},
            }
        }
        for algorithm, unit in [("sha256", "s"), ("sha384", "ms"), ("sha512", "rfc3339")]
    ),
]
TIMED_PROVIDERS = {"stripe", "slack", "standard-webhooks", "hubspot", "zoom"}  # with a tolerance of five minutes
TIMED = [auth for auth in SIGNED if TIMED_PROVIDERS & auth.keys() or "timestamp" in str(auth)]
OTHERS = [
    {"basic": {"username": "bänk", "secret": "k"}},
    {"api_key": {"header": "X-Api-Key", "secret": "k"}},
    {"api_key": {"query": "api key", "secret": "k"}},
]

untimed = settings(deadline=None)  # machines that run tests stall; it says nothing about the code
schemes = st.sampled_from(SIGNED)
bodies = st.binary(max_size=200)
secrets = st.binary(min_size=1, max_size=100).filter(lambda secret: not secret.startswith(b"whsec_"))
"""Any but those that promise base64: the vectors have them."""
header_safe = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1).map(str.encode)


def send(auth, secret, body, *, now=NOW):
    """Return the verifier of a kind and the request that a sender with this secret makes."""
    (kind,) = parse_auth(auth)
    url = sign_url(kind, {"k": secret}, URL)
    headers = [("Content-Type", "application/json")]
    headers += sign(kind, {"k": secret}, method="POST", url=url, body=body, headers=headers, now=now)
    path = "/hook/bank.in/sub%20path"
    fields = [(name.lower(), value.encode()) for name, value in headers]
    return kind, RequestView("POST", url, path, url.partition("?")[2], fields, body)


def verify(kind, secret, request, *, now=NOW):
    return verify_any(build_verifiers([kind], {"k": secret}), request, now)


def replace_header(request, name, value):
    return request._replace(headers=[(key, value if key == name else old) for key, old in request.headers])


def is_hex(auth):
    ((kind, config),) = auth.items()
    in_base64 = ("docusign", "hubspot", "shopify", "square", "standard-webhooks", "typeform", "x", "zendesk")
    return kind not in in_base64 and config.get("encoding", "hex") == "hex"


def signature_of(kind, request):
    (verifier,) = build_verifiers([kind], {})
    return next((name, value) for name, value in request.headers if name in verifier.credential_headers)


def changed(data, value):
    """Return `value` with one byte replaced by another."""
    index = data.draw(st.integers(0, len(value) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != value[index]))
    return value[:index] + bytes([byte]) + value[index + 1 :]


@untimed
@given(auth=schemes, secret=secrets, body=bodies)
def test_what_was_signed_passes(auth, secret, body):
    kind, request = send(auth, secret, body)
    assert verify(kind, secret, request) == Match(kind.kind, "k")


@untimed
@given(auth=st.sampled_from(OTHERS), secret=header_safe)
def test_credentials_that_were_sent_pass(auth, secret):
    kind, request = send(auth, secret, b"")
    assert verify(kind, secret, request) == Match(kind.kind, "k")


@untimed
@given(auth=schemes, secret=secrets, body=st.binary(min_size=1, max_size=200), data=st.data())
def test_one_changed_byte_of_the_body_is_refused(auth, secret, body, data):
    kind, request = send(auth, secret, body)
    with pytest.raises(SignatureError):
        verify(kind, secret, request._replace(body=changed(data, body)))


@untimed
@given(auth=schemes, secret=secrets, body=bodies, data=st.data())
def test_one_changed_byte_of_the_signature_header_is_refused(auth, secret, body, data):
    kind, request = send(auth, secret, body)
    name, value = signature_of(kind, request)
    other = changed(data, value)
    assume(not is_hex(auth) or other.lower() != value.lower())  # hex may be in either case
    assume(other.rstrip(b" ") != value.removesuffix(b"="))  # padding is optional
    with pytest.raises(SignatureError):
        verify(kind, secret, replace_header(request, name, other))


@untimed
@given(auth=schemes, secret=secrets, body=bodies, data=st.data())
def test_a_truncated_signature_header_is_refused(auth, secret, body, data):
    kind, request = send(auth, secret, body)
    name, value = signature_of(kind, request)
    needed = value.rstrip(b"=")  # padding is optional
    with pytest.raises(SignatureError):
        verify(kind, secret, replace_header(request, name, value[: data.draw(st.integers(0, len(needed) - 1))]))


@untimed
@given(auth=st.sampled_from(SIGNED + OTHERS), secret=header_safe, body=bodies)
def test_without_a_header_that_is_required_nothing_passes(auth, secret, body):
    kind, request = send(auth, secret, body)
    (verifier,) = build_verifiers([kind], {"k": secret})
    left = [field for field in request.headers if field[0] not in verifier.required_headers]
    assume(left != request.headers)
    with pytest.raises(SignatureError, match="missing"):
        verifier.verify(request._replace(headers=left), NOW)


@untimed
@given(auth=schemes, secret=st.text(min_size=1), other=st.text(min_size=1), body=bodies)
def test_another_secret_is_refused(auth, secret, other, body):
    # HMAC itself pads keys with zero bytes; standard-webhooks reads what looks like base64 as such.
    alphabet = "!" + secret.replace("\0", "0"), "!" + other.replace("\0", "0")
    first, second = (text.encode("utf-8", "replace") for text in alphabet)
    assume(first != second)
    kind, request = send(auth, first, body)
    with pytest.raises(SignatureError):
        verify(kind, second, request)


@untimed
@given(auth=st.sampled_from(TIMED), secret=secrets, seconds=st.floats(301.01, 1e9), sign_of=st.sampled_from([-1, 1]))
def test_a_request_that_is_too_old_or_from_the_future_is_stale(auth, secret, seconds, sign_of):
    kind, request = send(auth, secret, b"{}")
    with pytest.raises(SignatureError, match="allowed") as refusal:
        verify(kind, secret, request, now=NOW + sign_of * seconds)
    assert refusal.value.reason == "TIMESTAMP_STALE"


@untimed
@given(auth=st.sampled_from(TIMED), secret=secrets, seconds=st.floats(-299, 299))
def test_a_request_within_the_tolerance_passes(auth, secret, seconds):
    kind, request = send(auth, secret, b"{}")
    verify(kind, secret, request, now=NOW + seconds)


@untimed
@given(
    auth=st.sampled_from(SIGNED + OTHERS),
    values=st.lists(st.binary(max_size=60) | st.sampled_from([b"t=", b"v1,", b"sha256=", b"Basic =", b"1e400"])),
    body=bodies,
    query=st.text(max_size=40),
    data=st.data(),
)
def test_nothing_that_is_sent_raises_anything_else(auth, values, body, query, data):
    (kind,) = parse_auth(auth)
    (verifier,) = build_verifiers([kind], {"k": b"secret"})
    names = ["x-signature", "x-timestamp", "webhook-id", "content-type", "x-api-key", *verifier.credential_headers]
    names += ["stripe-signature", "x-slack-request-timestamp", "webhook-timestamp", "svix-id", "x-github-delivery"]
    headers = [(data.draw(st.sampled_from(names)), value) for value in values]
    request = RequestView("POST", f"http://h/\udcff?{query}", "/\ud800", query, headers, body)
    with pytest.raises(SignatureError):
        verifier.verify(request, NOW)
    verifier.delivery_id(request)
    strip_query(query, verifier.credential_query)


@cases("auth", SIGNED + OTHERS, ids=str)
def test_no_repr_and_no_error_shows_a_secret_or_what_was_sent(auth):
    kind, request = send(auth, b"hush-hush", b"{}")
    (verifier,) = build_verifiers([kind], {"k": b"other-hush"})
    with pytest.raises(SignatureError) as refusal:
        verifier.verify(request, NOW)
    shown = repr(verifier) + repr(vars(verifier)) + repr(refusal.value) + str(refusal.value)
    assert "hush" not in shown
    assert all(value.decode() not in shown for name, value in request.headers if name in verifier.credential_headers)


VECTORS = json.loads(
    (Path(__file__).parents[3] / "conformance" / "signatures" / "vectors.json").read_text(encoding="utf-8")
)
PASSING = {
    name: [vector for vector in VECTORS if "match" in vector and name in vector["auth"]] for name in sorted(KINDS)
}
"""Requests that pass, of every kind: a kind without any fails the tests of those below."""

texts = st.binary(max_size=80) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass"))
spoiled = st.sampled_from(["kept", "replaced", "cut", "byte", "nested"])


def spoil(data, value):
    """Return a value, or something near it, or something else."""
    how = data.draw(spoiled)
    if how == "kept" or (how in ("cut", "byte") and not value):
        return value
    if how == "cut":
        return value[: data.draw(st.integers(0, len(value) - 1))]
    if how == "byte":
        return changed(data, value)
    return data.draw(texts) if how == "replaced" else b'{"keys":' * data.draw(st.integers(1, 2000))


def request_like(data, vector):
    headers = [
        (name.lower(), spoil(data, value.encode()))
        for name, value in vector["headers"]
        if data.draw(st.integers(0, 9))  # one of ten is missing
    ]
    query = spoil(data, vector["url"].partition("?")[2].encode()).decode("latin-1")
    body = spoil(data, vector["body"].encode())
    names = tuple(vector.get("client_names", ()))
    return RequestView(vector["method"], vector["url"], "/hook/flow", query, headers, body, names)


@settings(untimed, max_examples=examples(50))
@pytest.mark.parametrize("kind", sorted(KINDS))
@given(data=st.data())
def test_no_kind_raises_anything_else_whatever_is_sent(kind, data):
    vector = data.draw(st.sampled_from(PASSING[kind]))
    secrets = {name: value.encode() for name, value in vector["secrets"].items()}
    (verifier,) = build_verifiers(parse_auth(vector["auth"]), secrets)
    request = request_like(data, vector)
    if isinstance(verifier, KeyedVerifier) and (wanted := verifier.key_request(request)) is not None:
        with contextlib.suppress(ValueError):  # what is fetched may be anything, too
            document = spoil(data, vector.get("fetched", {}).get(wanted.url, "").encode())
            request = request._replace(keys={wanted: wanted.read(document).get(wanted.key_id)})
    with contextlib.suppress(SignatureError):
        verifier.verify(request, vector["now"])
    if can_stream(verifier):
        with contextlib.suppress(SignatureError):
            streaming = verifier.begin(request, vector["now"])
            streaming.update(request.body)
            streaming.finish()
    verifier.delivery_id(request)


@untimed
@given(data=st.data())
def test_a_secret_that_makes_no_sense_raises_nothing_else(data):
    vector = data.draw(st.sampled_from([each for each in VECTORS if "match" in each and each["secrets"]]))
    secrets = {name: data.draw(texts | st.just(b"$sha256$00")) for name in vector["secrets"]}
    (verifier,) = build_verifiers(parse_auth(vector["auth"]), secrets)
    with contextlib.suppress(SignatureError):
        verifier.verify(request_like(data, vector), vector["now"])
