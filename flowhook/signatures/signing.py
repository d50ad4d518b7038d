"""Signs requests as a sender does, by the same `Scheme` that verification uses."""

from __future__ import annotations

import secrets as random
from collections.abc import Mapping
from typing import Final

from flowhook.document.models.credentials import AuthKind
from flowhook.errors import InvalidError
from flowhook.providers.scheme import FieldLocation, Layout, Scheme, SignatureMethod
from flowhook.signatures.content import compile_content
from flowhook.signatures.extract import extract_values
from flowhook.signatures.keyring import first_secret, make_key
from flowhook.signatures.signature_keys import HmacSignatureKey
from flowhook.signatures.timestamps import format_timestamp
from flowhook.signatures.types import RequestView, SignatureError
from flowhook.signatures.verification import resolve_settings

_HEADERS: Final = ("header", "numbered")


def sign_request(
    scheme: Scheme, kind: AuthKind, secrets: Mapping[str, bytes], request: RequestView, now: float
) -> list[tuple[str, str]]:
    """Return the headers that make a request pass `SignatureVerifier`.

    Args:
        scheme: how to sign.
        kind: names the secrets.
        secrets: value by name.
        request: what will be sent, its body from `sign_in_body`; a timestamp or an ID in its headers is used, otherwise
            one is generated.
        now: Unix time in seconds.

    Raises:
        InvalidError: no secret is set, or it can't be decoded (`SECRET_NOT_SET`, `SECRET_INVALID`); a signed header is
            missing (`HEADER_MISSING`); signing needs a private key, or the signature, timestamp or ID belongs in the
            query string, or a token in the body (`CANNOT_SIGN`).
    """
    _check_signable(scheme, kind)
    locations = scheme.locations[0]
    if locations.signature.kind == "field":
        return []  # `sign_in_body` has written it
    present = dict(request.headers)
    added: list[tuple[str, str]] = []

    def provide(location: FieldLocation | None, value: str) -> bytes:
        if location is None or location.kind == "pair":
            return value.encode()
        if location.kind == "field":
            return next(iter(extract_values(request, location)), b"")
        if location.name.lower() not in present:
            added.append((location.name, value))
            return value.encode()
        return present[location.name.lower()]

    timestamp = provide(locations.timestamp, format_timestamp(now, scheme.unit)) if scheme.unit else b""
    message_id = provide(locations.id, f"msg_{random.token_hex(16)}") if locations.id else b""
    secret_name, secret = first_secret(kind, secrets)
    try:
        if scheme.method is SignatureMethod.TOKEN:
            signature = make_key(secret, scheme).decode("latin-1")
        else:
            complete = request._replace(headers=[*request.headers, *((n.lower(), v.encode()) for n, v in added)])
            chunks = compile_content(resolve_settings(scheme, kind))(complete, timestamp, message_id)
            signature = HmacSignatureKey(scheme, secret).sign(chunks).decode()
    except SignatureError as error:
        raise InvalidError(error.detail, reason="HEADER_MISSING") from None
    except ValueError as error:
        raise InvalidError(f"secret {secret_name} {error}", reason="SECRET_INVALID") from None
    name = locations.signature.name
    value = _in_layout(scheme, timestamp.decode(), signature)
    return [*added, (f"{name}1" if locations.signature.kind == "numbered" else name, value)]


def _check_signable(scheme: Scheme, kind: AuthKind) -> None:
    locations = scheme.locations[0]
    if scheme.method not in (SignatureMethod.HMAC, SignatureMethod.TOKEN):
        raise InvalidError(f"{kind.kind} signs with a private key, which only the sender has", reason="CANNOT_SIGN")
    if any(location is not None and location.kind == "query" for location in locations):
        raise InvalidError(f"{kind.kind} signs in the query string", reason="CANNOT_SIGN")
    if locations.signature.kind == "field" and scheme.method is SignatureMethod.TOKEN:
        raise InvalidError(f"{kind.kind} has its secret in the body, where only senders write", reason="CANNOT_SIGN")


def _in_layout(scheme: Scheme, timestamp: str, signature: str) -> str:
    """Return the value of the header with the signature."""
    if scheme.layout is not Layout.PAIRS:
        return f"{scheme.tag}{signature}"
    location = scheme.locations[0].timestamp
    stamp = "" if location is None else f"{location.name}={timestamp}{scheme.separator}"
    return f"{stamp}{scheme.tag}={signature}"
