"""Keys that verify signatures: a shared secret or a public key, prepared for use.

Sent signatures are first *read*, which costs nothing. Only those that could be valid are *matched*, which hashes the
content once for each key.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from hashlib import sha256
from typing import Protocol

from flowhook.providers.scheme import Scheme, SignatureMethod
from flowhook.signatures.content import Chunks
from flowhook.signatures.encodings import DigestEncoding
from flowhook.signatures.keyring import make_key
from flowhook.signatures.streaming import StreamingDigest


class SignatureKey(Protocol):
    """One key of one scheme. Immutable; its repr contains no secret."""

    def read(self, sent: bytes) -> bytes | None:
        """Return a sent signature in the form that `matches` takes; None if it can't be a signature."""
        ...

    def is_well_formed(self, signature: bytes) -> bool:
        """Whether a signature, as read, is in the expected encoding; used to explain a mismatch to the operator."""
        ...

    @property
    def streams(self) -> bool:
        """Whether it can hash streamed content; if so, `begin` does not return None."""
        ...

    def matches(self, chunks: Chunks, signatures: Sequence[bytes]) -> bool:
        """Whether one of the signatures, as read, matches the content."""
        ...

    def begin(self) -> StreamingDigest | None:
        """Return a new hash for streamed content; None if the content is needed as a whole."""
        ...


class _StreamingHmac:
    """See `StreamingDigest`."""

    __slots__ = ("_encoding", "_state")

    def __init__(self, encoding: DigestEncoding, state: hmac.HMAC) -> None:
        self._encoding = encoding
        self._state = state

    def update(self, data: bytes) -> None:
        self._state.update(data)

    def matches(self, signatures: Sequence[bytes]) -> bool:
        expected = self._encoding.normalize(self._encoding.encode(self._state.digest()))
        return any(hmac.compare_digest(signature, expected) for signature in signatures)


class HmacSignatureKey:
    """Verifies HMACs by comparing text: nothing that was sent is decoded (see `encodings`)."""

    __slots__ = ("_encoding", "_keyed", "is_well_formed")

    streams = True

    def __init__(self, scheme: Scheme, secret: bytes) -> None:
        self._encoding = DigestEncoding(scheme.encoding, scheme.algorithm)
        self.is_well_formed = self._encoding.is_well_formed
        # the key's pads are hashed once, here; each request starts from a copy of that state
        self._keyed = hmac.new(make_key(secret, scheme), digestmod=scheme.algorithm)

    def read(self, sent: bytes) -> bytes | None:
        """See `SignatureKey`."""
        signature = self._encoding.normalize(sent)
        return signature if len(signature) == self._encoding.length else None

    def matches(self, chunks: Chunks, signatures: Sequence[bytes]) -> bool:
        """See `SignatureKey`."""
        expected = self._encoding.normalize(self.sign(chunks))
        for signature in signatures:  # noqa: SIM110 - `any` makes a generator for each request
            if hmac.compare_digest(signature, expected):
                return True
        return False

    def begin(self) -> StreamingDigest:
        """See `SignatureKey`."""
        return _StreamingHmac(self._encoding, self._keyed.copy())

    def sign(self, chunks: Chunks) -> bytes:
        """Return the signature as it is sent."""
        state = self._keyed.copy()
        for chunk in chunks:
            state.update(chunk)
        return self._encoding.encode(state.digest())


class TokenSignatureKey:
    """Verifies sent secrets by comparing their SHA-256, which also hides their length."""

    __slots__ = ("_digest",)

    streams = False

    def __init__(self, scheme: Scheme, secret: bytes) -> None:
        self._digest = sha256(make_key(secret, scheme)).digest()

    def read(self, sent: bytes) -> bytes | None:
        """See `SignatureKey`."""
        return sent or None

    def is_well_formed(self, signature: bytes) -> bool:  # noqa: ARG002 - any token could be one
        """See `SignatureKey`."""
        return True

    def matches(self, chunks: Chunks, signatures: Sequence[bytes]) -> bool:  # noqa: ARG002 - a token covers nothing
        """See `SignatureKey`."""
        return any(hmac.compare_digest(sha256(each).digest(), self._digest) for each in signatures)

    def begin(self) -> None:
        """See `SignatureKey`."""


def make_signature_key(scheme: Scheme, key: bytes) -> SignatureKey:
    """Return the `SignatureKey` of a scheme for a key.

    Raises:
        ValueError: the key can't be decoded; the message contains nothing of it.
    """
    if scheme.method is SignatureMethod.HMAC:
        return HmacSignatureKey(scheme, key)
    if scheme.method is SignatureMethod.TOKEN:
        return TokenSignatureKey(scheme, key)
    from flowhook.signatures.public_keys import PublicSignatureKey  # noqa: PLC0415 - see there

    return PublicSignatureKey(scheme, key)
