"""Everything that a scheme which nobody listed may need, said in a flow file and signed here by hand."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import zlib

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from support.cases import cases

from flowhook.document.models.auth import parse_auth
from flowhook.signatures.build import build_verifiers
from flowhook.signatures.types import Match, RequestView, SignatureError

NOW = 1_700_000_000.0
URL = "https://h.example/hook/x?a=1"
BODY = b'{"order": 7}'
KEY = b"0123456789abcdef"


def mac(content=BODY, key=KEY, algorithm="sha256"):
    return hmac.new(key, content, algorithm)


def outcome(auth, headers=(), *, body=BODY, url=URL, secret=KEY, method="POST", now=NOW):
    """Return what a request matched, or why it was refused."""
    (kind,) = parse_auth(auth)
    (verifier,) = build_verifiers([kind], {"k": secret})
    fields = [(name.lower(), value if isinstance(value, bytes) else value.encode()) for name, value in headers]
    path, _, query = url.removeprefix("https://h.example").partition("?")
    try:
        return verifier.verify(RequestView(method, url, path, query, fields, body), now)
    except SignatureError as error:
        return error.reason


def scheme(**keys):
    return {"hmac": {"secret": "k", **keys}}


GOOD = Match("hmac", "k")


@cases("algorithm", ["sha1", "sha256", "sha384", "sha512"])
@cases("encoding", ["hex", "base64", "base64url"])
def test_every_hash_in_every_encoding_after_a_prefix(algorithm, encoding):
    digest = mac(algorithm=algorithm).digest()
    spelled = {
        "hex": [digest.hex(), digest.hex().upper()],
        "base64": [base64.b64encode(digest).decode(), base64.b64encode(digest).decode().rstrip("=")],
        "base64url": [base64.urlsafe_b64encode(digest).decode(), base64.urlsafe_b64encode(digest).decode().rstrip("=")],
    }[encoding]
    auth = scheme(header="X-Sig", algorithm=algorithm, encoding=encoding, prefix="v1:")
    assert [outcome(auth, [("X-Sig", f"v1:{each}")]) for each in spelled] == [GOOD, GOOD]
    assert outcome(auth, [("X-Sig", spelled[0])]) == "SIGNATURE_MALFORMED"
    assert outcome(auth, [("X-Sig", f"v1:{spelled[0]}")], body=BODY + b" ") == "SIGNATURE_MISMATCH"


@pytest.mark.parametrize(
    ("layout", "prefix", "value"),
    [
        ("spaces", "", "{bad} {good}"),
        ("spaces", "v1,", "v2,{bad} v1,{bad} v1,{good}"),
        ("commas", "", "{bad}, {good}"),
        ("commas", "sha256=", "sha1=0,sha256={good}"),
        ("pairs", "sig", "kid=7,sig={bad},sig={good}"),
    ],
)
def test_several_signatures_in_one_header_of_which_one_has_to_match(layout, prefix, value):
    auth = scheme(header="X-Sig", layout=layout, prefix=prefix)
    good, bad = mac().hexdigest(), mac(b"other").hexdigest()
    assert outcome(auth, [("X-Sig", value.format(good=good, bad=bad))]) == GOOD
    assert outcome(auth, [("X-Sig", value.format(good=bad, bad=bad))]) == "SIGNATURE_MISMATCH"


def test_signatures_in_numbered_headers_of_which_one_has_to_match():
    auth = scheme(numbered_header="X-Sig-")
    good, bad = mac().hexdigest(), mac(b"other").hexdigest()
    assert outcome(auth, [("X-Sig-1", bad), ("X-Sig-2", good)]) == GOOD
    assert outcome(auth, [("X-Sig-1", bad), ("X-Sig-17", good)]) == "SIGNATURE_MISMATCH"


def test_a_signature_in_the_query_string():
    good = mac().hexdigest()
    assert outcome(scheme(query="sig"), url=f"{URL}&sig={good}") == GOOD
    assert outcome(scheme(query="sig"), url=f"{URL}&sig={good}&sig={good}") == "SIGNATURE_MALFORMED"


def test_a_signature_in_a_field_of_the_body():
    auth = scheme(field="meta.sig", content="{field:order.id}|{field:order.items.0}")
    body = {"order": {"id": 7, "items": ["tea"]}, "meta": {"sig": mac(b"7|tea").hexdigest()}}
    assert outcome(auth, body=json.dumps(body).encode()) == GOOD
    body["order"]["items"] = ["coffee"]
    assert outcome(auth, body=json.dumps(body).encode()) == "SIGNATURE_MISMATCH"


@cases(
    ("encoding", "secret"),
    [("utf8", KEY), ("hex", KEY.hex().encode()), ("base64", base64.b64encode(KEY))],
)
@cases("prefix", ["", "key_"])
def test_keys_in_every_encoding_with_and_without_a_prefix(encoding, secret, prefix):
    auth = scheme(header="X-Sig", key={"encoding": encoding, "prefix": prefix})
    headers = [("X-Sig", mac().hexdigest())]
    assert outcome(auth, headers, secret=prefix.encode() + secret) == GOOD
    assert outcome(auth, headers, secret=secret) == GOOD
    if encoding != "utf8":
        assert outcome(auth, headers, secret=b"!") == "SECRET_INVALID"


@pytest.mark.parametrize(
    ("content", "signed"),
    [
        ("{method} {url}\n{body}", b"POST https://h.example/hook/x?a=1\n" + BODY),
        ("{path}:{id}:{body}", b"/hook/x:m1:" + BODY),
        ("{header:X-Tenant}.{body}", b"acme." + BODY),
        ("{body_crc32}", str(zlib.crc32(BODY)).encode()),
        ("{{{body}}}", b"{" + BODY + b"}"),
    ],
)
def test_templates_over_the_parts_of_a_request(content, signed):
    headers = [("X-Sig", mac(signed).hexdigest()), ("Webhook-Id", "m1"), ("X-Tenant", "acme")]
    assert outcome(scheme(header="X-Sig", content=content), headers) == GOOD


def test_a_template_over_the_sorted_fields_of_a_form():
    auth = scheme(header="X-Sig", content="{url}{form}")
    body = "b=2&a=1+1&b=1&ä=%C3%B6".encode()
    signature = mac((URL + "a1 1b1b2äö").encode()).hexdigest()
    assert outcome(auth, [("X-Sig", signature)], body=body) == GOOD


@cases(
    ("unit", "text"),
    [("s", "1700000000"), ("ms", "1700000000123"), ("rfc3339", "2023-11-14T23:13:20.5+01:00")],
)
@cases("place", ["header", "pair", "field"])
def test_times_in_every_unit_and_every_place(unit, text, place):
    timestamp = {"unit": unit, "tolerance": "PT1M", place: {"header": "X-Time", "pair": "t", "field": "sent.at"}[place]}
    auth = scheme(header="X-Sig", layout="pairs", prefix="v1", content="{timestamp}.{body}", timestamp=timestamp)
    body = json.dumps({"sent": {"at": text}}).encode()
    pairs = f"v1={mac(f'{text}.'.encode() + body).hexdigest()}" + (f",t={text}" if place == "pair" else "")
    headers = [("X-Sig", pairs), *([("X-Time", text)] if place == "header" else [])]
    assert outcome(auth, headers, body=body) == GOOD
    assert outcome(auth, headers, body=body, now=NOW + 62) == "TIMESTAMP_STALE"
    assert outcome(auth, headers, body=body, now=NOW - 62) == "TIMESTAMP_STALE"


@pytest.mark.parametrize("separator", [";", "&", "|", " ", ","])
def test_pairs_are_separated_by_the_character_that_the_flow_names_and_by_no_other(separator):
    """Paddle sends `ts=…;h1=…`. Source: https://developer.paddle.com/webhooks/signature-verification."""
    auth = scheme(
        header="Paddle-Signature",
        layout="pairs",
        separator=separator,
        prefix="h1",
        content="{timestamp}:{body}",
        timestamp={"pair": "ts"},
    )
    pairs = ["ts=1700000000", f"h1={mac(b'1700000000:{}').hexdigest()}"]
    assert outcome(auth, [("Paddle-Signature", separator.join(pairs))], body=b"{}") == GOOD
    for other in {",", ";"} - {separator}:
        assert outcome(auth, [("Paddle-Signature", other.join(pairs))], body=b"{}") == "SIGNATURE_MALFORMED"


def private_keys():
    yield "ed25519", ed25519.Ed25519PrivateKey.generate(), lambda key, text: key.sign(text)
    yield "ecdsa", ec.generate_private_key(ec.SECP256R1()), lambda key, text: key.sign(text, ec.ECDSA(hashes.SHA256()))
    yield (
        "rsa",
        rsa.generate_private_key(65537, 2048),
        lambda key, text: key.sign(text, padding.PKCS1v15(), hashes.SHA256()),
    )


@cases(("algorithm", "key", "sign"), list(private_keys()), ids=["ed25519", "ecdsa", "rsa"])
@cases("form", ["PEM", "base64", "hex"])
def test_signatures_by_a_private_key_whose_public_one_stands_in_the_file(algorithm, key, sign, form):
    public = key.public_key()
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    written = {"PEM": pem.decode(), "base64": base64.b64encode(der).decode(), "hex": der.hex()}[form]
    auth = {"public_key": {"algorithm": algorithm, "key": written, "header": "X-Sig", "encoding": "base64"}}
    headers = [("X-Sig", base64.b64encode(sign(key, BODY)))]
    assert outcome(auth, headers) == Match("public_key", "key")
    assert outcome(auth, headers, body=BODY + b" ") == "SIGNATURE_MISMATCH"


@pytest.mark.parametrize("secret", [b"s3cret", b"$sha256$" + hashlib.sha256(b"s3cret").hexdigest().encode()])
def test_a_token_that_is_compared_in_a_header_the_query_or_the_body(secret):
    assert outcome({"api_key": {"header": "X-Token", "secret": "k"}}, [("X-Token", "s3cret")], secret=secret)[1] == "k"
    assert outcome({"api_key": {"query": "token", "secret": "k"}}, url=f"{URL}&token=s3cret", secret=secret)[1] == "k"
    in_body = {"api_key": {"field": "auth.token", "secret": "k"}}
    assert outcome(in_body, body=b'{"auth": {"token": "s3cret"}}', secret=secret) == Match("api_key", "k")
    assert outcome(in_body, body=b'{"auth": {"token": "s3cre"}}', secret=secret) == "CREDENTIALS_WRONG"
    assert outcome(in_body, body=b'{"auth": "s3cret"}', secret=secret) == "CREDENTIALS_MISSING"
    assert outcome(in_body, body=b"s3cret", secret=secret) == "CREDENTIALS_MISSING"
