"""Verifies HTTP Basic authentication: a user name and a password. Source: RFC 7617."""

from __future__ import annotations

import binascii
import hmac
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import Final

from flowhook.document.models.credentials import BasicAuth
from flowhook.signatures.headers import single_header
from flowhook.signatures.keyring import make_keyring, plaintext_secret, secret_digest
from flowhook.signatures.types import Match, RequestView, SignatureError

CHALLENGE: Final = 'Basic realm="flowhook", charset="UTF-8"'

_CREDENTIALS: Final = re.compile(rb"[Bb][Aa][Ss][Ii][Cc] +([A-Za-z0-9+/]+)={0,2}")


class BasicVerifier:
    """Verifies a user name and a password.

    Both are always compared, by their SHA-256, so that neither the time nor the error reveals which of them was wrong,
    or how long they are.
    """

    scheme = BasicAuth.kind
    needs_body = False
    required_headers = frozenset({"authorization"})
    credential_headers = frozenset({"authorization"})
    credential_query: frozenset[str] = frozenset()
    challenge = CHALLENGE

    def __init__(self, kind: BasicAuth, secrets: Mapping[str, bytes]) -> None:
        self._username = sha256(kind.username.encode()).digest()
        self._keyring = make_keyring(kind, secrets, secret_digest)

    def verify(self, request: RequestView, now: float) -> Match:  # noqa: ARG002  # nothing here grows stale
        """See `Verifier.verify`."""
        keyring = self._keyring
        if not keyring.entries:
            raise keyring.refusal("", "")
        sent = single_header(request.headers, "authorization", kind="CREDENTIALS")
        if sent is None:
            raise SignatureError("header authorization is missing", reason="CREDENTIALS_MISSING")
        match = _CREDENTIALS.fullmatch(sent)
        token = _decoded(match[1]) if match else None
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

    def delivery_id(self, request: RequestView) -> str | None:  # noqa: ARG002
        """Return None: these credentials name no delivery."""
        return None


def authorization_header(kind: BasicAuth, secrets: Mapping[str, bytes]) -> list[tuple[str, str]]:
    """Return the header that a sender adds.

    Raises:
        InvalidError: no secret is set (`SECRET_NOT_SET`), or it is a hash (`CANNOT_SIGN`).
    """
    _, password = plaintext_secret(kind, secrets)
    return [("Authorization", f"Basic {b64encode(kind.username.encode() + b':' + password).decode()}")]


def _decoded(text: bytes) -> bytes | None:
    """Decode base64 that was sent without its padding; None if it is not base64."""
    try:
        return b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        return None
