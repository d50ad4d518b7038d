"""Makes the request of a sender of webhooks, signed as the flow requires: `flowhook send` and SignWebhook use it.

Must not live here: HTTP, the fetching of secrets.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from typing import Final, NamedTuple

from flowhook.document.loader import FlowDocument
from flowhook.document.models.credentials import AuthKind
from flowhook.document.models.webhook import Webhook
from flowhook.errors import InvalidError
from flowhook.expressions.syntax import strip_markers
from flowhook.json import verbatim
from flowhook.providers.scheme import FieldLocation
from flowhook.signatures.build import delivery_id_locations, sign, sign_body, sign_url, signature_headers, validity
from flowhook.signatures.credentials import CredentialPlace, credential_place, sends_secret
from flowhook.signatures.keys import first_secret

Headers = list[tuple[str, str]]

BODILESS: Final = ("GET", "DELETE")  # methods without a body, unless there is one

_KEY: Final = re.compile(
    r"\.(?P<part>headers|query|body)(?:\.(?P<path>\w+(?:\.\w+)*)|\[\"(?P<name>[^\"\\]+)\"\])", re.ASCII
)
_OWN_TEST_PAGE: Final = "send a test event from the sender's own settings, or add a kind that has a secret to `auth`"


class WebhookRequest(NamedTuple):
    """The request before it is signed."""

    base: str  # scheme and host of the edge as senders see it, without a path
    method: str  # upper case; empty: POST if the flow accepts it, else the first method that it accepts
    content_type: str  # media type of the body; empty: none is sent
    headers: Headers  # further headers
    body: bytes


class SignedWebhook(NamedTuple):
    """The request to send."""

    method: str  # upper case
    url: str  # with path and query
    headers: Headers  # in order, Content-Type and those of the signature included; Host and Content-Length are not
    body: bytes
    kind: str = ""  # kind of `auth` that it satisfies; empty: the flow has none
    secret: str = ""  # name of the secret that it is signed with; empty: none
    validity: float | None = None  # seconds from now in which it is accepted; None: unlimited
    # where the sender puts the secret itself, which was left out; None: the request is complete
    credential: CredentialPlace | None = None


def sign_webhook(
    document: FlowDocument,
    secrets: Mapping[str, bytes],
    request: WebhookRequest,
    *,
    now: float,
    new_id: bool = False,
    with_credentials: bool = True,
    replace_signature: bool = False,
) -> SignedWebhook:
    """Return the request, signed as required by the first kind of `auth` that can be satisfied.

    Blocking, for some 50 ms with a body of 1 MiB.

    Args:
        document: the flow.
        secrets: value by name, of those that the webhook names.
        request: what to send.
        now: Unix time in seconds.
        new_id: give it a new delivery ID.
        with_credentials: False: a kind that sends the secret itself gets `SignedWebhook.credential` in place of it, and
            is used only if no other kind can be satisfied.
        replace_signature: remove signatures and timestamps from the headers, because they are those of a request that
            was captured earlier.

    Raises:
        InvalidError: the flow has no webhook (`NO_WEBHOOK`) or does not accept the method (`METHOD_NOT_ACCEPTED`); no
            kind can be satisfied: the reasons of `flowhook.signatures.sign`, and `DELIVERY_ID_FIXED`.
    """
    webhook = document.webhook
    if webhook is None:
        raise InvalidError(f"flow {document.id} has no webhook; start it over gRPC", reason="NO_WEBHOOK")
    request = request._replace(method=_method(document.id, webhook, request.method))
    refusal: InvalidError | None = None
    incomplete: SignedWebhook | None = None
    for kind in webhook.auth or (None,):
        left_out = kind is not None and not with_credentials and sends_secret(kind)
        try:
            unsigned = _unsigned(document, kind, request, new_id=new_id, drop_signature=left_out or replace_signature)
            if kind is None or not left_out:
                return _signed(unsigned, kind, secrets, now)
            incomplete = incomplete or unsigned._replace(
                kind=kind.kind, secret=first_secret(kind, secrets)[0], credential=credential_place(kind)
            )
        except InvalidError as error:
            refusal = refusal or _with_remedy(error, kind)
    if incomplete is not None:
        return incomplete
    raise refusal or InvalidError(f"requests to flow {document.id} can't be signed", reason="NOT_SIGNED")


def _method(flow_id: str, webhook: Webhook, method: str) -> str:
    if not method:
        return "POST" if "POST" in webhook.methods else webhook.methods[0]
    if method not in webhook.methods:
        raise InvalidError(
            f"flow {flow_id} does not accept {method[:16]}: write {' or '.join(webhook.methods)}",
            reason="METHOD_NOT_ACCEPTED",
        )
    return method


def _unsigned(
    document: FlowDocument, kind: AuthKind | None, request: WebhookRequest, *, new_id: bool, drop_signature: bool
) -> SignedWebhook:
    headers, body = list(request.headers), request.body
    if request.content_type and (body or request.method not in BODILESS):
        headers.insert(0, ("Content-Type", request.content_type))
    if new_id:
        headers, body = _renew_delivery_id(document, kind, headers, body)
    if drop_signature and kind is not None:
        stale = signature_headers(kind)
        headers = [(name, value) for name, value in headers if name.lower() not in stale]
    return SignedWebhook(request.method, f"{request.base.rstrip('/')}/hook/{document.id}", headers, body)


def _signed(unsigned: SignedWebhook, kind: AuthKind | None, secrets: Mapping[str, bytes], now: float) -> SignedWebhook:
    method, url, headers, body, *_ = unsigned
    url = sign_url(kind, secrets, url)
    body = sign_body(kind, secrets, body, now)
    added = sign(kind, secrets, method=method, url=url, body=body, headers=headers, now=now)
    signed = SignedWebhook(method, url, [*headers, *added], body)
    if kind is None:
        return signed
    secret = first_secret(kind, secrets)[0] if kind.secret_names else ""
    return signed._replace(kind=kind.kind, secret=secret, validity=validity(kind))


def _with_remedy(error: InvalidError, kind: AuthKind | None) -> InvalidError:
    if kind is None:
        return error
    if error.reason == "SECRET_NOT_SET":
        return InvalidError(f"{error.message}: flowhook secrets set {kind.secret_names[0]}", reason=error.reason)
    if error.reason == "CANNOT_SIGN":
        return InvalidError(f"{error.message}: {_OWN_TEST_PAGE}", reason=error.reason)
    return error


def _renew_delivery_id(
    document: FlowDocument, kind: AuthKind | None, headers: Headers, body: bytes
) -> tuple[Headers, bytes]:
    """Return the headers and body of an unsigned request with a new delivery ID; unchanged if deliveries have no ID."""
    present = {name.lower() for name, _ in headers}
    places, new_id = _delivery_ids(document, kind, headers), str(uuid.uuid4())
    chosen = [each for each in places if each.kind == "field" or each.name.lower() in present] or places[:1]
    for place in chosen:
        if place.kind == "header":
            others = [(name, value) for name, value in headers if name.lower() != place.name.lower()]
            headers = [*others, (place.name, new_id)]
        else:
            body = _with_field(body, place.name, new_id)
    return headers, body


def _delivery_ids(document: FlowDocument, kind: AuthKind | None, headers: Headers) -> list[FieldLocation]:
    key = None if document.webhook is None else document.webhook.dedupe.key
    if key == "none":
        return []
    if key is not None:
        match = _KEY.fullmatch(strip_markers(key).strip())
        if match is None or match["part"] == "query":
            raise InvalidError(
                f"the key of this flow's deliveries is {key}: choose another key", reason="DELIVERY_ID_FIXED"
            )
        return [FieldLocation("header" if match["part"] == "headers" else "field", match["path"] or match["name"])]
    found = list(delivery_id_locations(kind))
    if not found:  # CloudEvents have IDs of their own
        lower = {name.lower(): value for name, value in headers}
        if "ce-id" in lower:
            return [FieldLocation("header", "ce-id")]
        if lower.get("content-type", "").startswith("application/cloudevents+json"):
            return [FieldLocation("field", "id")]
    return found


def _with_field(body: bytes, path: str, value: str) -> bytes:
    try:
        content = verbatim.loads(body)
    except ValueError:
        content = None
    *around, last = path.split(".")
    inner = content
    for name in around:
        inner = inner.get(name) if isinstance(inner, dict) else None
    if not isinstance(inner, dict):
        raise InvalidError(
            f"the delivery's ID is `{path}` of the body, which does not have it", reason="DELIVERY_ID_FIXED"
        )
    inner[last] = value
    try:
        return verbatim.dumps(content)
    except ValueError:
        raise InvalidError("the body is too deeply nested to change its ID", reason="DELIVERY_ID_FIXED") from None
