"""Handshakes over HTTP: answered before the method counts, and never stored."""

from __future__ import annotations

import hashlib
import hmac
import time

import pytest

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


async def test_events_of_the_same_sender_are_events(edge):
    body = b'{"type": "event_callback", "event_id": "Ev1", "challenge": "abc"}'
    assert (await edge.post("/hook/slack", body, signed_by_slack(body))).status == 202
    assert len(edge.events()) == 1
