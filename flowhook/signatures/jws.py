"""Parses and verifies signed tokens (JWS compact serialisation): a strict subset of the RFCs.

The key determines the allowed algorithms, never the token: a token with `none`, or one that would have a public key
used as a shared one, names an algorithm that its key doesn't have. Keys inside a token (`jwk`, `jku`, `x5u`) are
ignored. joserfc implements the algorithms and the keys.

Source: RFC 7515; RFC 7519, section 4.1; RFC 8725, sections 3.1 to 3.5.
"""

from __future__ import annotations

import re
import warnings
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

import orjson
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from flowhook.signatures.types import SignatureError

MAX_TOKEN_BYTES: Final = 8192
"""Longest token that is parsed."""

MAX_KEYS: Final = 100
"""Keys of one key set that are read."""

MAX_KEY_ID: Final = 256
MIN_SECRET_BYTES: Final = 32
"""Minimum size of a key for HS256. Source: RFC 7518, section 3.2."""

_TOKEN: Final = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_BY_CURVE: Final = {
    "P-256": ("ES256",),
    "P-384": ("ES384",),
    "P-521": ("ES512",),
    "Ed25519": ("EdDSA", "Ed25519"),
}
_PUBLIC: Final[Mapping[str, type[Key]]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}

SHARED: Final = ("HS256", "HS384", "HS512")
ALGORITHMS: Final = (*SHARED, *_RSA, *(name for names in _BY_CURVE.values() for name in names))
"""Every `alg` that can be allowed."""


class Token(NamedTuple):
    """A parsed token, not verified yet.

    Attributes:
        signed: what the signature covers.
        signature: the bytes.
        payload: decoded.
        algorithm: the algorithm that the token claims.
        key_id: the ID of the key that the token claims; may be empty.
    """

    signed: bytes
    signature: bytes
    payload: bytes
    algorithm: str
    key_id: str


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


def algorithms_of(key: Key) -> tuple[str, ...]:
    """Return the algorithms that a key may verify."""
    if isinstance(key, OctKey):
        return SHARED
    return _RSA if isinstance(key, RSAKey) else _BY_CURVE.get(getattr(key, "curve_name", ""), ())


def verified_claims(token: Token, key: Key, allowed: Collection[str]) -> dict[str, Any]:
    """Verify the signature of a token by a key, and return the claims.

    Args:
        token: as sent.
        key: public, or shared.
        allowed: algorithms; only those that the key has count.

    Raises:
        SignatureError: the key didn't sign it (`SIGNATURE_MISMATCH`), or it has no claims (`SIGNATURE_MALFORMED`).
    """
    name = token.algorithm
    if name not in algorithms_of(key) or name not in allowed or key.get("alg", name) != name:
        raise SignatureError("the token's algorithm does not fit its key", reason="SIGNATURE_MISMATCH")
    try:
        good = JWSRegistry.algorithms[name].verify(token.signed, token.signature, key)
    except Exception:  # noqa: BLE001 - the libraries raise several kinds, and none of them is a good signature
        good = False
    if not good:
        raise SignatureError("the token is not signed by its key", reason="SIGNATURE_MISMATCH")
    try:
        claims = orjson.loads(token.payload)
    except orjson.JSONDecodeError:
        claims = None
    if not isinstance(claims, dict):
        raise SignatureError("the token has no claims", reason="SIGNATURE_MALFORMED")
    return claims


def read_jwk(value: object) -> Key:
    """Return the public key in a JWK.

    Raises:
        ValueError: it is none, not for signatures, or too weak.
    """
    kind = _PUBLIC.get(str(value.get("kty"))) if isinstance(value, Mapping) else None
    if kind is None:
        raise ValueError("is not a public JWK")
    key = _imported(kind, value)
    if key.is_private or key.get("use", "sig") != "sig":
        raise ValueError("is a JWK that is not for verifying")
    return key


def read_key_set(document: bytes) -> dict[str, Key]:
    """Return the keys of a JWK set by ID; those that can't be used are left out. Source: RFC 7517, section 5.

    Raises:
        ValueError: it is no key set.
    """
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
    """Return the public key in a PEM text.

    Raises:
        ValueError: it is none, or too weak.
    """
    for kind in _PUBLIC.values():
        try:
            key = _imported(kind, text.strip())
        except ValueError:
            continue
        if not key.is_private:
            return key
    raise ValueError("is not a public key in PEM, or too weak")


def read_shared_key(secret: bytes) -> Key:
    """Return a shared key.

    Raises:
        ValueError: it is too short.
    """
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
