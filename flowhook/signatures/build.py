"""Builds verifiers, and signs requests, by the `auth` of a flow file."""

from __future__ import annotations

import math
import secrets as random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from flowhook.document.models.auth import (
    AwsSnsAuth,
    ElasticioAuth,
    PaypalAuth,
    PlaidAuth,
    StandardWebhooksAuth,
)
from flowhook.document.models.credentials import (
    ApiKeyAuth,
    AuthKind,
    BasicAuth,
    HmacAuth,
    JwtAuth,
    MtlsAuth,
    PublicKeyAuth,
)
from flowhook.errors import InvalidError
from flowhook.json import verbatim
from flowhook.json.verbatim import JsonNumber
from flowhook.providers import PROVIDERS
from flowhook.providers.scheme import SHARED, FieldLocation, Scheme, parse_content, sent
from flowhook.signatures.credentials import (
    ApiKeyVerifier,
    BasicVerifier,
    MtlsVerifier,
    NoAuthVerifier,
    authorization_header,
    key_header,
    url_with_key,
)
from flowhook.signatures.keys import HmacSignatureKey, first_secret, make_key
from flowhook.signatures.request_values import compile_content, extract_values, header_names
from flowhook.signatures.schemes import BatchItemsVerifier, SignatureVerifier, TwilioVerifier, custom_scheme
from flowhook.signatures.timestamps import format_timestamp
from flowhook.signatures.types import RequestView, SignatureError, Verifier


def build_verifiers(auth: Sequence[AuthKind], secrets: Mapping[str, bytes]) -> list[Verifier]:
    """Return one verifier per kind of `auth`, in order; for `none`, one that accepts every request.

    Everything that does not depend on the request is computed here, so build once per revision of a flow and of its
    secrets. If a secret is missing or empty, its kind refuses the requests that only this secret could prove
    (`SECRET_NOT_SET` if a kind has none at all).
    """
    return [_build(kind, secrets) for kind in auth] or [NoAuthVerifier()]


def _build(kind: AuthKind, secrets: Mapping[str, bytes]) -> Verifier:
    scheme = _scheme_of(kind)
    if scheme is None:
        return _WITHOUT_SCHEME[kind.kind](kind, secrets)
    return _WITH_CODE.get(kind.kind, SignatureVerifier)(scheme, kind, secrets)


# imported for the first flow that needs them: these two load joserfc and `cryptography`, up to 55 ms and 4 MiB


def _by_certificate(kind: AwsSnsAuth | PaypalAuth, _secrets: Mapping[str, bytes]) -> Verifier:
    from flowhook.signatures.certificates import AwsSnsVerifier, PaypalVerifier  # noqa: PLC0415 - see above

    return AwsSnsVerifier(kind) if isinstance(kind, AwsSnsAuth) else PaypalVerifier(kind)


def _by_token(kind: JwtAuth | PlaidAuth, secrets: Mapping[str, bytes]) -> Verifier:
    from flowhook.signatures.tokens import JwtVerifier, PlaidVerifier  # noqa: PLC0415 - see above

    return JwtVerifier(kind, secrets) if isinstance(kind, JwtAuth) else PlaidVerifier(kind, secrets)


_WITHOUT_SCHEME: Final[Mapping[str, Callable[[Any, Mapping[str, bytes]], Verifier]]] = {
    "api_key": ApiKeyVerifier,
    "aws-sns": _by_certificate,
    "basic": BasicVerifier,
    "jwt": _by_token,
    "mtls": lambda kind, _secrets: MtlsVerifier(kind),
    "paypal": _by_certificate,
    "plaid": _by_token,
}
"""Verifiers of kinds that no `Scheme` describes."""

# Members of the body with the items that a kind signs one by one.
_ITEMS: Final = {"adyen": "notificationItems", "microsoft-graph": "value"}

_WITH_CODE: Final[Mapping[str, Callable[[Scheme, AuthKind, Mapping[str, bytes]], Verifier]]] = {
    **{name: partial(BatchItemsVerifier, field=field) for name, field in _ITEMS.items()},
    "twilio": TwilioVerifier,
}
"""Verifiers of kinds that a `Scheme` describes only in part."""


def _scheme_of(kind: AuthKind) -> Scheme | None:
    if isinstance(kind, HmacAuth | PublicKeyAuth):
        return custom_scheme(kind)
    row = PROVIDERS.get(kind.kind)
    scheme = None if row is None else row.scheme
    if scheme is None:
        return None
    match kind:
        case ElasticioAuth():  # the header and the algorithm are set there
            return replace(scheme, locations=sent(kind.header), algorithm=kind.algorithm)
        case StandardWebhooksAuth(secret_names=()):  # the asymmetric variant of the standard
            return replace(scheme, method="ed25519", tag="v1a,", key="utf8")
    return scheme


def delivery_id_locations(kind: AuthKind | None) -> tuple[FieldLocation, ...]:
    scheme = None if kind is None else _scheme_of(kind)
    return () if scheme is None else scheme.delivery_locations


def sign(
    kind: AuthKind | None,
    secrets: Mapping[str, bytes],
    *,
    method: str,
    url: str,
    body: bytes,
    headers: Sequence[tuple[str, str]],
    now: float,
) -> list[tuple[str, str]]:
    """Return the headers that a sender adds to make a request pass, by the first secret of the kind that is set.

    None is `none`, which adds nothing. The URL is as the receiver sees it, from `sign_url`, and the body as it will be
    sent, from `sign_body`. A timestamp, an ID or another signed header is taken from the `headers` that the request
    already has; the first two are generated otherwise. `now` is Unix time in seconds.

    Raises:
        InvalidError: no secret is set (`SECRET_NOT_SET`) or it can't be used (`SECRET_INVALID`), a header that must be
            signed is missing (`HEADER_MISSING`), or a sender's headers can't be made from secrets (`CANNOT_SIGN`).
    """
    match kind:
        case None:
            return []
        case BasicAuth():
            return authorization_header(kind, secrets)
        case ApiKeyAuth():
            return key_header(kind, secrets)
        case JwtAuth():
            from flowhook.signatures.tokens import token_header  # noqa: PLC0415 - as above

            return token_header(kind, secrets, now)
        case MtlsAuth():
            raise _cannot_sign("a certificate is presented by the client that makes the connection")
    scheme = _scheme_of(kind)
    if scheme is None or scheme.method not in SHARED:
        raise _cannot_sign(f"{kind.kind} signs with a private key, which only the sender has")
    target = urlsplit(url)
    fields = [(name.lower(), value.strip().encode("utf-8", "replace")) for name, value in headers]
    return _sign_headers(scheme, kind, secrets, RequestView(method, url, target.path, target.query, fields, body), now)


def _sign_headers(
    scheme: Scheme, kind: AuthKind, secrets: Mapping[str, bytes], request: RequestView, now: float
) -> list[tuple[str, str]]:
    locations = scheme.locations
    if any(location is not None and location.kind == "query" for location in locations):
        raise _cannot_sign(f"{kind.kind} signs in the query string")
    if locations.signature.kind == "field":
        if scheme.method == "token":
            raise _cannot_sign(f"{kind.kind} has its secret in the body, where only senders write")
        return []  # `sign_body` has written it
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

    timestamp = provide(locations.timestamp, format_timestamp(now, scheme.unit)) if locations.timestamp else b""
    message_id = provide(locations.id, f"msg_{random.token_hex(16)}") if locations.id else b""
    complete = request._replace(headers=[*request.headers, *((n.lower(), v.encode()) for n, v in added)])
    signature = _signature(scheme, kind, secrets, complete, (timestamp, message_id))
    if scheme.layout == "pairs":
        stamp = f"{locations.timestamp.name}={timestamp.decode()}{scheme.separator}" if locations.timestamp else ""
        value = f"{stamp}{scheme.tag}={signature}"
    else:
        value = f"{scheme.tag}{signature}"
    name = locations.signature.name
    return [*added, (f"{name}1" if locations.signature.kind == "numbered" else name, value)]


def sign_url(kind: AuthKind | None, secrets: Mapping[str, bytes], url: str) -> str:
    """Return the URL that a sender uses, with an API key that belongs there; raises as `url_with_key` does."""
    return url_with_key(kind, secrets, url) if isinstance(kind, ApiKeyAuth) else url


def sign_body(kind: AuthKind | None, secrets: Mapping[str, bytes], body: bytes, now: float) -> bytes:
    """Return the body that a sender sends: with a new signature and timestamp if they belong there, else unchanged.

    Numbers stay as they are written.

    Raises:
        InvalidError: as from `sign`; or the body is not JSON, or lacks a value that is signed (`BODY_INVALID`).
    """
    scheme = None if kind is None else _scheme_of(kind)
    if kind is None or scheme is None or scheme.method not in SHARED:
        return body
    locations = scheme.locations
    signs = locations.signature.kind == "field"
    dates = locations.timestamp is not None and locations.timestamp.kind == "field"
    if not signs and not dates:
        return body
    if signs and (scheme.method != "hmac" or scheme.layout == "pairs"):
        raise _cannot_sign(f"{kind.kind} has a signature in the body that only its sender writes")
    try:
        content = verbatim.loads(body)
        items = _ITEMS.get(kind.kind)
        for value in [content] if items is None else content[items]:
            if dates and locations.timestamp is not None:
                _write_time(value, locations.timestamp.name, format_timestamp(now, scheme.unit), scheme)
            if signs:
                written = RequestView("POST", "", "", "", (), verbatim.dumps(value))
                stamps = (_field(written, locations.timestamp), _field(written, locations.id))
                signature = _signature(scheme, kind, secrets, written, stamps)
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
    scheme: Scheme, kind: AuthKind, secrets: Mapping[str, bytes], request: RequestView, stamps: tuple[bytes, bytes]
) -> str:
    """Return the signature by the first secret that is set, or that secret itself; `stamps`: timestamp and ID."""
    name, secret = first_secret(kind, secrets)
    try:
        if scheme.method == "token":
            return make_key(secret, scheme).decode("latin-1")
        chunks = compile_content(parse_content(scheme.content))(request, *stamps)
        return HmacSignatureKey(scheme, secret).sign(chunks).decode()
    except SignatureError as error:
        raise InvalidError(error.detail, reason="HEADER_MISSING") from None
    except ValueError as error:
        raise InvalidError(f"secret {name} {error}", reason="SECRET_INVALID") from None


def _field(request: RequestView, location: FieldLocation | None) -> bytes:
    """Return a value of the body; empty if it is not there, or elsewhere."""
    found = [] if location is None or location.kind != "field" else extract_values(request, location)
    return found[0] if found else b""


def _cannot_sign(why: str) -> InvalidError:
    return InvalidError(why, reason="CANNOT_SIGN")


def signature_headers(kind: AuthKind) -> frozenset[str]:
    """Return the lower-case names of the headers with signatures, credentials and timestamps of a kind."""
    scheme = _scheme_of(kind)
    variants = () if scheme is None else (scheme.locations, *scheme.alternatives)
    stamps = [each.timestamp for each in variants if each.timestamp is not None]
    names = {name.lower() for location in stamps for name in header_names(location)}
    return _build(kind, {}).credential_headers | names


def validity(kind: AuthKind) -> float | None:
    """Return for how many seconds a request that `sign` signs is accepted; None: unlimited."""
    if isinstance(kind, JwtAuth):
        from flowhook.signatures.tokens import LIFETIME  # noqa: PLC0415 - as above

        return LIFETIME
    scheme = _scheme_of(kind)
    if scheme is None or scheme.locations.timestamp is None or math.isinf(scheme.tolerance):
        return None
    return scheme.tolerance
