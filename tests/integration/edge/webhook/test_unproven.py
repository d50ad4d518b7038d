"""What senders can have an edge do who have proved nothing: little on its event loop, whatever they send."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode

import orjson
import pytest
from support.cpu import loop_seconds

from flowhook import limits

JSON = [("Content-Type", "application/json")]
LOOP_SECONDS = 0.25
"""Of CPU, on the thread of the event loop, sending and receiving included."""

DISCORD = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"

IN_BODY = {
    "mailgun": {"mailgun": {"secret": "key"}},
    "adyen": {"adyen": {"secret": "key"}},
    "microsoft-graph": {"microsoft-graph": {"secret": "key"}},
    "linear": {"linear": {"secret": "key"}},
    "aws-sns": {"aws-sns": {"topic_arn": "arn:aws:sns:eu-central-1:123456789012:orders"}},
    "api-key": {"api_key": {"field": "key", "secret": "key"}},
    "hmac": {"hmac": {"secret": "key", "field": "sig", "content": "{field:a}{field:b}"}},
}


def lists(size):
    return b"[" + b"[]," * ((size - 3) // 3) + b"1]"


@pytest.fixture
async def flows(edge):
    for name, auth in IN_BODY.items():
        edge.router.put_flow(name, auth=auth)
        edge.router.put_flow(f"large-{name}", auth=auth, max_body="10MiB")
    return edge


@pytest.mark.parametrize("kind", IN_BODY)
async def test_a_body_that_has_to_be_read_first_is_small_unless_the_flow_says_so(flows, kind):
    headers = [*JSON, ("Linear-Signature", "0" * 64)]
    body = lists(limits.MIB + 3)
    assert (await flows.post(f"/hook/{kind}", body, headers)).status == 413
    assert (await flows.post(f"/hook/{kind}", body[: limits.MIB], headers)).status == 401
    assert (await flows.post(f"/hook/large-{kind}", body, headers)).status == 401


@pytest.mark.parametrize("kind", [kind for kind in IN_BODY if kind != "linear"])
@pytest.mark.parametrize("other", ["typeform", "discord"], ids=["streamed", "whole"])
async def test_it_is_small_next_to_another_kind_of_which_nothing_arrived(edge, kind, other):
    others = {"typeform": {"typeform": {"secret": "key"}}, "discord": {"discord": {"public_key": DISCORD}}}
    edge.router.put_flow("mixed", auth=[others[other], IN_BODY[kind]])
    body = lists(limits.MIB + 3)
    signed = {
        "typeform": [("Typeform-Signature", "sha256=" + "0" * 43 + "=")],
        "discord": [("X-Signature-Ed25519", "00" * 64), ("X-Signature-Timestamp", "1")],
    }[other]
    assert (await edge.post("/hook/mixed", body, JSON)).status == 413
    assert (await edge.post("/hook/mixed", body[: limits.MIB], JSON)).status == 401
    assert (await edge.post("/hook/mixed", body, [*JSON, *signed])).status == 401


@pytest.mark.parametrize("kind", IN_BODY)
@pytest.mark.parametrize("body", [lists(9_900_000), b'["' + b"a" * 9_900_000 + b'"]'], ids=["lists", "text"])
async def test_no_body_keeps_the_loop(flows, kind, body):
    async def post():
        assert (await flows.post(f"/hook/large-{kind}", body, [*JSON, ("Linear-Signature", "0" * 64)])).status == 401

    assert await loop_seconds(post, LOOP_SECONDS) < LOOP_SECONDS


async def test_no_form_keeps_the_loop(edge):
    edge.router.put_flow("twilio", auth={"twilio": {"secret": "key"}})
    headers = [("Content-Type", "application/x-www-form-urlencoded"), ("X-Twilio-Signature", "x" * 27 + "=")]

    async def post():
        assert (await edge.post("/hook/twilio", b"a=" + b"%41" * 3_300_000, headers)).status == 401

    assert await loop_seconds(post, LOOP_SECONDS) < LOOP_SECONDS


@pytest.mark.parametrize(("flow", "size"), [("typeform", 3 * limits.MIB), ("raw", 900_000), ("mixed", 3 * limits.MIB)])
async def test_a_large_body_that_is_signed_is_accepted_and_its_delivery_recognised(edge, flow, size):
    typeform = {"typeform": {"secret": "key"}}
    edge.router.put_flow("typeform", auth=typeform)
    edge.router.put_flow("raw", auth=typeform, parse="raw")
    edge.router.put_flow("mixed", auth=[typeform, IN_BODY["mailgun"]])
    body = orjson.dumps({"event_id": "e1", "text": "a" * size})
    digest = hmac.digest(edge.router.secrets["key"], body, hashlib.sha256)
    headers = [*JSON, ("Typeform-Signature", f"sha256={b64encode(digest).decode()}")]
    for _ in range(2):
        assert (await edge.post(f"/hook/{flow}", body, headers)).status == 202
    assert len(edge.events()) == 1
