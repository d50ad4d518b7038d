"""Converts secrets to the keys and digests that verification uses."""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, Generic, TypeVar

from flowhook.document.models.credentials import AuthKind
from flowhook.errors import InvalidError
from flowhook.providers.scheme import KeyFormat, Scheme
from flowhook.signatures.types import SignatureError

T = TypeVar("T")

_PREFIX: Final = b"whsec_"
_HASH: Final = re.compile(rb"\$sha256\$([0-9a-fA-F]{64})")
_OTHER_HASH: Final = re.compile(rb"\$(?:sha|argon2|scrypt|pbkdf2|bcrypt|yescrypt|2[abxy]?\$|[156y]\$)")


def is_hash_of_nothing(secret: bytes) -> bool:
    """Whether a secret is the hash of the empty string, as a command makes it of a variable that is not set."""
    match = _HASH.fullmatch(secret)
    return match is not None and bytes.fromhex(match[1].decode()) == sha256(b"").digest()


def make_key(secret: bytes, scheme: Scheme) -> bytes:
    """Return the key that a secret encodes; never empty.

    Raises:
        ValueError: it can't be decoded; the message contains nothing of it.
    """
    text = secret.removeprefix(scheme.key_prefix.encode())
    match scheme.key:
        case KeyFormat.RAW:
            return text or secret
        case KeyFormat.HEX:
            return _decoded(binascii.unhexlify, text, "is not hex")
        case KeyFormat.BASE64:
            return _decoded(_unbase64, text, "is not base64")
    try:
        return _decoded(_unbase64, text.removeprefix(_PREFIX), "is not base64 after whsec_")
    except ValueError:
        if text.startswith(_PREFIX):
            raise
        return text


def secret_digest(secret: bytes) -> bytes:
    """Return the SHA-256 of a secret; one of the form `$sha256$HEX` is already that hash.

    Raises:
        ValueError: it is a hash of another kind, which would itself become the password; or that of the empty string,
            which everybody could present.
    """
    if is_hash_of_nothing(secret):
        raise ValueError("is the hash of an empty value")
    match = _HASH.fullmatch(secret)
    if match is not None:
        return bytes.fromhex(match[1].decode())
    if _OTHER_HASH.match(secret):
        raise ValueError("is a hash of an unknown kind: use $sha256$ and 64 hex digits")
    return sha256(secret).digest()


def plaintext_secret(kind: AuthKind, secrets: Mapping[str, bytes]) -> tuple[str, bytes]:
    """Return the same as `first_secret`, for a sender that sends the secret itself.

    Raises:
        InvalidError: no secret is set (`SECRET_NOT_SET`); only its hash is known (`CANNOT_SIGN`).
    """
    name, secret = first_secret(kind, secrets)
    if _HASH.fullmatch(secret):
        raise InvalidError(f"secret {name} is a hash, so the value to send is unknown", reason="CANNOT_SIGN")
    return name, secret


def _unbase64(text: bytes) -> bytes:
    text = text.rstrip(b"=")
    return binascii.a2b_base64(text + b"=" * (-len(text) % 4), strict_mode=True)


def _decoded(decode: Callable[[bytes], bytes], text: bytes, problem: str) -> bytes:
    try:
        key = decode(text)
    except binascii.Error:
        key = b""
    if not key:
        raise ValueError(problem)
    return key


@dataclass(frozen=True, slots=True)
class Keyring(Generic[T]):
    """Keys that one kind of `auth` made from its secrets, in the order they are tried.

    Attributes:
        entries: the name of each secret and its key; not shown in the repr.
        problem: which secrets can't be used and why, for the operator; or empty.
        reason: `SECRET_NOT_SET` or `SECRET_INVALID`, if there is a problem.
    """

    entries: tuple[tuple[str, T], ...] = field(repr=False)
    problem: str = ""
    reason: str = ""

    def refusal(self, detail: str, reason: str) -> SignatureError:
        """Return the error for a request that no entry matched."""
        if not self.entries:
            return SignatureError(self.problem, reason=self.reason)
        return SignatureError(f"{detail} ({self.problem})" if self.problem else detail, reason=reason)


def make_keyring(kind: AuthKind, secrets: Mapping[str, bytes], make: Callable[[bytes], T]) -> Keyring[T]:
    """Return the keyring that `make` makes from the secrets that are set.

    Args:
        kind: names the secrets.
        secrets: value by name; a kind with public keys contains their values itself.
        make: converts a secret to a key; may raise ValueError if it can't.
    """
    entries: list[tuple[str, T]] = []
    problems: list[str] = []
    reason = ""
    given = [(name, secrets.get(name)) for name in kind.secret_names] or list(kind.public_values)
    for name, value in given:
        if not value:
            problems.append(f"secret {name} is not set")
            reason = "SECRET_NOT_SET"
            continue
        try:
            entries.append((name, make(value)))
        except ValueError as error:
            problems.append(f"{name if kind.public_values else f'secret {name}'} {error}")
            reason = reason or "SECRET_INVALID"
    return Keyring(tuple(entries), "; ".join(problems), reason)


def first_secret(kind: AuthKind, secrets: Mapping[str, bytes]) -> tuple[str, bytes]:
    """Return the name and value of the secret that a sender uses: the first that is set.

    Raises:
        InvalidError: none is (`SECRET_NOT_SET`).
    """
    for name in kind.secret_names:
        if secrets.get(name):
            return name, secrets[name]
    raise InvalidError(f"secret {' or '.join(kind.secret_names)} is not set", reason="SECRET_NOT_SET")
