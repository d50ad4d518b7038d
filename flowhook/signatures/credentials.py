"""Verifies credentials that are presented as they are: API keys, passwords, certificates, and none at all."""

from __future__ import annotations

import hmac
import re
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import Final, Literal, NamedTuple
from urllib.parse import quote_from_bytes

from typing_extensions import override

from flowhook.document.models.credentials import ApiKeyAuth, AuthKind, BasicAuth, MtlsAuth
from flowhook.errors import InvalidError
from flowhook.providers import PROVIDERS
from flowhook.providers.scheme import FieldLocation
from flowhook.signatures.keys import decode_text, make_keyring, plaintext_secret, secret_digest
from flowhook.signatures.request_values import describe, extract_values, header_names, required_header
from flowhook.signatures.types import Match, RequestView, SignatureError, Verifier

_ESCAPED: Final = re.compile(r'\\(["\\])')


class IdempotencyKeyVerifier(Verifier):
    """Base class of verifiers of senders that nobody knows, of which any may name its deliveries."""

    @override
    def delivery_id(self, request: RequestView) -> str | None:
        """Return the value of `Idempotency-Key`, a string of structured fields or the same without its quotes.

        None if it is absent or there twice. Source: draft-ietf-httpapi-idempotency-key-header-07, section 2.1; RFC
        9651, section 3.3.3 (strings).
        """
        values = [value for name, value in request.headers if name == "idempotency-key"]
        if len(values) != 1:
            return None
        text = values[0].decode("latin-1").strip()
        if len(text) > 1 and text[0] == text[-1] == '"':
            text = _ESCAPED.sub(r"\1", text[1:-1])
        return text or None


class NoAuthVerifier(IdempotencyKeyVerifier):
    """Accepts every request."""

    scheme = "none"

    @override
    def verify(self, request: RequestView, now: float) -> Match:
        return Match(self.scheme, "")


class ApiKeyVerifier(IdempotencyKeyVerifier):
    """Verifies a key by comparing its SHA-256, which also hides its length."""

    scheme = ApiKeyAuth.kind

    def __init__(self, auth: ApiKeyAuth, secrets: Mapping[str, bytes]) -> None:
        if auth.header is not None:
            self._location = FieldLocation("header", auth.header.lower())
        else:
            self._location = (
                FieldLocation("field", auth.field) if auth.field else FieldLocation("query", auth.query or "")
            )
        self.needs_body = self.reads_json = auth.field is not None
        self.required_headers = self.credential_headers = frozenset(header_names(self._location))
        self.credential_query = frozenset([self._location.name] if self._location.kind == "query" else [])
        self._keyring = make_keyring(auth, secrets, secret_digest)

    @override
    def verify(self, request: RequestView, now: float) -> Match:  # nothing here grows stale
        keyring = self._keyring
        if not keyring.entries:
            raise keyring.refusal("", "")
        # in a query string there are two readings: `+` is a space, or the `+` of base64
        digests = [sha256(each).digest() for each in extract_values(request, self._location, kind="CREDENTIALS")]
        if not digests:
            raise SignatureError(f"{describe(self._location)} is missing", reason="CREDENTIALS_MISSING")
        for name, expected in keyring.entries:
            for digest in digests:
                if hmac.compare_digest(digest, expected):
                    return Match(self.scheme, name)
        raise keyring.refusal("the API key is wrong", "CREDENTIALS_WRONG")


def key_header(auth: ApiKeyAuth, secrets: Mapping[str, bytes]) -> list[tuple[str, str]]:
    """Return the sender's header, none for a key in the query; InvalidError: the key is not set, a hash or unfit."""
    if auth.field is not None:
        raise InvalidError("the key is in the body, which only the sender can write", reason="CANNOT_SIGN")
    if auth.header is None:
        return []
    name, secret = plaintext_secret(auth, secrets)
    key = secret.decode("ascii", "replace")
    if not key.isascii() or not key.isprintable() or key != key.strip():
        raise InvalidError(f"secret {name} can't be sent in a header", reason="SECRET_INVALID")
    return [(auth.header, key)]


def url_with_key(auth: ApiKeyAuth, secrets: Mapping[str, bytes], url: str) -> str:
    """Return the URL with the key; InvalidError: secret not set (`SECRET_NOT_SET`) or a hash (`CANNOT_SIGN`)."""
    if auth.query is None:
        return url
    _, secret = plaintext_secret(auth, secrets)
    field = f"{quote_from_bytes(auth.query.encode(), safe='')}={quote_from_bytes(secret, safe='')}"
    base, hash_sign, fragment = url.partition("#")
    return f"{base}{'&' if '?' in base else '?'}{field}{hash_sign}{fragment}"


CHALLENGE: Final = 'Basic realm="flowhook", charset="UTF-8"'

_CREDENTIALS: Final = re.compile(rb"[Bb][Aa][Ss][Ii][Cc] +([A-Za-z0-9+/]+)={0,2}")


class BasicVerifier(IdempotencyKeyVerifier):
    """Verifies a user name and a password.

    Both are always compared, by their SHA-256, so that neither the time nor the error reveals which of them was wrong,
    or how long they are.
    """

    scheme = BasicAuth.kind
    required_headers = frozenset({"authorization"})
    credential_headers = frozenset({"authorization"})
    challenge = CHALLENGE

    def __init__(self, auth: BasicAuth, secrets: Mapping[str, bytes]) -> None:
        self._username = sha256(auth.username.encode()).digest()
        self._keyring = make_keyring(auth, secrets, secret_digest)

    @override
    def verify(self, request: RequestView, now: float) -> Match:  # nothing here grows stale
        keyring = self._keyring
        if not keyring.entries:
            raise keyring.refusal("", "")
        match = _CREDENTIALS.fullmatch(required_header(request.headers, "authorization", kind="CREDENTIALS"))
        token = decode_text(match[1], "base64") if match else None
        if token is None:
            raise SignatureError(
                "header authorization does not contain Basic credentials (RFC 7617)", reason="CREDENTIALS_MALFORMED"
            )
        username, _, password = token.partition(b":")
        is_known = hmac.compare_digest(sha256(username).digest(), self._username)
        digest = sha256(password).digest()
        for name, expected in keyring.entries:
            if hmac.compare_digest(digest, expected) and is_known:
                return Match(self.scheme, name)
        raise keyring.refusal("user name or password is wrong", "CREDENTIALS_WRONG")


def authorization_header(auth: BasicAuth, secrets: Mapping[str, bytes]) -> list[tuple[str, str]]:
    """Return the sender's header; InvalidError: secret not set (`SECRET_NOT_SET`) or a hash (`CANNOT_SIGN`)."""
    _, password = plaintext_secret(auth, secrets)
    return [("Authorization", f"Basic {b64encode(auth.username.encode() + b':' + password).decode()}")]


class MtlsVerifier(Verifier):
    """Accepts senders whose certificate has one of the names that the flow lists."""

    scheme = MtlsAuth.kind

    def __init__(self, auth: MtlsAuth) -> None:
        self._names = {name.lower(): name for name in auth.names}

    @override
    def verify(self, request: RequestView, now: float) -> Match:
        if not request.client_names:
            raise SignatureError("the sender presented no certificate", reason="CREDENTIALS_MISSING")
        for name in request.client_names:
            if name.lower() in self._names:
                return Match(self.scheme, self._names[name.lower()])
        raise SignatureError("the certificate has none of the names", reason="CREDENTIALS_WRONG")


class CredentialPlace(NamedTuple):
    """Where a secret is sent."""

    # in the header `name`; in the query parameter `name`; or as the password of the user `name` (RFC 7617)
    kind: Literal["header", "query", "basic"]
    name: str  # of the header, the parameter or the user


def sends_secret(kind: AuthKind) -> bool:
    if isinstance(kind, ApiKeyAuth | BasicAuth):
        return True
    row = PROVIDERS.get(kind.kind)
    return row is not None and row.sends_secret


def credential_place(kind: AuthKind) -> CredentialPlace:
    """Return where senders put what they present; InvalidError: in the body (`CANNOT_SIGN`)."""
    match kind:
        case BasicAuth():
            return CredentialPlace("basic", kind.username)
        case ApiKeyAuth(header=str(name)):
            return CredentialPlace("header", name)
        case ApiKeyAuth(query=str(name)):
            return CredentialPlace("query", name)
    row = PROVIDERS.get(kind.kind)
    if row is not None and row.scheme is not None:
        location = row.scheme.locations.signature
        if location.kind == "header":
            return CredentialPlace("header", location.name)
    raise InvalidError(f"{kind.kind} has its secret in the body, which only the sender writes", reason="CANNOT_SIGN")
