"""What would have made a request pass is what the operator is told."""

from __future__ import annotations

import base64
import gzip
import hmac
import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cases import cases

from flowhook.document.models.auth import parse_auth
from flowhook.signatures.build import build_verifiers, sign
from flowhook.signatures.diagnosis import (
    MAX_BODY_BYTES,
    MAX_HASHED_BYTES,
    MAX_REWRITTEN_BYTES,
    MAX_REWRITTEN_DEPTH,
    TRIAL_BYTES,
    SecretVariants,
    body_variants,
    diagnose,
)
from flowhook.signatures.types import RequestView, SignatureError, Verifier

NOW = 1_700_000_000.0
URL = "https://hooks.example.com/hook/f"
GITHUB, SQUARE = {"github": {"secret": "k"}}, {"square": {"secret": "k"}}


def verifiers(auth=GITHUB, secret=b"sesame"):
    return build_verifiers(parse_auth(auth), {"k": secret})


def sent(body=b'{"a": 1}', *, auth=GITHUB, secret=b"sesame", url=URL, headers=()):
    (kind,) = parse_auth(auth)
    added = sign(kind, {"k": secret}, method="POST", url=url, body=body, headers=[], now=NOW)
    fields = [(name.lower(), value.encode()) for name, value in [*headers, *added]]
    return RequestView("POST", url, "/hook/f", "", fields, body)


def reported(request, auth=GITHUB, others=()):
    return diagnose(verifiers(auth), request, NOW, others)


@cases(
    ("signed", "arrived", "hint"),
    [
        (b'{"a": 1}\n', b'{"a": 1}', "line ends"),
        (b'{"a": 1}', b'{"a": 1}\n', "line ends"),
        (b"a\nb", b"a\r\nb", "line ends"),
        (b'{"a":1,"b":[1,2]}', b'{"b": [1, 2], "a": 1}', "wrote it again"),
        (json.dumps({"a": "é"}).encode(), '{"a":"é"}'.encode(), "wrote it again"),
        (json.dumps({"a": 1}, indent=2).encode(), b'{"a":1}', "wrote it again"),
        (b"{}", b"\xef\xbb\xbf{}", "byte order mark"),
    ],
)
def test_a_body_that_was_altered_is_reported(signed, arrived, hint):
    assert hint in reported(sent(signed)._replace(body=arrived))


@pytest.mark.parametrize("depth", [1, MAX_REWRITTEN_DEPTH, MAX_REWRITTEN_DEPTH + 1, 900])
def test_no_sender_chooses_a_body_that_is_much_work_to_write_anew(depth):
    body = b"[" * depth + b",".join([b"1"] * ((MAX_REWRITTEN_BYTES - 2 * depth) // 2)) + b"]" * depth
    variants = [variant for _, variant in body_variants(sent()._replace(body=body))]
    assert max(len(variant) for variant in variants) < 4 * MAX_REWRITTEN_DEPTH * len(body)
    rewritten = json.dumps(json.loads(body)).encode() in variants
    assert rewritten == (depth <= MAX_REWRITTEN_DEPTH)


def test_large_json_is_not_written_anew():
    value = ["a" * MAX_REWRITTEN_BYTES, 1]
    assert reported(sent(json.dumps(value).encode())._replace(body=orjson.dumps(value))) == ""


def test_a_body_that_is_signed_before_it_is_compressed_is_reported():
    request = sent(b"plain", headers=[("Content-Encoding", "gzip")])
    assert "before it compresses" in reported(request._replace(body=gzip.compress(b"plain", mtime=0)))


@pytest.mark.parametrize(
    ("signed", "arrived", "hint"),
    [
        ("https://h.example/hook/f", "http://h.example/hook/f", "a https URL: set --public-url"),
        ("http://h.example/hook/f", "http://h.example:8080/hook/f", "without the port"),
        ("https://h.example/hook/f/", "https://h.example/hook/f", "with a slash"),
        ("https://h.example/hook/f", "https://h.example/hook/f/", "without the slash"),
        ("https://outside.example/hook/f", "http://10.0.0.1:8080/hook/f", "host that a proxy names"),
    ],
)
def test_another_url_is_reported(signed, arrived, hint):
    request = sent(auth=SQUARE, url=signed, headers=[("X-Forwarded-Host", "outside.example")])
    assert hint in reported(request._replace(url=arrived), SQUARE)


def test_a_secret_of_another_url_is_reported():
    others = [("flow g", verifiers(secret=b"wrong")), ("flow h", verifiers(secret=b"other"))]
    assert "credentials of flow h" in reported(sent(secret=b"other"), others=others)


def test_a_url_that_lets_everybody_in_explains_nothing():
    assert reported(sent(secret=b"other"), others=[("flow g", build_verifiers((), {}))]) == ""


def test_what_nothing_explains_is_not_explained():
    assert reported(sent()._replace(body=b"quite another one")) == ""
    assert reported(sent(b"x" * (MAX_BODY_BYTES + 1))._replace(body=b"y" * (MAX_BODY_BYTES + 1) + b"\n")) == ""


@given(body=st.binary(max_size=60), url=st.text(max_size=30), coding=st.sampled_from([b"", b"gzip", b"br", b"\xff"]))
def test_whatever_was_sent_nothing_breaks(body, url, coding):
    request = RequestView(
        "POST", url, "/", "", [("x-hub-signature-256", b"sha256=00"), ("content-encoding", coding)], body
    )
    assert isinstance(reported(request), str)


class CountingVerifier(Verifier):
    """A verifier that lets nobody in, and counts what it would hash."""

    scheme = "counting"
    needs_body = True
    signs_body = True

    def __init__(self, *, signs_url=True, keys=1):
        self.signs_url = signs_url
        self.keys = keys
        self.calls = 0
        self.hashed = 0

    def verify(self, request, now):
        self.calls += 1
        self.hashed += self.keys * len(request.body)
        raise SignatureError("no", reason="SIGNATURE_MISMATCH")


HOSTS = [(name, b"h%d.example" % n) for n in range(120) for name in ("x-forwarded-host", "x-original-host")]


@cases("keys", [1, 8])
@cases("size", [0, 100, 200_000, 10_000_000])
def test_no_sender_chooses_how_much_is_hashed(size, keys):
    mine, theirs = CountingVerifier(keys=keys), CountingVerifier(keys=keys)
    body = b"\r\n" * (size // 2)
    diagnose([mine], RequestView("POST", URL, "/hook/f", "", HOSTS, body), NOW, [("flow g", [theirs])] * 1000)
    assert mine.hashed + theirs.hashed <= MAX_HASHED_BYTES
    assert mine.calls + theirs.calls <= MAX_HASHED_BYTES // TRIAL_BYTES
    assert mine.calls <= 50


def test_another_url_is_not_tried_where_none_is_signed():
    verifier = CountingVerifier(signs_url=False)
    diagnose([verifier], RequestView("POST", URL, "/hook/f", "", HOSTS, b"x" * (MAX_BODY_BYTES + 1)), NOW)
    assert verifier.calls == 0


def test_the_host_of_a_proxy_is_tried_among_the_first_that_are_named():
    request = sent(
        auth=SQUARE, url="https://h2.example/hook/f", headers=[("X-Forwarded-Host", "h2.example"), *HOSTS_SENT]
    )
    assert "host that a proxy names" in reported(request._replace(url="http://10.0.0.1:8080/hook/f"), SQUARE)


HOSTS_SENT = [(name, value.decode()) for name, value in HOSTS]


HMAC = {"hmac": {"secret": "k", "header": "X-Signature", "prefix": "sha256="}}


@pytest.mark.parametrize(
    ("written", "found"),
    [
        (lambda digest: digest.hex(), "in hex"),
        (lambda digest: f"v1={digest.hex()}", "in hex"),
        (lambda digest: base64.b64encode(digest).decode(), "in base64"),
        (lambda digest: f"sha256={base64.urlsafe_b64encode(digest).decode().rstrip('=')}", "in base64"),
    ],
)
def test_a_signature_in_another_form_is_reported(written, found):
    digest = hmac.digest(b"sesame", b"{}", "sha256")
    request = RequestView("POST", URL, "/hook/f", "", [("x-signature", written(digest).encode())], b"{}")
    assert found in reported(request, HMAC)
    assert reported(request._replace(body=b"other"), HMAC) == ""


KEY = b"a key of sixteen"


@cases(
    ("secret", "used", "hint"),
    [
        (b"sesame\n", b"sesame", "line breaks"),
        (b'"sesame"', b"sesame", "quotes"),
        (b"whsec_sesame", b"sesame", "prefix whsec_"),
        (base64.b64encode(KEY), KEY, "in base64"),
        (b"whsec_" + base64.b64encode(KEY), KEY, "in base64"),
        (KEY.hex().encode(), KEY, "in hexadecimal"),
    ],
)
def test_a_secret_that_was_set_wrongly_is_reported(secret, used, hint):
    auth = parse_auth(GITHUB)
    refused = build_verifiers(auth, {"k": secret})
    variants = SecretVariants(auth, {"k": secret, "unused": b"other"})
    assert hint in diagnose(refused, sent(secret=used), NOW, (), variants)
    assert diagnose(refused, sent(secret=b"neither"), NOW, (), variants) == ""
    assert "sesame" not in repr(variants)


@pytest.mark.parametrize(
    ("signed", "arrived", "kind", "hint"),
    [
        (b"plain", gzip.compress(b"plain", mtime=0), "application/json", "a proxy compresses"),
        ("\u00e9".encode("latin-1"), "\u00e9".encode(), "text/plain", "character encoding"),
        ("\u00e9".encode(), "\u00e9".encode("latin-1"), "text/plain", "character encoding"),
        (b"a=b+c", b"a=b%20c", "application/x-www-form-urlencoded", "parsed the form"),
    ],
)
def test_what_proxies_do_beside_is_reported(signed, arrived, kind, hint):
    assert hint in reported(sent(signed, headers=[("Content-Type", kind)])._replace(body=arrived))


def test_the_form_of_the_json_is_named():
    assert "with its JSON without spaces" in reported(sent(b'{"a":1}')._replace(body=b'{"a": 1}'))


def test_a_key_of_another_url_is_reported():
    auth = {"api_key": {"header": "X-Api-Key", "secret": "k"}}
    request = RequestView("POST", URL, "/hook/f", "", [("x-api-key", b"other")], b"")
    assert "credentials of flow h" in reported(request, auth, [("flow h", verifiers(auth, b"other"))])
