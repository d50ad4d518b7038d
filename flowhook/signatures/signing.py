"""Signs requests as a sender does, by the same `Scheme` that verification uses."""

from __future__ import annotations

import secrets as random
from collections.abc import Mapping
from typing import Any, Final

from flowhook.document.models.credentials import AuthKind
from flowhook.errors import InvalidError
from flowhook.json import verbatim
from flowhook.json.verbatim import JsonNumber
from flowhook.providers.scheme import FieldLocation, Layout, Scheme, SignatureMethod
from flowhook.signatures.content import compile_content
from flowhook.signatures.keys import HmacSignatureKey, first_secret, make_key
from flowhook.signatures.request_values import extract_values
from flowhook.signatures.schemes import resolve_settings
from flowhook.signatures.timestamps import format_timestamp
from flowhook.signatures.types import RequestView, SignatureError


def sign_request(
    scheme: Scheme, kind: AuthKind, secrets: Mapping[str, bytes], request: RequestView, now: float
) -> list[tuple[str, str]]:
    """Return the headers that make a request, with its body from `sign_in_body`, pass `SignatureVerifier`.

    A timestamp or an ID in its headers is used, otherwise one is generated. Raises InvalidError as `build.sign` does.
    """
    locations = scheme.locations[0]
    if scheme.method not in (SignatureMethod.HMAC, SignatureMethod.TOKEN):
        raise InvalidError(f"{kind.kind} signs with a private key, which only the sender has", reason="CANNOT_SIGN")
    if any(location is not None and location.kind == "query" for location in locations):
        raise InvalidError(f"{kind.kind} signs in the query string", reason="CANNOT_SIGN")
    if locations.signature.kind == "field" and scheme.method is SignatureMethod.TOKEN:
        raise InvalidError(f"{kind.kind} has its secret in the body, where only senders write", reason="CANNOT_SIGN")
    if locations.signature.kind == "field":
        return []  # `sign_in_body` has written it
    present = dict(request.headers)
    added: list[tuple[str, str]] = []

    def provide(location: FieldLocation | None, value: str) -> bytes:
        if location is None or location.kind == "pair":
            return value.encode()
        if location.kind == "field":
            return _field(request, location)
        if location.name.lower() not in present:
            added.append((location.name, value))
            return value.encode()
        return present[location.name.lower()]

    timestamp = provide(locations.timestamp, format_timestamp(now, scheme.unit)) if scheme.unit else b""
    message_id = provide(locations.id, f"msg_{random.token_hex(16)}") if locations.id else b""
    complete = request._replace(headers=[*request.headers, *((n.lower(), v.encode()) for n, v in added)])
    signature = _signature(scheme, kind, secrets, complete, (timestamp, message_id))
    name = locations.signature.name
    value = _in_layout(scheme, timestamp.decode(), signature)
    return [*added, (f"{name}1" if locations.signature.kind == "numbered" else name, value)]


def _in_layout(scheme: Scheme, timestamp: str, signature: str) -> str:
    if scheme.layout is not Layout.PAIRS:
        return f"{scheme.tag}{signature}"
    location = scheme.locations[0].timestamp
    stamp = "" if location is None else f"{location.name}={timestamp}{scheme.separator}"
    return f"{stamp}{scheme.tag}={signature}"


_LAYOUTS: Final = (Layout.WHOLE, Layout.SPACES, Layout.COMMAS)


def sign_in_body(
    scheme: Scheme, kind: AuthKind, secrets: Mapping[str, bytes], body: bytes, now: float, *, items: str = ""
) -> bytes:
    """Return a JSON body with a new timestamp and signature, as far as they belong there; numbers stay as written.

    `items`: the member with an array whose items are signed one by one; empty: the body is signed. Raises InvalidError
    as `build.sign_body` does.
    """
    locations = scheme.locations[0]
    signs = locations.signature.kind == "field"
    if not signs and (locations.timestamp is None or locations.timestamp.kind != "field"):
        return body
    if signs and (scheme.method is not SignatureMethod.HMAC or scheme.layout not in _LAYOUTS):
        raise InvalidError(f"{kind.kind} has a signature in the body that only its sender writes", reason="CANNOT_SIGN")
    try:
        content = verbatim.loads(body)
        values = content[items] if items else [content]
        for value in values:
            if locations.timestamp is not None and locations.timestamp.kind == "field" and scheme.unit is not None:
                _write_time(value, locations.timestamp.name, format_timestamp(now, scheme.unit), scheme)
            if signs:
                written = RequestView("POST", "", "", "", (), verbatim.dumps(value))
                sent = (_field(written, locations.timestamp), _field(written, locations.id))
                signature = _signature(scheme, kind, secrets, written, sent)
                _write(value, locations.signature.name, f"{scheme.tag}{signature}")
        return verbatim.dumps(content)
    except (ValueError, TypeError, LookupError):
        raise InvalidError(
            f"the body of {kind.kind} must be JSON, and have the members that are signed", reason="BODY_INVALID"
        ) from None


def _write_time(value: Any, path: str, text: str, scheme: Scheme) -> None:
    """Write a timestamp as a number if one was there, or milliseconds if nothing was."""
    found = value
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    numeric = isinstance(found, JsonNumber) or (found is None and scheme.unit == "ms")
    _write(value, path, JsonNumber(text) if numeric else text)


def _write(value: Any, path: str, new: Any) -> None:
    *around, last = path.split(".")
    for name in around:
        value = value.setdefault(name, {}) if isinstance(value, dict) else value[name]
    if not isinstance(value, dict):
        raise TypeError(path)
    value[last] = new


def _signature(
    scheme: Scheme, kind: AuthKind, secrets: Mapping[str, bytes], request: RequestView, sent: tuple[bytes, bytes]
) -> str:
    """Return the signature by the first secret that is set, or that secret itself; `sent`: timestamp and ID."""
    name, secret = first_secret(kind, secrets)
    try:
        if scheme.method is SignatureMethod.TOKEN:
            return make_key(secret, scheme).decode("latin-1")
        chunks = compile_content(resolve_settings(scheme, kind))(request, *sent)
        return HmacSignatureKey(scheme, secret).sign(chunks).decode()
    except SignatureError as error:
        raise InvalidError(error.detail, reason="HEADER_MISSING") from None
    except ValueError as error:
        raise InvalidError(f"secret {name} {error}", reason="SECRET_INVALID") from None


def _field(request: RequestView, location: FieldLocation | None) -> bytes:
    """Return a value of the body; empty if it is not there, or elsewhere."""
    found = [] if location is None or location.kind != "field" else extract_values(request, location)
    return found[0] if found else b""
