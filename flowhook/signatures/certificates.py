"""Reads certificates that a provider publishes at a URL, and verifies RSA signatures by their keys."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from flowhook.signatures.public_keys import MAX_SIGNATURE_BYTES, decode_text
from flowhook.signatures.types import SignatureError

MIN_RSA_BITS: Final = 2048


def read_certificate(document: bytes) -> Mapping[str, x509.Certificate]:
    """Return the first certificate of a PEM file, which is the signer's, under the empty key ID.

    Raises:
        ValueError: there is none, or its key is not RSA, or too short.
    """
    try:
        certificate = x509.load_pem_x509_certificates(document)[0]
        key = certificate.public_key()
    except Exception:  # noqa: BLE001 - the library raises several kinds, and more of them with each version
        raise ValueError("is not a certificate in PEM") from None
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < MIN_RSA_BITS:
        raise ValueError(f"has no RSA key of at least {MIN_RSA_BITS} bits")
    return {"": certificate}


def check_signature(
    certificate: x509.Certificate, sent: bytes, content: bytes, algorithm: hashes.HashAlgorithm, now: float
) -> None:
    """Check a signature (PKCS #1 v1.5) in base64, and that the certificate is valid now.

    Raises:
        SignatureError: `SIGNATURE_MALFORMED`, `SIGNATURE_MISMATCH` or `KEY_UNKNOWN`.
    """
    moment = datetime.fromtimestamp(now, UTC)
    if not certificate.not_valid_before_utc <= moment <= certificate.not_valid_after_utc:
        raise SignatureError("the certificate is not valid at this time", reason="KEY_UNKNOWN")
    signature = decode_text(sent, "base64") if len(sent) <= 2 * MAX_SIGNATURE_BYTES else None
    if not signature:
        raise SignatureError("the signature is not in base64", reason="SIGNATURE_MALFORMED")
    key = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        raise SignatureError("the certificate has no RSA key", reason="KEY_UNKNOWN")
    try:
        key.verify(signature, content, padding.PKCS1v15(), algorithm)
    except (InvalidSignature, ValueError):
        raise SignatureError(
            "the signature does not match: another key, or other content", reason="SIGNATURE_MISMATCH"
        ) from None
