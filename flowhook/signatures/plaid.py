"""Verifies Plaid's tokens: a header contains a signed token with the hash of the body.

The key of the token is fetched from Plaid's API, with the credentials of the account there.

Source: https://plaid.com/docs/api/webhooks/webhook-verification/
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Final

import orjson
from joserfc.jwk import Key

from flowhook.document.models.provider_auth import PlaidAuth
from flowhook.signatures.headers import single_header
from flowhook.signatures.jws import Token, read_jwk, read_token, verified_claims
from flowhook.signatures.key_requests import KeyRequest, fetched_key
from flowhook.signatures.timestamps import check_age
from flowhook.signatures.types import Match, RequestView, SignatureError

TOLERANCE: Final = 300.0

_HEADER: Final = "plaid-verification"
_KEY_ID: Final = re.compile(r"[A-Za-z0-9-]{1,64}")


class PlaidVerifier:
    """Verifies Plaid's token, and the body by the hash in it."""

    scheme = PlaidAuth.kind
    needs_body = True
    signs_body = True
    required_headers = frozenset({_HEADER})
    credential_headers = frozenset({_HEADER})
    credential_query: frozenset[str] = frozenset()
    challenge = None

    def __init__(self, kind: PlaidAuth, secrets: Mapping[str, bytes]) -> None:
        self._url = f"https://{kind.environment}.plaid.com/webhook_verification_key/get"
        self._secret = secrets.get(kind.secret, b"").decode("utf-8", "replace")
        self._secret_name = kind.secret
        self._client_id = kind.client_id

    def key_request(self, request: RequestView) -> KeyRequest[Key] | None:
        """See `KeyedVerifier`."""
        try:
            return self._request(self._token(request))
        except SignatureError:
            return None

    def verify(self, request: RequestView, now: float) -> Match:
        """See `Verifier.verify`; the match has the ID of the key."""
        token = self._token(request)
        claims = verified_claims(token, fetched_key(request, self._request(token)), ("ES256",))
        signed_at = claims.get("iat")
        if isinstance(signed_at, bool) or not isinstance(signed_at, int):
            raise SignatureError("the token lacks the time at which it was signed", reason="TIMESTAMP_MALFORMED")
        check_age(signed_at, TOLERANCE, now)
        claimed = claims.get("request_body_sha256")
        expected = sha256(request.body).hexdigest()
        if not isinstance(claimed, str) or not hmac.compare_digest(claimed.encode(), expected.encode()):
            raise SignatureError("the hash in the token is not that of the body", reason="SIGNATURE_MISMATCH")
        return Match(self.scheme, token.key_id)

    def delivery_id(self, request: RequestView) -> str | None:  # noqa: ARG002
        """Return None: Plaid's webhooks have no ID."""
        return None

    def _token(self, request: RequestView) -> Token:
        if not self._secret:
            raise SignatureError(f"secret {self._secret_name} is not set", reason="SECRET_NOT_SET")
        sent = single_header(request.headers, _HEADER, kind="SIGNATURE")
        if sent is None:
            raise SignatureError(f"header {_HEADER} is missing", reason="SIGNATURE_MISSING")
        token = read_token(sent)
        if token is None or token.algorithm != "ES256" or not _KEY_ID.fullmatch(token.key_id):
            raise SignatureError(
                f"header {_HEADER} does not contain a token by ES256 with a key ID", reason="SIGNATURE_MALFORMED"
            )
        return token

    def _request(self, token: Token) -> KeyRequest[Key]:
        body = {"client_id": self._client_id, "secret": self._secret, "key_id": token.key_id}
        return KeyRequest(self._url, _read_key, self.scheme, token.key_id, orjson.dumps(body))


def _read_key(document: bytes) -> dict[str, Key]:
    """Return the only key in Plaid's response; none if it has expired."""
    content = orjson.loads(document)
    key = content.get("key") if isinstance(content, dict) else None
    if not isinstance(key, dict) or key.get("expired_at") is not None:
        return {}
    return {str(key.get("kid")): read_jwk(key)}
