"""Parses and verifies signed tokens (JWS compact serialisation): a strict subset of the RFCs.

The key determines the allowed algorithms, never the token: a token with `none`, or one that would have a public key
used as a shared one, names an algorithm that its key doesn't have. Keys inside a token (`jwk`, `jku`, `x5u`) are
ignored. joserfc implements the algorithms and the keys.

Source: RFC 7515; RFC 7519, section 4.1; RFC 8725, sections 3.1 to 3.5.
"""

from __future__ import annotations

import hmac
import re
import warnings
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection, Mapping
from hashlib import sha256
from typing import Any, Final, NamedTuple

import orjson
from joserfc import util
from joserfc.errors import ExpiredTokenError, InvalidClaimError, JoseError, SecurityWarning
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry
from joserfc.jwt import JWTClaimsRegistry
from typing_extensions import override

from flowhook.document.models.auth import PlaidAuth
from flowhook.document.models.credentials import JwtAuth
from flowhook.errors import InvalidError
from flowhook.json import object_of
from flowhook.signatures.keys import first_secret, make_keyring
from flowhook.signatures.request_values import required_header
from flowhook.signatures.timestamps import check_age
from flowhook.signatures.types import KeyedVerifier, KeyRequest, Match, RequestView, SignatureError, fetched_key

MAX_TOKEN_BYTES: Final = 8192  # longest token that is parsed
MAX_KEYS: Final = 100  # keys of one key set that are read
MAX_KEY_ID: Final = 256
MIN_SECRET_BYTES: Final = 32  # minimum size of a key for HS256. Source: RFC 7518, section 3.2.
_TOKEN: Final = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_BY_CURVE: Final = {"P-256": ("ES256",), "P-384": ("ES384",), "P-521": ("ES512",), "Ed25519": ("EdDSA", "Ed25519")}
_PUBLIC: Final[Mapping[str, type[Key]]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
SHARED: Final = ("HS256", "HS384", "HS512")
# Every `alg` that can be allowed.
ALGORITHMS: Final = (*SHARED, *_RSA, *(name for names in _BY_CURVE.values() for name in names))


class Token(NamedTuple):
    """A parsed token, not verified yet."""

    signed: bytes  # what the signature covers
    signature: bytes  # the bytes
    payload: bytes  # decoded
    algorithm: str  # the algorithm that the token claims
    key_id: str  # the ID of the key that the token claims; may be empty


def read_token(sent: bytes) -> Token | None:
    """Parse a token; None if it is malformed, or requires extensions that are unknown here. Never raises."""
    match = _TOKEN.fullmatch(sent) if len(sent) <= MAX_TOKEN_BYTES else None
    if match is None:
        return None
    try:
        header, payload, signature = (_decoded(part) for part in match.groups())
        fields = orjson.loads(header)
    except ValueError:
        return None
    if not isinstance(fields, dict) or "crit" in fields:  # RFC 7515, section 4.1.11: understood, or refused
        return None
    algorithm, key_id = fields.get("alg"), fields.get("kid", "")
    if not isinstance(algorithm, str) or not isinstance(key_id, str) or len(key_id) > MAX_KEY_ID:
        return None
    return Token(sent[: match.end(2)], signature, payload, algorithm, key_id)


def _decoded(part: bytes) -> bytes:
    """Decode base64url; ValueError for a non-canonical spelling (RFC 4648, section 3.5)."""
    value = urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    if urlsafe_b64encode(value).rstrip(b"=") != part:
        raise ValueError("unused bits are set")
    return value


def verified_claims(token: Token, key: Key, allowed: Collection[str]) -> dict[str, Any]:
    """Verify a token by a key, and return the claims. Of the `allowed` algorithms only those that the key has count.

    SignatureError: the key didn't sign it (`SIGNATURE_MISMATCH`), or it has no claims (`SIGNATURE_MALFORMED`).
    """
    name = token.algorithm
    if isinstance(key, OctKey):
        able: Collection[str] = SHARED
    else:
        able = _RSA if isinstance(key, RSAKey) else _BY_CURVE.get(getattr(key, "curve_name", ""), ())
    if name not in able or name not in allowed or key.get("alg", name) != name:
        raise SignatureError("the token's algorithm does not fit its key", reason="SIGNATURE_MISMATCH")
    try:
        good = JWSRegistry.algorithms[name].verify(token.signed, token.signature, key)
    except Exception:  # noqa: BLE001 - the libraries raise several kinds, and none of them is a good signature
        good = False
    if not good:
        raise SignatureError("the token is not signed by its key", reason="SIGNATURE_MISMATCH")
    claims = object_of(token.payload)
    if claims is None:
        raise SignatureError("the token has no claims", reason="SIGNATURE_MALFORMED")
    return claims


def read_jwk(value: object) -> Key:
    """Return the public key in a JWK; ValueError: it is none, not for signatures, or too weak."""
    kind = _PUBLIC.get(str(value.get("kty"))) if isinstance(value, Mapping) else None
    if kind is None:
        raise ValueError("is not a public JWK")
    key = _imported(kind, value)
    if key.is_private or key.get("use", "sig") != "sig":
        raise ValueError("is a JWK that is not for verifying")
    return key


def read_key_set(document: bytes) -> dict[str, Key]:
    """Return the usable keys of a JWK set by ID; ValueError: it is none. Source: RFC 7517, section 5."""
    content = orjson.loads(document)
    listed = content.get("keys") if isinstance(content, dict) else None
    if not isinstance(listed, list):
        raise ValueError("is not a JWK set")  # noqa: TRY004 - of the text, not of a type
    keys: dict[str, Key] = {}
    for each in listed[:MAX_KEYS]:
        key_id = each.get("kid") if isinstance(each, dict) else None
        try:
            if isinstance(key_id, str) and key_id:
                keys.setdefault(key_id, read_jwk(each))
        except ValueError:
            continue
    return keys


def read_pem(text: bytes) -> Key:
    """Return the public key in a PEM text; ValueError: it is none, or too weak."""
    for kind in _PUBLIC.values():
        try:
            key = _imported(kind, text.strip())
        except ValueError:
            continue
        if not key.is_private:
            return key
    raise ValueError("is not a public key in PEM, or too weak")


def read_shared_key(secret: bytes) -> Key:
    if len(secret) < MIN_SECRET_BYTES:
        raise ValueError(f"has less than {MIN_SECRET_BYTES} bytes (RFC 7518, section 3.2)")
    return _imported(OctKey, secret)


def _imported(kind: type[Key], value: Any) -> Key:
    with warnings.catch_warnings():
        warnings.simplefilter("error", SecurityWarning)  # RSA below 2048 bits, for which joserfc only warns
        try:
            return kind.import_key(value)
        except Exception:  # noqa: BLE001 - the libraries raise several kinds
            raise ValueError("can't be read as a key") from None


LIFETIME: Final = 300  # lifetime in seconds of the tokens that `token_header` creates
CHALLENGE: Final = 'Bearer realm="flowhook"'

_BEARER: Final = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +(\S+)")


class JwtVerifier(KeyedVerifier):
    """Verifies bearer tokens that an issuer signed: the signature, then the claims, which are not stored.

    A token proves who calls, not what is sent: like a password it covers nothing of the request, but it expires.

    Source: RFC 7519, section 4.1; RFC 6750, section 2.1; RFC 8725.
    """

    scheme = JwtAuth.kind

    def __init__(self, auth: JwtAuth, secrets: Mapping[str, bytes]) -> None:
        self._header = auth.header.lower()
        self._is_bearer = self._header == "authorization"
        self.challenge = CHALLENGE if self._is_bearer else None
        self.required_headers = self.credential_headers = frozenset({self._header})
        self._url = auth.jwks
        self._allowed = auth.algorithms or (("HS256",) if auth.secret_names else ALGORITHMS)
        self._keyring = (
            None if auth.jwks else make_keyring(auth, secrets, read_shared_key if auth.secret_names else read_pem)
        )
        self._leeway = auth.leeway
        self._expected: dict[str, Any] = {"exp": {"essential": True}}
        if auth.issuer is not None:
            self._expected["iss"] = {"essential": True, "value": auth.issuer}
        if auth.audiences:
            self._expected["aud"] = {"essential": True, "values": list(auth.audiences)}

    @override
    def _wanted_key(self, request: RequestView) -> KeyRequest[Key] | None:
        if self._url is None:
            return None
        token = self._token(request)
        return self._request(self._url, token) if token.key_id and token.algorithm in self._allowed else None

    @override
    def verify(self, request: RequestView, now: float) -> Match:
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

    def _request(self, url: str, token: Token) -> KeyRequest[Key]:
        return KeyRequest(url, read_key_set, url, token.key_id)

    def _token(self, request: RequestView) -> Token:
        sent = required_header(request.headers, self._header, kind="CREDENTIALS")
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


def token_header(auth: JwtAuth, secrets: Mapping[str, bytes], now: float) -> list[tuple[str, str]]:
    """Return the sender's header; InvalidError: secret not set or too short, or only the issuer can sign."""
    if not auth.secret_names:
        raise InvalidError("jwt is signed with a private key, which only the issuer has", reason="CANNOT_SIGN")
    name, secret = first_secret(auth, secrets)
    try:
        key = read_shared_key(secret)
    except ValueError as error:
        raise InvalidError(f"secret {name} {error}", reason="SECRET_INVALID") from None
    algorithm = (auth.algorithms or ("HS256",))[0]
    claims: dict[str, object] = {"iat": int(now), "exp": int(now) + LIFETIME}
    claims |= {"iss": auth.issuer} if auth.issuer else {}
    claims |= {"aud": auth.audiences[0]} if auth.audiences else {}
    parts = (orjson.dumps({"alg": algorithm, "typ": "JWT"}), orjson.dumps(claims))
    signed = b".".join(util.urlsafe_b64encode(part) for part in parts)
    signature = JWSRegistry.algorithms[algorithm].sign(signed, key)
    token = b".".join((signed, util.urlsafe_b64encode(signature))).decode()
    return [(auth.header, f"Bearer {token}" if auth.header.lower() == "authorization" else token)]


TOLERANCE: Final = 300.0
_HEADER: Final = "plaid-verification"
_KEY_ID: Final = re.compile(r"[A-Za-z0-9-]{1,64}")


class PlaidVerifier(KeyedVerifier):
    """Verifies Plaid's token, in a header, and the body by the hash in it.

    The key of the token is fetched from Plaid's API, with the credentials of the account there.

    Source: https://plaid.com/docs/api/webhooks/webhook-verification/
    """

    scheme = PlaidAuth.kind
    needs_body = True
    signs_body = True
    required_headers = frozenset({_HEADER})
    credential_headers = frozenset({_HEADER})

    def __init__(self, auth: PlaidAuth, secrets: Mapping[str, bytes]) -> None:
        self._url = f"https://{auth.environment}.plaid.com/webhook_verification_key/get"
        self._secret = secrets.get(auth.secret, b"").decode("utf-8", "replace")
        self._secret_name = auth.secret
        self._client_id = auth.client_id

    @override
    def _wanted_key(self, request: RequestView) -> KeyRequest[Key]:
        return self._request(self._token(request))

    @override
    def verify(self, request: RequestView, now: float) -> Match:
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

    def _token(self, request: RequestView) -> Token:
        if not self._secret:
            raise SignatureError(f"secret {self._secret_name} is not set", reason="SECRET_NOT_SET")
        token = read_token(required_header(request.headers, _HEADER, kind="SIGNATURE"))
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
