"""Verifies signatures by public keys: Ed25519, ECDSA and RSA.

It is a module of its own, imported for the first such key: `cryptography` is large, and most flows do not need it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from typing_extensions import override

from flowhook.providers.scheme import Algorithm, Scheme, SignatureMethod
from flowhook.signatures.keys import SignatureKey, StreamingDigest, decode_text
from flowhook.signatures.request_values import Chunks

MAX_SIGNATURE_BYTES: Final = 1024  # longest signature that a public key verifies: RSA with 8192 bits

MAX_ED25519_SIGNATURES: Final = 4
"""Signatures of one request that are tried: each is hashed together with the whole content.

Source: RFC 8032, section 5.1.7.
"""

_MIN_RSA_BITS: Final = 1024
_RAW_KEY_BYTES: Final = 32
_RAW_ECDSA_BYTES: Final = 64

_HASHES: Final[dict[Algorithm, type[hashes.HashAlgorithm]]] = {
    "sha1": hashes.SHA1,
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}


class PublicSignatureKey(SignatureKey):
    """Verifies with Ed25519, ECDSA or RSA."""

    __slots__ = ("_algorithm", "_encoding", "_key", "streams")

    def __init__(self, scheme: Scheme, key: bytes) -> None:
        """Load a key; ValueError: it is not a key for the method; the message contains nothing of it."""
        self._key = load_public_key(key, scheme.method)
        self.streams = scheme.method != "ed25519"  # which needs its content twice
        self._algorithm = _HASHES[scheme.algorithm]()
        self._encoding = scheme.encoding

    @override
    def read(self, sent: bytes) -> bytes | None:
        signature = decode_text(sent, self._encoding) if len(sent) <= 2 * MAX_SIGNATURE_BYTES else None
        if signature is None or not 0 < len(signature) <= MAX_SIGNATURE_BYTES:
            return None
        return signature

    @override
    def matches(self, chunks: Chunks, signatures: Sequence[bytes]) -> bool:
        key = self._key
        if isinstance(key, ed25519.Ed25519PublicKey):
            content = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            return any(verifies(key.verify, signature, content) for signature in signatures[:MAX_ED25519_SIGNATURES])
        state = hashes.Hash(self._algorithm)
        for chunk in chunks:
            state.update(chunk)
        return self._verify_digest(state.finalize(), signatures)

    @override
    def begin(self) -> StreamingDigest:
        state = hashes.Hash(self._algorithm)
        return StreamingDigest(state.update, lambda signatures: self._verify_digest(state.finalize(), signatures))

    def _verify_digest(self, digest: bytes, signatures: Sequence[bytes]) -> bool:
        key = self._key
        prehashed = Prehashed(self._algorithm)
        if isinstance(key, rsa.RSAPublicKey):
            return any(verifies(key.verify, each, digest, padding.PKCS1v15(), prehashed) for each in signatures)
        spelled = [der for each in signatures for der in _in_der(each)]
        return any(verifies(key.verify, der, digest, ec.ECDSA(prehashed)) for der in spelled)


PublicKey = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey
_KINDS: Final[dict[SignatureMethod, type[PublicKey]]] = {
    "ed25519": ed25519.Ed25519PublicKey,
    "ecdsa": ec.EllipticCurvePublicKey,
    "rsa": rsa.RSAPublicKey,
}


def load_public_key(text: bytes, method: SignatureMethod) -> PublicKey:
    """Return a key: PEM, or hex or base64 of SubjectPublicKeyInfo or bare Ed25519; ValueError: another, too short."""
    text = text.strip()
    try:
        if text.startswith(b"-----"):
            key = serialization.load_pem_public_key(text)
        else:
            raw = decode_text(text, "hex") or decode_text(text, "base64") or b""
            bare = method == "ed25519" and len(raw) == _RAW_KEY_BYTES
            key = ed25519.Ed25519PublicKey.from_public_bytes(raw) if bare else serialization.load_der_public_key(raw)
    except Exception:  # noqa: BLE001 - the library raises several kinds, and more of them with each version
        raise ValueError("is not a public key: PEM, or its DER in base64 or hex") from None
    if not isinstance(key, _KINDS[method]):
        raise ValueError(f"is not a key for {method}")  # noqa: TRY004 - of the text, not of a type
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _MIN_RSA_BITS:
        raise ValueError(f"has less than {_MIN_RSA_BITS} bits")
    return key


def verifies(verify: object, *arguments: object) -> bool:
    try:
        verify(*arguments)  # type: ignore[operator] # each kind of key takes other arguments
    except (InvalidSignature, ValueError):
        return False
    return True


def _in_der(signature: bytes) -> list[bytes]:
    """Return an ECDSA signature in DER: as it is, and converted in case it is two numbers end to end (as in JWS)."""
    if len(signature) != _RAW_ECDSA_BYTES:
        return [signature]
    half = _RAW_ECDSA_BYTES // 2
    return [signature, encode_dss_signature(int.from_bytes(signature[:half]), int.from_bytes(signature[half:]))]
