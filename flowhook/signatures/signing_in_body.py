"""Signs requests whose signature or timestamp is in the JSON body: writes them there, as their sender does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from flowhook.document.models.credentials import AuthKind
from flowhook.errors import InvalidError
from flowhook.json import verbatim
from flowhook.json.verbatim import JsonNumber
from flowhook.providers.scheme import FieldLocation, Layout, Scheme, SignatureMethod
from flowhook.signatures.content import compile_content
from flowhook.signatures.extract import extract_values
from flowhook.signatures.keyring import first_secret
from flowhook.signatures.signature_keys import HmacSignatureKey
from flowhook.signatures.timestamps import format_timestamp
from flowhook.signatures.types import RequestView, SignatureError
from flowhook.signatures.verification import resolve_settings

_LAYOUTS: Final = (Layout.WHOLE, Layout.SPACES, Layout.COMMAS)


def sign_in_body(
    scheme: Scheme, kind: AuthKind, secrets: Mapping[str, bytes], body: bytes, now: float, *, items: str = ""
) -> bytes:
    """Return the body with a new timestamp and signature, as far as they belong there; numbers stay as written.

    Args:
        scheme: how to sign.
        kind: names the secrets.
        secrets: value by name.
        body: a JSON text.
        now: Unix time in seconds.
        items: member of the body with an array whose items are signed one by one; empty: the body is signed.

    Raises:
        InvalidError: no secret is set, or it can't be decoded (`SECRET_NOT_SET`, `SECRET_INVALID`); the body is not
            JSON or lacks a value that is signed (`BODY_INVALID`); its kind of signature is not one that can be made
            (`CANNOT_SIGN`).
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
                _write(value, locations.signature.name, _signature(scheme, kind, secrets, verbatim.dumps(value)))
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


def _signature(scheme: Scheme, kind: AuthKind, secrets: Mapping[str, bytes], body: bytes) -> str:
    request = RequestView("POST", "", "", "", (), body)
    locations = scheme.locations[0]
    secret_name, secret = first_secret(kind, secrets)
    try:
        chunks = compile_content(resolve_settings(scheme, kind))(
            request, _value(request, locations.timestamp), _value(request, locations.id)
        )
        key = HmacSignatureKey(scheme, secret)
    except SignatureError as error:
        raise InvalidError(error.detail, reason="HEADER_MISSING") from None
    except ValueError as error:
        raise InvalidError(f"secret {secret_name} {error}", reason="SECRET_INVALID") from None
    return f"{scheme.tag}{key.sign(chunks).decode()}"


def _value(request: RequestView, location: FieldLocation | None) -> bytes:
    found = [] if location is None or location.kind != "field" else extract_values(request, location)
    return found[0] if found else b""
