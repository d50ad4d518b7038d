"""Verifies API keys in a header, in the query string, or in the body."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from hashlib import sha256
from urllib.parse import quote_from_bytes

from flowhook.document.models.credentials import ApiKeyAuth
from flowhook.errors import InvalidError
from flowhook.signatures.extract import json_field
from flowhook.signatures.headers import single_header
from flowhook.signatures.keyring import make_keyring, plaintext_secret, secret_digest
from flowhook.signatures.query import parameter_values
from flowhook.signatures.types import Match, RequestView, SignatureError


class ApiKeyVerifier:
    """Verifies a key by comparing its SHA-256, which also hides its length."""

    scheme = ApiKeyAuth.kind
    challenge = None

    def __init__(self, kind: ApiKeyAuth, secrets: Mapping[str, bytes]) -> None:
        self._header = kind.header.lower() if kind.header else None
        self._query = kind.query or ""
        self._field = kind.field or ""
        self.needs_body = self.reads_json = kind.field is not None
        self.required_headers = self.credential_headers = frozenset([self._header] if self._header else [])
        self.credential_query = frozenset([self._query] if self._query else [])
        self._keyring = make_keyring(kind, secrets, secret_digest)

    def verify(self, request: RequestView, now: float) -> Match:  # noqa: ARG002  # nothing here grows stale
        """See `Verifier.verify`."""
        keyring = self._keyring
        if not keyring.entries:
            raise keyring.refusal("", "")
        digests = [sha256(reading).digest() for reading in self._readings(request)]
        for name, expected in keyring.entries:
            for digest in digests:
                if hmac.compare_digest(digest, expected):
                    return Match(self.scheme, name)
        raise keyring.refusal("the API key is wrong", "CREDENTIALS_WRONG")

    def delivery_id(self, request: RequestView) -> str | None:  # noqa: ARG002
        """Return None: a key names no delivery."""
        return None

    def _readings(self, request: RequestView) -> tuple[bytes, ...]:
        """Return the possible values of the key: in a query string, `+` is a space, or the `+` of base64."""
        if self._header is not None:
            sent = single_header(request.headers, self._header, kind="CREDENTIALS")
            if sent is None:
                raise SignatureError(f"header {self._header} is missing", reason="CREDENTIALS_MISSING")
            return (sent,)
        if self._field:
            value = json_field(request, self._field)
            if value is None:
                raise SignatureError("the field with the API key is missing", reason="CREDENTIALS_MISSING")
            return (value,)
        values = parameter_values(request.query, self._query)
        if not values:
            raise SignatureError("the query parameter with the API key is missing", reason="CREDENTIALS_MISSING")
        if len(values) > 1:
            raise SignatureError(
                f"the query parameter with the API key occurs {len(values)} times", reason="CREDENTIALS_MALFORMED"
            )
        return values[0]


def key_header(kind: ApiKeyAuth, secrets: Mapping[str, bytes]) -> list[tuple[str, str]]:
    """Return the header that a sender adds; none if the key belongs in the query string.

    Raises:
        InvalidError: no secret is set (`SECRET_NOT_SET`), the secret is a hash or the key belongs in the body
            (`CANNOT_SIGN`), or a header can't carry the key (`SECRET_INVALID`).
    """
    if kind.field is not None:
        raise InvalidError("the key is in the body, which only the sender can write", reason="CANNOT_SIGN")
    if kind.header is None:
        return []
    name, secret = plaintext_secret(kind, secrets)
    key = secret.decode("ascii", "replace")
    if not key.isascii() or not key.isprintable() or key != key.strip():
        raise InvalidError(f"secret {name} can't be sent in a header", reason="SECRET_INVALID")
    return [(kind.header, key)]


def url_with_key(kind: ApiKeyAuth, secrets: Mapping[str, bytes], url: str) -> str:
    """Return the URL, with the key if it belongs in the query string.

    Raises:
        InvalidError: no secret is set (`SECRET_NOT_SET`), or it is a hash (`CANNOT_SIGN`).
    """
    if kind.query is None:
        return url
    _, secret = plaintext_secret(kind, secrets)
    field = f"{quote_from_bytes(kind.query.encode(), safe='')}={quote_from_bytes(secret, safe='')}"
    base, hash_sign, fragment = url.partition("#")
    return f"{base}{'&' if '?' in base else '?'}{field}{hash_sign}{fragment}"
