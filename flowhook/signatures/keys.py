"""Keys that verification uses, made from the secrets of a flow.

Sent signatures are first *read*, which costs nothing. Only those that could be valid are *matched*, which hashes the
content once for each key.
"""

from __future__ import annotations

import binascii
import hmac
import re
from abc import ABC, abstractmethod
from base64 import b64decode, b64encode, urlsafe_b64decode, urlsafe_b64encode
from binascii import hexlify
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, Generic, NamedTuple, TypeVar

from typing_extensions import override

from flowhook.document.models.credentials import AuthKind
from flowhook.errors import InvalidError
from flowhook.providers.scheme import EncodingName, Scheme
from flowhook.signatures.request_values import Chunks
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
    """Return the key that a secret encodes, never empty; ValueError: it can't be decoded, says nothing of it."""
    text = secret.removeprefix(scheme.key_prefix.encode())
    match scheme.key:
        case "utf8":
            return text or secret
        case "hex":
            return _decoded(binascii.unhexlify, text, "is not hex")
        case "base64":
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
    """Return `first_secret`, for a sender that sends it itself; InvalidError: it is a hash (`CANNOT_SIGN`)."""
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
    """Keys that one kind of `auth` made from its secrets, in the order they are tried."""

    entries: tuple[tuple[str, T], ...] = field(repr=False)  # the name of each secret and its key; not shown in the repr
    problem: str = ""  # which secrets can't be used and why, for the operator; or empty
    reason: str = ""  # `SECRET_NOT_SET` or `SECRET_INVALID`, if there is a problem

    def refusal(self, detail: str, reason: str) -> SignatureError:
        if not self.entries:
            return SignatureError(self.problem, reason=self.reason)
        return SignatureError(f"{detail} ({self.problem})" if self.problem else detail, reason=reason)


def make_keyring(kind: AuthKind, secrets: Mapping[str, bytes], make: Callable[[bytes], T]) -> Keyring[T]:
    """Return the keyring that `make`, which may raise ValueError, makes from the secrets set, or the public keys."""
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
    """Return name and value of the first secret that is set; InvalidError: none is (`SECRET_NOT_SET`)."""
    for name in kind.secret_names:
        if secrets.get(name):
            return name, secrets[name]
    raise InvalidError(f"secret {' or '.join(kind.secret_names)} is not set", reason="SECRET_NOT_SET")


def decode_text(text: bytes, encoding: EncodingName) -> bytes | None:
    """Decode bytes that were sent as text, with or without padding; None if the encoding is invalid."""
    try:
        if encoding == "hex":
            return binascii.unhexlify(text)
        padded = text.rstrip(b"=") + b"=" * (-len(text.rstrip(b"=")) % 4)
        return b64decode(padded, validate=True) if encoding == "base64" else urlsafe_b64decode(padded)
    except (binascii.Error, ValueError):
        return None


_ALPHABETS: Final = {
    "hex": re.compile(rb"[0-9a-f]*"),
    "base64": re.compile(rb"[A-Za-z0-9+/]*"),
    "base64url": re.compile(rb"[A-Za-z0-9_-]*"),
}
ENCODERS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "hex": hexlify,
    "base64": b64encode,
    "base64url": urlsafe_b64encode,
}


class StreamingDigest(NamedTuple):
    """Streaming verification of content by one key."""

    update: Callable[[bytes], None]  # adds the next bytes
    matches: Callable[[Sequence[bytes]], bool]  # whether one of the signatures matches all content; called only once


class SignatureKey(ABC):
    """One key of one scheme. Immutable; its repr contains no secret."""

    __slots__ = ()

    streams: bool = False  # whether it can hash streamed content, rather than needs it as a whole

    @abstractmethod
    def read(self, sent: bytes) -> bytes | None:
        """Return a sent signature in the form that `matches` takes; None if it can't be a signature."""

    @abstractmethod
    def matches(self, chunks: Chunks, signatures: Sequence[bytes]) -> bool:
        """Whether one of the signatures, as read, matches the content."""

    def is_well_formed(self, signature: bytes) -> bool:  # noqa: ARG002 - most kinds decode what they read
        """Whether a signature, as read, is in the expected encoding; used to explain a mismatch to the operator."""
        return True

    def begin(self) -> StreamingDigest:
        """Return a new hash for streamed content, if it `streams`."""
        raise NotImplementedError


class HmacSignatureKey(SignatureKey):
    """Verifies HMACs by comparing text: what was sent with what is expected. Nothing that was sent is decoded.

    So there is nothing to reject before the comparison, and only the intended spellings of a signature pass: hex in
    either case, base64 with or without its padding. (Decoders are laxer than they look: base64 has unused bits in its
    last character.)
    """

    __slots__ = ("_alphabet", "_encode", "_hex", "_keyed", "_length", "_padding")

    streams = True

    def __init__(self, scheme: Scheme, secret: bytes) -> None:
        self._hex = scheme.encoding == "hex"
        self._alphabet, self._encode = _ALPHABETS[scheme.encoding], ENCODERS[scheme.encoding]
        # the key's pads are hashed once, here; each request starts from a copy of that state
        self._keyed = hmac.new(make_key(secret, scheme), digestmod=scheme.algorithm)
        longest = self._encode(bytes(self._keyed.digest_size))
        self._length = len(longest.rstrip(b"="))  # characters of a signature as read
        self._padding = b"=" * (len(longest) - self._length)

    def _normalize(self, sent: bytes) -> bytes:
        """Return the spelling that is compared: lower case, or without padding."""
        if self._hex:
            return sent.lower()
        return sent.removesuffix(self._padding) if self._padding else sent

    @override
    def read(self, sent: bytes) -> bytes | None:
        signature = self._normalize(sent)
        return signature if len(signature) == self._length else None

    @override
    def is_well_formed(self, signature: bytes) -> bool:
        return self._alphabet.fullmatch(signature) is not None

    @override
    def matches(self, chunks: Chunks, signatures: Sequence[bytes]) -> bool:
        return self._is_among(signatures, self.sign(chunks))

    @override
    def begin(self) -> StreamingDigest:
        state = self._keyed.copy()
        return StreamingDigest(
            state.update, lambda signatures: self._is_among(signatures, self._encode(state.digest()))
        )

    def sign(self, chunks: Chunks) -> bytes:
        """Return the signature as it is sent: lower case, padded."""
        state = self._keyed.copy()
        for chunk in chunks:
            state.update(chunk)
        return self._encode(state.digest())

    def _is_among(self, signatures: Sequence[bytes], signature: bytes) -> bool:
        expected = self._normalize(signature)
        for each in signatures:  # noqa: SIM110 - `any` makes a generator for each request
            if hmac.compare_digest(each, expected):
                return True
        return False


class TokenSignatureKey(SignatureKey):
    """Verifies sent secrets by comparing their SHA-256, which also hides their length."""

    __slots__ = ("_digest",)

    def __init__(self, scheme: Scheme, secret: bytes) -> None:
        self._digest = sha256(make_key(secret, scheme)).digest()

    @override
    def read(self, sent: bytes) -> bytes | None:
        return sent or None

    @override
    def matches(self, chunks: Chunks, signatures: Sequence[bytes]) -> bool:
        return any(hmac.compare_digest(sha256(each).digest(), self._digest) for each in signatures)
