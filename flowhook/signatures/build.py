"""Builds verifiers, and signs requests, by the `auth` of a flow file."""

from __future__ import annotations

import math
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
from flowhook.providers import PROVIDERS
from flowhook.providers.scheme import FieldLocation, KeyFormat, Scheme, SignatureMethod, in_headers
from flowhook.signatures.credentials import (
    ApiKeyVerifier,
    BasicVerifier,
    MtlsVerifier,
    NoAuthVerifier,
    authorization_header,
    key_header,
    url_with_key,
)
from flowhook.signatures.schemes import (
    BatchItemsVerifier,
    SignatureVerifier,
    TwilioVerifier,
    custom_scheme,
    header_names,
)
from flowhook.signatures.signing import sign_in_body, sign_request
from flowhook.signatures.types import RequestView, Verifier


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
            return replace(scheme, locations=(in_headers(kind.header),), algorithm=kind.algorithm)
        case StandardWebhooksAuth(secret_names=()):  # the asymmetric variant of the standard
            return replace(scheme, method=SignatureMethod.ED25519, tag="v1a,", key=KeyFormat.RAW)
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
    sent, from `sign_body`. An ID or another signed header is taken from the `headers` that the request already
    has. `now` is Unix time in seconds.

    Raises:
        InvalidError: no secret is set (`SECRET_NOT_SET`) or it can't be used (`SECRET_INVALID`), a header that must be
            signed is missing (`HEADER_MISSING`), or a sender's headers can't be made from secrets (`CANNOT_SIGN`).
    """
    if kind is None:
        return []
    if isinstance(kind, BasicAuth):
        return authorization_header(kind, secrets)
    if isinstance(kind, ApiKeyAuth):
        return key_header(kind, secrets)
    if isinstance(kind, JwtAuth):
        from flowhook.signatures.tokens import token_header  # noqa: PLC0415 - as above

        return token_header(kind, secrets, now)
    if isinstance(kind, MtlsAuth):
        raise InvalidError("a certificate is presented by the client that makes the connection", reason="CANNOT_SIGN")
    scheme = _scheme_of(kind)
    if scheme is None:
        raise InvalidError(f"{kind.kind} signs with a private key, which only the sender has", reason="CANNOT_SIGN")
    target = urlsplit(url)
    fields = [(name.lower(), value.strip().encode("utf-8", "replace")) for name, value in headers]
    request = RequestView(method, url, target.path, target.query, fields, body)
    return sign_request(scheme, kind, secrets, request, now)


def sign_url(kind: AuthKind | None, secrets: Mapping[str, bytes], url: str) -> str:
    """Return the URL that a sender uses, with an API key that belongs there; raises as `url_with_key` does."""
    return url_with_key(kind, secrets, url) if isinstance(kind, ApiKeyAuth) else url


def sign_body(kind: AuthKind | None, secrets: Mapping[str, bytes], body: bytes, now: float) -> bytes:
    """Return the body that a sender sends: with the signature and the timestamp if they belong there, else unchanged.

    Raises:
        InvalidError: as from `sign`; or the body is not JSON, or lacks a value that is signed (`BODY_INVALID`).
    """
    scheme = None if kind is None else _scheme_of(kind)
    if kind is None or scheme is None or scheme.method not in (SignatureMethod.HMAC, SignatureMethod.TOKEN):
        return body
    return sign_in_body(scheme, kind, secrets, body, now, items=_ITEMS.get(kind.kind, ""))


def signature_headers(kind: AuthKind) -> frozenset[str]:
    """Return the lower-case names of the headers with signatures, credentials and timestamps of a kind."""
    scheme = _scheme_of(kind)
    stamps = [] if scheme is None else [each.timestamp for each in scheme.locations if each.timestamp is not None]
    names = {name.lower() for location in stamps for name in header_names(location)}
    return _build(kind, {}).credential_headers | names


def validity(kind: AuthKind) -> float | None:
    """Return for how many seconds a request that `sign` signs is accepted; None: unlimited."""
    if isinstance(kind, JwtAuth):
        from flowhook.signatures.tokens import LIFETIME  # noqa: PLC0415 - as above

        return LIFETIME
    scheme = _scheme_of(kind)
    return None if scheme is None or scheme.unit is None or math.isinf(scheme.tolerance) else scheme.tolerance
