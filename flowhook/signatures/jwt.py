"""Verifies bearer tokens that an issuer signed: `auth: {jwt: …}`.

A token proves who calls, not what is sent: like a password it covers nothing of the request, but it expires.

Source: RFC 7519, section 4.1; RFC 6750, section 2.1; RFC 8725.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson
from joserfc.errors import ExpiredTokenError, InvalidClaimError, JoseError
from joserfc.jwk import Key
from joserfc.jws import JWSRegistry
from joserfc.jwt import JWTClaimsRegistry
from joserfc.util import urlsafe_b64encode

from flowhook.document.models.credentials import JwtAuth
from flowhook.errors import InvalidError
from flowhook.signatures.headers import single_header
from flowhook.signatures.jws import (
    ALGORITHMS,
    Token,
    read_key_set,
    read_pem,
    read_shared_key,
    read_token,
    verified_claims,
)
from flowhook.signatures.key_requests import KeyRequest, fetched_key
from flowhook.signatures.keyring import first_secret, make_keyring
from flowhook.signatures.types import Match, RequestView, SignatureError

LIFETIME: Final = 300
"""Lifetime in seconds of the tokens that `token_header` creates."""

CHALLENGE: Final = 'Bearer realm="flowhook"'

_BEARER: Final = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +(\S+)")


class JwtVerifier:
    """Verifies a token's signature, then its claims, which are not stored."""

    scheme = JwtAuth.kind
    needs_body = False
    credential_query: frozenset[str] = frozenset()

    def __init__(self, kind: JwtAuth, secrets: Mapping[str, bytes]) -> None:
        self._header = kind.header.lower()
        self._is_bearer = self._header == "authorization"
        self.challenge = CHALLENGE if self._is_bearer else None
        self.required_headers = self.credential_headers = frozenset({self._header})
        self._url = kind.jwks
        self._allowed = kind.algorithms or (("HS256",) if kind.secret_names else ALGORITHMS)
        self._keyring = (
            None if kind.jwks else make_keyring(kind, secrets, read_shared_key if kind.secret_names else read_pem)
        )
        self._leeway = kind.leeway
        self._expected: dict[str, Any] = {"exp": {"essential": True}}
        if kind.issuer is not None:
            self._expected["iss"] = {"essential": True, "value": kind.issuer}
        if kind.audiences:
            self._expected["aud"] = {"essential": True, "values": list(kind.audiences)}

    def key_request(self, request: RequestView) -> KeyRequest[Key] | None:
        """See `KeyedVerifier`."""
        if self._url is None:
            return None
        try:
            token = self._token(request)
        except SignatureError:
            return None
        return self._request(self._url, token) if token.key_id and token.algorithm in self._allowed else None

    def verify(self, request: RequestView, now: float) -> Match:
        """See `Verifier.verify`; the match has the name of the key, or of the secret."""
        keyring = self._keyring
        token = self._token(request)
        if keyring is None:
            if not token.key_id:
                raise SignatureError("the token does not name its key", reason="CREDENTIALS_MALFORMED")
            key = fetched_key(request, self._request(self._url or "", token))
            self._check(verified_claims(token, key, self._allowed), now)
            return Match(self.scheme, token.key_id)
        refusal = keyring.refusal("", "")
        for name, key in keyring.entries:
            try:
                claims = verified_claims(token, key, self._allowed)
            except SignatureError as error:
                refusal = keyring.refusal(error.detail, error.reason)
                continue
            self._check(claims, now)
            return Match(self.scheme, name)
        raise refusal

    def delivery_id(self, request: RequestView) -> str | None:  # noqa: ARG002
        """Return None: one token may be used for many deliveries."""
        return None

    def _request(self, url: str, token: Token) -> KeyRequest[Key]:
        return KeyRequest(url, read_key_set, url, token.key_id)

    def _token(self, request: RequestView) -> Token:
        sent = single_header(request.headers, self._header, kind="CREDENTIALS")
        if sent is None:
            raise SignatureError(f"header {self._header} is missing", reason="CREDENTIALS_MISSING")
        if self._is_bearer:
            match = _BEARER.fullmatch(sent)
            sent = match[1] if match else b""
        token = read_token(sent)
        if token is None:
            raise SignatureError(f"header {self._header} has no signed token", reason="CREDENTIALS_MALFORMED")
        return token

    def _check(self, claims: dict[str, Any], now: float) -> None:
        registry = JWTClaimsRegistry(now=int(now), leeway=int(self._leeway), **self._expected)
        try:
            registry.validate(claims)
        except ExpiredTokenError:
            raise SignatureError("the token has expired", reason="TIMESTAMP_STALE") from None
        except InvalidClaimError as error:
            reason = "TIMESTAMP_STALE" if error.claim in ("nbf", "iat") else "CREDENTIALS_WRONG"
            raise SignatureError(f"the token's {error.claim} is not the expected one", reason=reason) from None
        except JoseError:
            raise SignatureError("the token lacks a required claim", reason="CREDENTIALS_MALFORMED") from None
        if "aud" in claims and "aud" not in self._expected:  # RFC 7519, section 4.1.3: for somebody else, then
            raise SignatureError("the token is for an audience, and none is expected", reason="CREDENTIALS_WRONG")


def token_header(kind: JwtAuth, secrets: Mapping[str, bytes], now: float) -> list[tuple[str, str]]:
    """Return the header that a sender adds.

    Raises:
        InvalidError: no secret is set (`SECRET_NOT_SET`), or it is too short (`SECRET_INVALID`); only the issuer can
            sign (`CANNOT_SIGN`).
    """
    if not kind.secret_names:
        raise InvalidError("jwt is signed with a private key, which only the issuer has", reason="CANNOT_SIGN")
    name, secret = first_secret(kind, secrets)
    try:
        key = read_shared_key(secret)
    except ValueError as error:
        raise InvalidError(f"secret {name} {error}", reason="SECRET_INVALID") from None
    algorithm = (kind.algorithms or ("HS256",))[0]
    claims: dict[str, object] = {"iat": int(now), "exp": int(now) + LIFETIME}
    claims |= {"iss": kind.issuer} if kind.issuer else {}
    claims |= {"aud": kind.audiences[0]} if kind.audiences else {}
    parts = (orjson.dumps({"alg": algorithm, "typ": "JWT"}), orjson.dumps(claims))
    signed = b".".join(urlsafe_b64encode(part) for part in parts)
    signature = JWSRegistry.algorithms[algorithm].sign(signed, key)
    token = b".".join((signed, urlsafe_b64encode(signature))).decode()
    return [(kind.header, f"Bearer {token}" if kind.header.lower() == "authorization" else token)]
