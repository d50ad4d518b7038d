"""A user name and a password in the `Authorization` header. Source: RFC 7617."""

from __future__ import annotations

import hmac
import re
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import Final

from flowhook.document.auth import BasicAuth
from flowhook.signatures.headers import single_header
from flowhook.signatures.keys import first_secret, make_keyring
from flowhook.signatures.types import Match, RequestView, SignatureError

CHALLENGE: Final = 'Basic realm="flowhook", charset="UTF-8"'

_CREDENTIALS: Final = re.compile(rb"[Bb][Aa][Ss][Ii][Cc] +([A-Za-z0-9+/]+)={0,2}")


class BasicVerifier:
    """Verifies a user name and a password.

    They are compared as one, in the form they are sent, by their SHA-256: so neither the time nor the error tells
    which of the two was wrong, nor how long either is.
    """

    scheme = BasicAuth.kind
    needs_body = False
    required_headers = frozenset({"authorization"})
    credential_headers = frozenset({"authorization"})
    credential_query: frozenset[str] = frozenset()
    challenge = CHALLENGE

    def __init__(self, kind: BasicAuth, secrets: Mapping[str, bytes]) -> None:
        self._keyring = make_keyring(
            kind, secrets, lambda secret: sha256(_token(kind.username, secret).rstrip(b"=")).digest()
        )

    def verify(self, request: RequestView, now: float) -> Match:  # noqa: ARG002  # nothing here grows stale
        """See `Verifier.verify`."""
        keyring = self._keyring
        if not keyring.entries:
            raise keyring.refusal("", "")
        sent = single_header(request.headers, "authorization", kind="CREDENTIALS")
        if sent is None:
            raise SignatureError("header authorization is missing", reason="CREDENTIALS_MISSING")
        match = _CREDENTIALS.fullmatch(sent)
        if match is None:
            raise SignatureError(
                "header authorization does not hold Basic credentials (RFC 7617)", reason="CREDENTIALS_MALFORMED"
            )
        digest = sha256(match[1]).digest()
        for name, expected in keyring.entries:
            if hmac.compare_digest(digest, expected):
                return Match(self.scheme, name)
        raise keyring.refusal("user name or password are wrong", "CREDENTIALS_WRONG")

    def delivery_id(self, request: RequestView) -> str | None:  # noqa: ARG002
        """Return None: these credentials name no delivery."""
        return None


def authorization(kind: BasicAuth, secrets: Mapping[str, bytes]) -> list[tuple[str, str]]:
    """Return the header that a sender adds.

    Raises:
        InvalidError: no secret is set (`SECRET_NOT_SET`).
    """
    _, password = first_secret(kind, secrets)
    return [("Authorization", f"Basic {_token(kind.username, password).decode()}")]


def _token(username: str, password: bytes) -> bytes:
    return b64encode(username.encode() + b":" + password)
