"""Providers get the answers that they wait for, and nothing else is taken for a question."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from urllib.parse import urlencode

import orjson
import pytest
from support.cases import cases

from edge.webhook.handshakes import MAX_ECHO, Handshakes
from flowhook.document.models.auth import parse_auth
from flowhook.signatures.types import Match, RequestView

SECRETS = {"k": b"sesame", "v": b"token"}
KEY = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"


def handshakes(auth):
    return Handshakes(parse_auth(auth), SECRETS)


def request(method="GET", headers=(), **query):
    text = urlencode({name.replace("_", ".", 1) if name.startswith("hub") else name: v for name, v in query.items()})
    return RequestView(method, f"https://h/hook/f?{text}", "/hook/f", text, list(headers), b"")


def early(name, sent, **more):
    return handshakes({name: {"secret": "k", **more}}).early(sent)


def late(name, content, headers=(), auth=None):
    return handshakes(auth or {name: {"secret": "k"}}).late(Match(name, "k"), request("POST", headers), content)


def test_meta_gets_its_challenge_when_it_shows_the_token():
    question = {"hub_mode": "subscribe", "hub_challenge": "1158201444"}
    answer = early("meta", request(hub_verify_token="token", **question), verify_token="v")
    assert (answer.status, answer.body) == (200, b"1158201444")
    assert b"text/plain" in answer.head
    assert b"nosniff" in answer.head
    assert early("whatsapp", request(hub_verify_token="token", **question), verify_token="v").status == 200
    assert early("meta", request(hub_verify_token="wrong", **question), verify_token="v").status == 401
    assert early("meta", request(**question), verify_token="v").status == 401
    assert early("meta", request(hub_verify_token="token", **question)).status == 401
    assert early("meta", request("POST", hub_verify_token="token", **question), verify_token="v") is None


def test_dropbox_gets_its_challenge():
    assert early("dropbox", request(challenge="abc")).body == b"abc"
    assert early("dropbox", request("POST", challenge="abc")) is None
    assert early("dropbox", request()) is None


@pytest.mark.parametrize("challenge", ["", "x" * (MAX_ECHO + 1), "a\r\nb", "ä", "a\x00"])
def test_what_is_no_challenge_is_not_echoed(challenge):
    assert early("dropbox", request(challenge=challenge)) is None


def test_x_gets_a_signature_of_its_token():
    signature = b64encode(hmac.digest(b"sesame", b"crc", "sha256")).decode()
    assert orjson.loads(early("x", request(crc_token="crc")).body) == {"response_token": f"sha256={signature}"}
    assert early("x", request("POST", crc_token="crc")) is None


def test_microsoft_graph_gets_its_token():
    assert early("microsoft-graph", request("POST", validationToken="a b")).body == b"a b"
    assert early("microsoft-graph", request("POST")) is None


def test_asana_gets_its_key():
    answer = early("asana", request("POST", [("x-hook-secret", b"abc")]))
    assert (answer.status, b"X-Hook-Secret: abc\r\n" in answer.head) == (200, True)
    assert early("asana", request("POST", [("x-hook-secret", b"abc"), ("x-hook-signature", b"00")])) is None
    assert early("asana", request("POST", [("x-hook-secret", b"a\xff")])) is None


def test_slack_gets_its_challenge():
    assert late("slack", {"type": "url_verification", "challenge": "abc"}).body == b"abc"
    assert late("slack", {"type": "event_callback", "challenge": "abc"}) is None


def test_zoom_gets_a_signature_of_its_token():
    answer = late("zoom", {"event": "endpoint.url_validation", "payload": {"plainToken": "abc"}})
    digest = hmac.new(b"sesame", b"abc", hashlib.sha256).hexdigest()
    assert orjson.loads(answer.body) == {"plainToken": "abc", "encryptedToken": digest}
    assert late("zoom", {"event": "meeting.started", "payload": {"plainToken": "abc"}}) is None
    assert late("zoom", {"event": "endpoint.url_validation", "payload": []}) is None


def test_discord_gets_its_pong():
    auth = {"discord": {"public_key": KEY}}
    pong = late("discord", {"type": 0}, auth=auth)
    assert (pong.status, pong.body) == (204, b"")
    assert b"Content-Type: application/json\r\n" in pong.head
    assert orjson.loads(late("discord", {"type": 1}, auth=auth).body) == {"type": 1}
    assert late("discord", {"type": 1, "event": {"type": "APPLICATION_AUTHORIZED"}}, auth=auth) is None
    assert late("discord", {"type": 2}, auth=auth) is None


def test_twitch_gets_its_challenge():
    kind = ("twitch-eventsub-message-type", b"webhook_callback_verification")
    assert late("twitch", {"challenge": "abc"}, [kind]).body == b"abc"
    assert late("twitch", {"challenge": "abc"}) is None


VALIDATION = {  # after the example on the vendor's page
    "id": "2d1781af-3a4c-4d7c-bd0c-e34b19da4e66",
    "topic": "/subscriptions/xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
    "subject": "",
    "data": {
        "validationCode": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6",
        "validationUrl": "https://rp-eastus2.eventgrid.azure.net:553/eventsubscriptions/myeventsub/validate?id=0",
    },
    "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
    "eventTime": "2022-10-28T04:23:35.1981776Z",
    "metadataVersion": "1",
    "dataVersion": "1",
}
ASKS = ("aeg-event-type", b"SubscriptionValidation")


def validated(body, *headers):
    sent = request("POST", headers)._replace(body=body)
    return handshakes({"azure-event-grid": {"secret": "k"}}).late(Match("azure-event-grid", "k"), sent, None)


def test_azure_event_grid_gets_its_code():
    answer = validated(orjson.dumps([VALIDATION]), ASKS)
    assert (answer.status, orjson.loads(answer.body)) == (
        200,
        {"validationResponse": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6"},
    )
    assert b"Content-Type: application/json\r\n" in answer.head
    assert validated(orjson.dumps([VALIDATION]), ("aeg-event-type", b"Notification")) is None


@cases(
    "body",
    [
        *(b"", b"{", b"{}", b"[]", b"[7]", b'[{"data":7}]', b'[{"data":{"validationCode":7}}]'),
        b'[{"data":{"validationCode":"%b"}}]' % (b"x" * (MAX_ECHO + 1)),
    ],
)
def test_an_event_without_a_code_is_no_handshake_of_azure_event_grid(body):
    assert validated(body, ASKS) is None


@cases("content", [None, [], "text", 7, {}, {"type": None, "challenge": 7}])
def test_events_are_no_handshakes(content):
    assert late("slack", content) is None


def test_a_question_of_one_provider_is_none_of_another():
    assert late("github", {"type": "url_verification", "challenge": "abc"}) is None
    assert not handshakes({"github": {"secret": "k"}})
    assert handshakes([{"github": {"secret": "k"}}, {"slack": {"secret": "k"}}])


def test_no_repr_shows_a_secret():
    assert "sesame" not in repr(handshakes({"zoom": {"secret": "k"}}))
