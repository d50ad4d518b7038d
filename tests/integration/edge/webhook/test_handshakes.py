"""Handshakes over HTTP: answered before the method counts, and never stored."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from base64 import b64encode
from urllib.parse import quote

import pytest
from support.patience import PATIENCE

KEY = b"sesame"


def signed_by_slack(body, key=KEY):
    stamp = str(int(time.time()))
    digest = hmac.new(key, f"v0:{stamp}:".encode() + body, hashlib.sha256).hexdigest()
    return [
        ("Content-Type", "application/json"),
        ("X-Slack-Request-Timestamp", stamp),
        ("X-Slack-Signature", f"v0={digest}"),
    ]


@pytest.fixture
def edge(edge):
    edge.router.secrets = {"k": KEY, "v": b"token"}
    edge.router.put_flow("slack", auth={"slack": {"secret": "k"}})
    edge.router.put_flow("x", auth={"x": {"secret": "k"}}, methods=["POST", "PUT"])
    edge.router.put_flow("meta", auth={"meta": {"secret": "k", "verify_token": "v"}})
    return edge


async def test_a_signed_handshake_is_answered_and_starts_nothing(edge):
    body = b'{"type": "url_verification", "challenge": "abc"}'
    answer = await edge.post("/hook/slack", body, signed_by_slack(body))
    assert (answer.status, answer.body) == (200, b"abc")
    assert (await edge.post("/hook/slack", body, signed_by_slack(body, b"other"))).status == 401
    assert edge.events() == []


async def test_an_unsigned_handshake_is_answered_whatever_the_methods_are(edge):
    target = "/hook/meta?hub.mode=subscribe&hub.challenge=42&hub.verify_token="
    answer = await edge.post(f"{target}token", b"", (), method="GET")
    assert (answer.status, answer.body) == (200, b"42")
    assert (await edge.post(f"{target}wrong", b"", (), method="GET")).status == 401
    assert (await edge.post("/hook/meta", b"", (), method="GET")).status == 405
    assert edge.events() == []


@pytest.mark.parametrize("media_type", ["application/json", "text/plain", "application/x-www-form-urlencoded"])
@pytest.mark.parametrize("body", ['{"forged": true}', "[1]", '"a"', "17", "a", "a=1", "a%5B0%5D=1"])
async def test_nobody_gets_an_event_signed_by_asking_as_x_does(edge, body, media_type):
    requested = await edge.post(f"/hook/x?crc_token={quote(body, safe='')}", b"", (), method="GET")
    signature = requested.json().get("response_token", "none").encode()
    headers = [("Content-Type", media_type), ("X-Twitter-Webhooks-Signature", signature.decode())]
    assert (await edge.post("/hook/x", body.encode(), headers)).status in (400, 401)
    assert edge.events() == []


async def test_events_of_x_are_events(edge):
    body = b'{"for_user_id": "2244994945"}'
    signature = b64encode(hmac.digest(KEY, body, "sha256")).decode()
    headers = [("Content-Type", "application/json"), ("X-Twitter-Webhooks-Signature", f"sha256={signature}")]
    assert (await edge.post("/hook/x", body, headers)).status == 202


async def test_events_of_the_same_sender_are_events(edge):
    body = b'{"type": "event_callback", "event_id": "Ev1", "challenge": "abc"}'
    assert (await edge.post("/hook/slack", body, signed_by_slack(body))).status == 202
    assert len(edge.events()) == 1


async def test_only_those_who_may_call_are_answered(edge):
    edge.router.put_flow("inner", auth={"x": {"secret": "k"}}, allow_from=["192.0.2.0/24"], methods=["GET", "POST"])
    assert (await edge.post("/hook/inner?crc_token=abc", b"", (), method="GET")).status == 403


async def test_no_rejection_shows_the_token_of_a_handshake(edge):
    target = "/hook/meta?hub.mode=subscribe&hub.challenge=42&hub.verify_token=another-ones"
    assert (await edge.post(target, b"", (), method="GET")).status == 401
    async with asyncio.timeout(PATIENCE):
        while not edge.router.rejections:
            await asyncio.sleep(0.02)
    assert edge.router.rejections[0].query == "hub.mode=…&hub.challenge=…&hub.verify_token=…"


async def test_azure_event_grid_validates_a_subscription_by_a_post_with_the_secret_in_the_url(edge):
    edge.router.put_flow("azure", auth={"azure-event-grid": {"secret": "k"}}, accept={"filter": "false"})
    validation = {
        "id": "2d1781af-3a4c-4d7c-bd0c-e34b19da4e66",
        "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
        "data": {"validationCode": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6"},
    }
    body, headers = json.dumps([validation]).encode(), [("Content-Type", "application/json; charset=utf-8")]
    asks = [*headers, ("aeg-event-type", "SubscriptionValidation")]
    answer = await edge.post("/hook/azure?code=sesame", body, asks)
    assert (answer.status, answer.json()) == (200, {"validationResponse": validation["data"]["validationCode"]})
    assert [(await edge.post(f"/hook/azure{query}", body, asks)).status for query in ("", "?code=other")] == [401, 401]
    assert edge.events() == []
    # another flow: an edge may still decide by the former revision of one that it knows
    edge.router.put_flow("azure-all", auth={"azure-event-grid": {"secret": "k"}})
    assert (await edge.post("/hook/azure-all?code=sesame&a=1", body, headers)).status == 202
    assert [event.query for event in edge.events()] == ["a=1"]
