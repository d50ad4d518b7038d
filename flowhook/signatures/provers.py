"""What tells a good signature from a bad one: a secret or a public key, ready for use.

Sent signatures are first *read*, which costs nothing, and only those that could be good are *proved*, which hashes the
content once for each key.
"""

from __future__ import annotations

import binascii
import hmac
from base64 import b64decode, urlsafe_b64decode
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

from flowhook.signatures.content import Chunks
from flowhook.signatures.encodings import Encoding
from flowhook.signatures.keys import make_key
from flowhook.signatures.scheme import Algorithm, EncodingName, Method, Scheme
from flowhook.signatures.streaming import Hashing

MAX_SIGNATURE_BYTES: Final = 1024
"""Longest signature by a public key: RSA with 8192 bits."""

_MIN_RSA_BITS: Final = 1024
_RAW_KEY_BYTES: Final = 32
_RAW_ECDSA_BYTES: Final = 64

_HASHES: Final[dict[Algorithm, type[hashes.HashAlgorithm]]] = {
    "sha1": hashes.SHA1,
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}


class Prover(Protocol):
    """One key of one scheme. Immutable; holds no secret in its repr."""

    def read(self, sent: bytes) -> bytes | None:
        """Return a signature as `proves` takes it, or None when it can't be one."""
        ...

    def is_well_formed(self, signature: bytes) -> bool:
        """Whether what was read is written as it should be; for the operator, when it proved nothing."""
        ...

    @property
    def streams(self) -> bool:
        """Whether it can take content as it comes, so that `begin` gives something."""
        ...

    def proves(self, chunks: Chunks, signatures: Sequence[bytes]) -> bool:
        """Whether one of the signatures, as read, is that of the content."""
        ...

    def begin(self) -> Hashing | None:
        """Return what takes content as it comes; None where it has to be there as a whole."""
        ...


class _HmacHashing:
    """See `Hashing`."""

    __slots__ = ("_encoding", "_state")

    def __init__(self, encoding: Encoding, state: hmac.HMAC) -> None:
        self._encoding = encoding
        self._state = state

    def update(self, data: bytes) -> None:
        self._state.update(data)

    def proves(self, signatures: Sequence[bytes]) -> bool:
        expected = self._encoding.normalize(self._encoding.encode(self._state.digest()))
        return any(hmac.compare_digest(signature, expected) for signature in signatures)


class HmacProver:
    """Compares by text: nothing that was sent is decoded (see `encodings`)."""

    __slots__ = ("_encoding", "_keyed", "is_well_formed")

    streams = True

    def __init__(self, scheme: Scheme, secret: bytes) -> None:
        self._encoding = Encoding(scheme.encoding, scheme.algorithm)
        self.is_well_formed = self._encoding.is_well_formed
        # the key's pads are hashed once, here; each request starts from a copy of that state
        self._keyed = hmac.new(make_key(secret, scheme), digestmod=scheme.algorithm)

    def read(self, sent: bytes) -> bytes | None:
        """See `Prover`."""
        signature = self._encoding.normalize(sent)
        return signature if len(signature) == self._encoding.length else None

    def proves(self, chunks: Chunks, signatures: Sequence[bytes]) -> bool:
        """See `Prover`."""
        expected = self._encoding.normalize(self.sign(chunks))
        for signature in signatures:  # noqa: SIM110 - `any` makes a generator for each request
            if hmac.compare_digest(signature, expected):
                return True
        return False

    def begin(self) -> Hashing:
        """See `Prover`."""
        return _HmacHashing(self._encoding, self._keyed.copy())

    def sign(self, chunks: Chunks) -> bytes:
        """Return the signature as it is sent."""
        state = self._keyed.copy()
        for chunk in chunks:
            state.update(chunk)
        return self._encoding.encode(state.digest())


class TokenProver:
    """Compares the SHA-256 of what was sent, which hides its length, too."""

    __slots__ = ("_digest",)

    streams = False

    def __init__(self, scheme: Scheme, secret: bytes) -> None:
        self._digest = sha256(make_key(secret, scheme)).digest()

    def read(self, sent: bytes) -> bytes | None:
        """See `Prover`."""
        return sent or None

    def is_well_formed(self, signature: bytes) -> bool:  # noqa: ARG002 - any token could be one
        """See `Prover`."""
        return True

    def proves(self, chunks: Chunks, signatures: Sequence[bytes]) -> bool:  # noqa: ARG002 - a token covers nothing
        """See `Prover`."""
        return any(hmac.compare_digest(sha256(each).digest(), self._digest) for each in signatures)

    def begin(self) -> None:
        """See `Prover`."""


class _PublicKeyHashing:
    """See `Hashing`."""

    __slots__ = ("_holds", "_state")

    def __init__(self, state: hashes.Hash, holds: Callable[[bytes, Sequence[bytes]], bool]) -> None:
        self._state = state
        self._holds = holds

    def update(self, data: bytes) -> None:
        self._state.update(data)

    def proves(self, signatures: Sequence[bytes]) -> bool:
        return self._holds(self._state.finalize(), signatures)


class PublicKeyProver:
    """Verifies with Ed25519, ECDSA or RSA."""

    __slots__ = ("_algorithm", "_encoding", "_key")

    def __init__(self, scheme: Scheme, key: bytes) -> None:
        """Load a key.

        Raises:
            ValueError: it is none of the method's; the text holds nothing of it.
        """
        self._key = load_public_key(key, scheme.method)
        self._algorithm = _HASHES[scheme.algorithm]()
        self._encoding = scheme.encoding

    def read(self, sent: bytes) -> bytes | None:
        """See `Prover`."""
        signature = decode_text(sent, self._encoding) if len(sent) <= 2 * MAX_SIGNATURE_BYTES else None
        if signature is None or not 0 < len(signature) <= MAX_SIGNATURE_BYTES:
            return None
        return signature

    def is_well_formed(self, signature: bytes) -> bool:  # noqa: ARG002 - `read` has seen to it
        """See `Prover`."""
        return True

    def proves(self, chunks: Chunks, signatures: Sequence[bytes]) -> bool:
        """See `Prover`."""
        key = self._key
        if isinstance(key, ed25519.Ed25519PublicKey):
            content = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            return any(_holds(key.verify, signature, content) for signature in signatures)
        state = hashes.Hash(self._algorithm)
        for chunk in chunks:
            state.update(chunk)
        return self._prove_digest(state.finalize(), signatures)

    @property
    def streams(self) -> bool:
        """See `Prover`; Ed25519 goes over its content twice."""
        return not isinstance(self._key, ed25519.Ed25519PublicKey)

    def begin(self) -> Hashing | None:
        """See `Prover`."""
        return _PublicKeyHashing(hashes.Hash(self._algorithm), self._prove_digest) if self.streams else None

    def _prove_digest(self, digest: bytes, signatures: Sequence[bytes]) -> bool:
        key = self._key
        prehashed = Prehashed(self._algorithm)
        if isinstance(key, rsa.RSAPublicKey):
            return any(_holds(key.verify, each, digest, padding.PKCS1v15(), prehashed) for each in signatures)
        spelled = [der for each in signatures for der in _in_der(each)]
        return any(_holds(key.verify, der, digest, ec.ECDSA(prehashed)) for der in spelled)


def make_prover(scheme: Scheme, key: bytes) -> Prover:
    """Return what proves signatures by a key.

    Raises:
        ValueError: it can't be read; the text holds nothing of it.
    """
    if scheme.method is Method.HMAC:
        return HmacProver(scheme, key)
    if scheme.method is Method.TOKEN:
        return TokenProver(scheme, key)
    return PublicKeyProver(scheme, key)


PublicKey = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey
_KINDS: Final[dict[Method, type[PublicKey]]] = {
    Method.ED25519: ed25519.Ed25519PublicKey,
    Method.ECDSA: ec.EllipticCurvePublicKey,
    Method.RSA: rsa.RSAPublicKey,
}


def load_public_key(text: bytes, method: Method) -> PublicKey:
    """Return a public key: PEM, or hex or base64 of its SubjectPublicKeyInfo, or of a bare Ed25519 key.

    Raises:
        ValueError: it is none, of another method, or too short.
    """
    text = text.strip()
    try:
        if text.startswith(b"-----"):
            key = serialization.load_pem_public_key(text)
        else:
            raw = decode_text(text, "hex") or decode_text(text, "base64") or b""
            bare = method is Method.ED25519 and len(raw) == _RAW_KEY_BYTES
            key = ed25519.Ed25519PublicKey.from_public_bytes(raw) if bare else serialization.load_der_public_key(raw)
    except Exception:  # noqa: BLE001 - the library raises several kinds, and more of them with each version
        raise ValueError("is no public key: PEM, or its DER in base64 or hex") from None
    if not isinstance(key, _KINDS[method]):
        raise ValueError(f"is no key for {method.name.lower()}")  # noqa: TRY004 - of the text, not of a type
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _MIN_RSA_BITS:
        raise ValueError(f"has less than {_MIN_RSA_BITS} bits")
    return key


def decode_text(text: bytes, encoding: EncodingName) -> bytes | None:
    """Return bytes that were sent as text, padding optional; None when they are not written so."""
    try:
        if encoding == "hex":
            return binascii.unhexlify(text)
        padded = text.rstrip(b"=") + b"=" * (-len(text.rstrip(b"=")) % 4)
        return b64decode(padded, validate=True) if encoding == "base64" else urlsafe_b64decode(padded)
    except (binascii.Error, ValueError):
        return None


def _holds(verify: object, *arguments: object) -> bool:
    try:
        verify(*arguments)  # type: ignore[operator] # each kind of key has its own signature
    except (InvalidSignature, ValueError):
        return False
    return True


def _in_der(signature: bytes) -> list[bytes]:
    """Return an ECDSA signature in DER: as it is, and as the two numbers end to end (as in JWS) that it may be."""
    if len(signature) != _RAW_ECDSA_BYTES:
        return [signature]
    half = _RAW_ECDSA_BYTES // 2
    return [signature, encode_dss_signature(int.from_bytes(signature[:half]), int.from_bytes(signature[half:]))]
