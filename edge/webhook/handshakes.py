"""Answers the handshakes by which providers validate a webhook URL when it is registered with them.

A handshake is answered whether the flow is paused or not, and makes no event. Some providers send it unsigned, as a
request that no event resembles (`early`). Others sign it, and get a response only if the signature is valid (`late`).
Echoed text has a bounded length and a type that no browser renders as a page.

Source: the pages that `flowhook.providers.table` names for each provider, and those named at the functions.
"""

from __future__ import annotations

import hmac
import re
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

import orjson

from edge.http import responses
from edge.http.responses import Response
from flowhook.document.models.credentials import AuthKind
from flowhook.providers import Handshake
from flowhook.providers.table import AWS_SNS_HOST
from flowhook.signatures.types import Match, RequestView, json_of

MAX_ECHO: Final = 2048  # maximum number of characters of a challenge that is echoed
_TEXT: Final = ((b"Content-Type", b"text/plain; charset=utf-8"), (b"X-Content-Type-Options", b"nosniff"))
_JSON: Final = ((b"Content-Type", b"application/json"),)
_ECHOED: Final = re.compile(r"[\x20-\x7e]+")
# The token that X sends to be signed: base64. X's events are JSON objects, so none of them matches.
_CRC: Final = re.compile(r"[A-Za-z0-9+/=_-]{1,256}")

# URL at which Amazon SNS expects a subscription to be confirmed.
SUBSCRIBE_URL: Final = re.compile(rf"https://{AWS_SNS_HOST}/\?Action=ConfirmSubscription&[A-Za-z0-9%&=_.:~-]{{1,2048}}")


class FetchUrl(NamedTuple):
    """Instruction to fetch a URL and then respond with `DONE`."""

    url: str


DONE: Final = responses.build_response(200, (), b"")

Early = Callable[[AuthKind, Mapping[str, bytes], RequestView], Response | None]
Late = Callable[[bytes, RequestView, Mapping[str, Any]], Response | FetchUrl | None]


class Handshakes:
    """The handshakes of one endpoint."""

    __slots__ = ("_early", "_late", "_secrets")

    def __init__(self, kinds: Sequence[AuthKind], secrets: Mapping[str, bytes]) -> None:
        self._early = [(kind, _EARLY[kind.handshake]) for kind in kinds if kind.handshake in _EARLY]
        self._late = {kind.kind: _LATE[kind.handshake] for kind in kinds if kind.handshake in _LATE}
        names = {name for kind in kinds for name in (*kind.secret_names, *kind.other_secret_names)}
        self._secrets = {name: secrets[name] for name in names if secrets.get(name)}

    @property
    def paths(self) -> Sequence[tuple[str, ...]]:
        """Paths of the parsed body that `late` reads."""
        return _LOOKED_AT if self._late else ()

    def __bool__(self) -> bool:
        return bool(self._early or self._late)

    def early(self, request: RequestView) -> Response | None:
        """Return the response to an unsigned handshake, given a request without its body; None: it is no handshake."""
        for kind, answer in self._early:
            answered = answer(kind, self._secrets, request)
            if answered is not None:
                return answered
        return None

    def late(self, match: Match, request: RequestView, content: Any) -> Response | FetchUrl | None:
        """Return the response to a handshake with a valid signature; None: the request is an event."""
        answer = self._late.get(match.scheme)
        if answer is None:
            return None
        return answer(self._secrets.get(match.secret, b""), request, content if isinstance(content, dict) else {})


def _echo(text: object) -> Response | None:
    """Return a response that echoes a challenge as text; None when it is not safe to echo."""
    if not isinstance(text, str) or not _ECHOED.fullmatch(text) or len(text) > MAX_ECHO:
        return None
    return responses.build_response(200, _TEXT, text.encode())


def _json(value: object) -> Response:
    return responses.build_response(200, _JSON, orjson.dumps(value))


def _parameters(request: RequestView) -> dict[str, str]:
    try:
        return dict(parse_qsl(request.query, keep_blank_values=True, max_num_fields=100))
    except ValueError:
        return {}


def _header(request: RequestView, name: str) -> str:
    return next((value.decode("latin-1") for key, value in request.headers if key == name), "")


def _meta(kind: AuthKind, secrets: Mapping[str, bytes], request: RequestView) -> Response | None:
    if request.method != "GET":
        return None
    sent = _parameters(request)
    if sent.get("hub.mode") != "subscribe":
        return None
    token = sha256(sent.get("hub.verify_token", "").encode()).digest()
    known = [secrets[name] for name in kind.other_secret_names if name in secrets]
    if not any(hmac.compare_digest(token, sha256(secret).digest()) for secret in known):
        return responses.UNAUTHENTICATED
    return _echo(sent.get("hub.challenge"))


def _dropbox(_kind: AuthKind, _secrets: Mapping[str, bytes], request: RequestView) -> Response | None:
    return _echo(_parameters(request).get("challenge")) if request.method == "GET" else None


def _x(kind: AuthKind, secrets: Mapping[str, bytes], request: RequestView) -> Response | None:
    """Sign the token of a CRC request, which anybody may send; `_x_signed` refuses events signed that way."""
    token = _parameters(request).get("crc_token", "") if request.method == "GET" else ""
    known = [secrets[name] for name in kind.secret_names if name in secrets]
    if not _CRC.fullmatch(token) or not known:
        return None
    return _json({"response_token": f"sha256={b64encode(hmac.digest(known[0], token.encode(), 'sha256')).decode()}"})


def _x_signed(_secret: bytes, request: RequestView, _content: Mapping[str, Any]) -> Response | None:
    """Refuse a body whose signature anybody can obtain from `_x`."""
    return responses.UNAUTHENTICATED if _CRC.fullmatch(request.body[:MAX_ECHO].decode("latin-1")) else None


def _microsoft_graph(_kind: AuthKind, _secrets: Mapping[str, bytes], request: RequestView) -> Response | None:
    return _echo(_parameters(request).get("validationToken")) if request.method == "POST" else None


def _asana(_kind: AuthKind, _secrets: Mapping[str, bytes], request: RequestView) -> Response | None:
    """Echo the key that Asana chose; the creator of the webhook also gets it from Asana, and sets the secret."""
    key = _header(request, "x-hook-secret")
    if request.method != "POST" or not key or _header(request, "x-hook-signature") or not _ECHOED.fullmatch(key):
        return None
    return responses.build_response(200, ((b"X-Hook-Secret", key.encode()),), b"") if len(key) <= MAX_ECHO else None


def _slack(_secret: bytes, _request: RequestView, content: Mapping[str, Any]) -> Response | None:
    return _echo(content.get("challenge")) if content.get("type") == "url_verification" else None


def _zoom(secret: bytes, _request: RequestView, content: Mapping[str, Any]) -> Response | None:
    payload = content.get("payload")
    token = payload.get("plainToken") if isinstance(payload, dict) else None
    if content.get("event") != "endpoint.url_validation" or not isinstance(token, str) or len(token) > MAX_ECHO:
        return None
    return _json({"plainToken": token, "encryptedToken": hmac.digest(secret, token.encode(), "sha256").hex()})


def _discord(_secret: bytes, _request: RequestView, content: Mapping[str, Any]) -> Response | None:
    """Answer the pings of webhook events, and of interactions, whose other types are numbers from 2.

    Discord requires a valid Content-Type, also of the answer that has no body.
    Source: https://discord.com/developers/docs/events/webhook-events#setting-up-an-endpoint
    """
    if content.get("type") == 0:
        return responses.build_response(204, _JSON, b"")
    return _json({"type": 1}) if content.get("type") == 1 and "event" not in content else None


def _twitch(_secret: bytes, request: RequestView, content: Mapping[str, Any]) -> Response | None:
    kind = _header(request, "twitch-eventsub-message-type")
    return _echo(content.get("challenge")) if kind == "webhook_callback_verification" else None


def _azure_event_grid(_secret: bytes, request: RequestView, _content: Mapping[str, Any]) -> Response | None:
    """Return the code of the event that validates a subscription, which is the only one in a list.

    Source: https://learn.microsoft.com/en-us/azure/event-grid/end-point-validation-event-grid-events-schema
    """
    if _header(request, "aeg-event-type") != "SubscriptionValidation":
        return None
    events = json_of(request)
    data = events[0].get("data") if isinstance(events, list) and events and isinstance(events[0], dict) else None
    code = data.get("validationCode") if isinstance(data, dict) else None
    return _json({"validationResponse": code}) if isinstance(code, str) and len(code) <= MAX_ECHO else None


def _aws_sns(_secret: bytes, request: RequestView, _content: Mapping[str, Any]) -> Response | FetchUrl | None:
    """Confirm a subscription, or acknowledge its end. SNS sends both as plain text, so the body is parsed here.

    Source: https://docs.aws.amazon.com/sns/latest/dg/http-subscription-confirmation-json.html
    """
    message = json_of(request)  # an object, because it was verified
    if message["Type"] != "SubscriptionConfirmation":
        return DONE if message["Type"] == "UnsubscribeConfirmation" else None
    url = message["SubscribeURL"]
    return FetchUrl(url) if SUBSCRIBE_URL.fullmatch(url) else responses.BODY_INVALID


_LOOKED_AT: Final = (("challenge",), ("event",), ("payload", "plainToken"), ("type",))

_EARLY: Final[Mapping[Handshake | None, Early]] = {
    Handshake.ECHO_HEADER: _asana,
    Handshake.ECHO_QUERY_CHALLENGE: _dropbox,
    Handshake.ECHO_VALIDATION_TOKEN: _microsoft_graph,
    Handshake.SIGN_CRC_TOKEN: _x,
    Handshake.VERIFY_TOKEN: _meta,
}
_LATE: Final[Mapping[Handshake | None, Late]] = {
    Handshake.CONFIRM_SUBSCRIPTION: _aws_sns,
    Handshake.ECHO_BODY_CHALLENGE: _slack,
    Handshake.ECHO_MESSAGE_CHALLENGE: _twitch,
    Handshake.ECHO_VALIDATION_CODE: _azure_event_grid,
    Handshake.PING: _discord,
    Handshake.SIGN_CRC_TOKEN: _x_signed,
    Handshake.SIGN_PLAIN_TOKEN: _zoom,
}

IMPLEMENTED: Final = frozenset(filter(None, (*_EARLY, *_LATE)))  # the handshakes that are answered
