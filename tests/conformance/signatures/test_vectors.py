"""Requests with the verdict they deserve, as data: `vectors.json`. `source` says where a signature comes from.

`auth` is what a flow file would say, `fetched` the documents at the URLs that the verifier wants keys from. A vector
with `match` passes by that secret; one with `reason` is refused so. One marked `sender` is what `sign` must produce, to
the byte, from the rest of the request.
"""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support.cases import cases

from flowhook.document.models.auth import KINDS, parse_auth
from flowhook.signatures.build import build_verifiers, sign
from flowhook.signatures.schemes import StreamingAuthentication, can_stream
from flowhook.signatures.types import KeyedVerifier, Match, RequestView, SignatureError

VECTORS = json.loads(Path(__file__).with_name("vectors.json").read_text(encoding="utf-8"))
SENDERS = [vector for vector in VECTORS if vector.get("sender")]


def the_kind(vector):
    (kind,) = parse_auth(vector["auth"])
    return kind


def the_secrets(vector):
    return {name: value.encode() for name, value in vector["secrets"].items()}


def the_request(vector):
    url = urlsplit(vector["url"])
    headers = [(name.lower(), value.encode()) for name, value in vector["headers"]]
    names = tuple(vector.get("client_names", ()))
    return RequestView(vector["method"], vector["url"], url.path, url.query, headers, vector["body"].encode(), names)


def with_keys(vector, verifier, request):
    """Return a request with the key that the verifier wants for it, if it is fetched."""
    wanted = verifier.key_request(request) if isinstance(verifier, KeyedVerifier) else None
    document = vector.get("fetched", {}).get(wanted.url) if wanted is not None else None
    if document is None:
        return request
    return request._replace(keys={wanted: wanted.read(document.encode()).get(wanted.key_id)})


def comes_in_pieces(vector):
    return bool(vector["body"]) and can_stream(build_verifiers([the_kind(vector)], the_secrets(vector))[0])


@cases("vector", VECTORS, ids=lambda vector: vector["name"])
def test_a_request_gets_the_verdict_it_deserves(vector):
    kind, request = the_kind(vector), the_request(vector)
    (verifier,) = build_verifiers([kind], the_secrets(vector))
    request = with_keys(vector, verifier, request)
    if "match" in vector:
        assert verifier.verify(request, vector["now"]) == Match(kind.kind, vector["match"])
        assert verifier.delivery_id(request) == vector["delivery_id"]
    else:
        with pytest.raises(SignatureError) as refusal:
            verifier.verify(request, vector["now"])
        assert refusal.value.reason == vector["reason"]


@cases("vector", list(filter(comes_in_pieces, VECTORS)), ids=lambda vector: vector["name"])
def test_a_body_that_comes_in_pieces_gets_the_same_verdict(vector):
    kind, request = the_kind(vector), the_request(vector)
    (verifier,) = build_verifiers([kind], the_secrets(vector))
    proofs = StreamingAuthentication([verifier], request._replace(body=b""), vector["now"])
    for start in range(0, len(request.body), 7):
        proofs.update(request.body[start : start + 7])
    if "match" in vector:
        assert proofs.finish() == (verifier, Match(kind.kind, vector["match"]))
    else:
        assert proofs.finish() is None
        assert [error.reason for error in proofs.errors] == [vector["reason"]]


@cases("vector", SENDERS, ids=lambda vector: vector["name"])
def test_a_sender_signs_to_the_byte(vector):
    kind, sent = the_kind(vector), [(name, value) for name, value in vector["headers"]]
    (verifier,) = build_verifiers([kind], the_secrets(vector))
    unsigned = [(name, value) for name, value in sent if name.lower() not in verifier.credential_headers]
    added = sign(
        kind,
        the_secrets(vector),
        method=vector["method"],
        url=vector["url"],
        body=vector["body"].encode(),
        headers=unsigned,
        now=vector["now"],
    )
    assert added == [field for field in sent if field not in unsigned]


def test_kinds_that_need_the_whole_body_sign_what_it_says_or_go_over_it_twice():
    verifiers = {the_kind(each).kind: build_verifiers([the_kind(each)], the_secrets(each))[0] for each in VECTORS}
    whole = {kind for kind, verifier in verifiers.items() if verifier.needs_body and not can_stream(verifier)}
    whole -= {"api_key", "public_key", "standard-webhooks"}  # by their settings
    in_what_it_says = {"adyen", "aws-sns", "linear", "mailgun", "microsoft-graph"}
    assert whole == in_what_it_says | {"discord", "paypal", "plaid", "twilio"}


def test_every_kind_has_a_vector_that_passes_and_one_that_is_refused():
    passing = {the_kind(vector).kind for vector in VECTORS if "match" in vector}
    refused = {the_kind(vector).kind for vector in VECTORS if "reason" in vector}
    assert passing == refused == set(KINDS)
