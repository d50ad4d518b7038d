"""Verifies Amazon SNS and PayPal: signatures by certificates that the provider publishes at a URL."""

from __future__ import annotations

import hmac
import re
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509 import Certificate
from typing_extensions import override

from flowhook.document.models.auth import AwsSnsAuth, PaypalAuth
from flowhook.providers.table import AWS_SNS_HOST
from flowhook.signatures.keys import decode_text
from flowhook.signatures.public_keys import MAX_SIGNATURE_BYTES, verifies
from flowhook.signatures.request_values import required_header, single_header
from flowhook.signatures.timestamps import check_timestamp
from flowhook.signatures.types import (
    KeyedVerifier,
    KeyRequest,
    Match,
    RequestView,
    SignatureError,
    fetched_key,
    json_of,
)

MIN_RSA_BITS: Final = 2048


def read_certificate(document: bytes) -> Mapping[str, Certificate]:
    """Return a PEM file's first certificate, the signer's, under the empty ID; ValueError: not RSA, or too short."""
    try:
        certificate = x509.load_pem_x509_certificates(document)[0]
        key = certificate.public_key()
    except Exception:  # noqa: BLE001 - the library raises several kinds, and more of them with each version
        raise ValueError("is not a certificate in PEM") from None
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < MIN_RSA_BITS:
        raise ValueError(f"has no RSA key of at least {MIN_RSA_BITS} bits")
    return {"": certificate}


def check_signature(
    certificate: Certificate, sent: bytes, content: bytes, algorithm: hashes.HashAlgorithm, now: float
) -> None:
    """Check a signature (PKCS #1 v1.5) in base64, and the certificate's time; may raise SignatureError."""
    moment = datetime.fromtimestamp(now, UTC)
    if not certificate.not_valid_before_utc <= moment <= certificate.not_valid_after_utc:
        raise SignatureError("the certificate is not valid at this time", reason="KEY_UNKNOWN")
    signature = decode_text(sent, "base64") if len(sent) <= 2 * MAX_SIGNATURE_BYTES else None
    if not signature:
        raise SignatureError("the signature is not in base64", reason="SIGNATURE_MALFORMED")
    key = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        raise SignatureError("the certificate has no RSA key", reason="KEY_UNKNOWN")
    if not verifies(key.verify, signature, content, padding.PKCS1v15(), algorithm):
        raise SignatureError("the signature does not match: another key, or other content", reason="SIGNATURE_MISMATCH")


_CERTIFICATE_URL: Final = re.compile(rf"https://{AWS_SNS_HOST}/SimpleNotificationService-[0-9A-Za-z]{{1,64}}\.pem")

_NOTIFICATION: Final = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_CONFIRMATION: Final = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
SIGNED: Final[Mapping[object, tuple[str, ...]]] = {
    "Notification": _NOTIFICATION,
    "SubscriptionConfirmation": _CONFIRMATION,
    "UnsubscribeConfirmation": _CONFIRMATION,
}
"""Signed fields of each type of message, in order; `Subject` only if the message has it."""

_HASHES: Final[Mapping[object, type[hashes.HashAlgorithm]]] = {"1": hashes.SHA1, "2": hashes.SHA256}


class AwsSnsVerifier(KeyedVerifier):
    """Verifies the messages of one Amazon SNS topic; the body contains the signature and the URL of the certificate.

    The messages of all AWS accounts are signed by the same certificates: only the topic identifies the account.

    Source: https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message-verify-message-signature.html
    """

    scheme = AwsSnsAuth.kind
    needs_body = True
    reads_json = True

    def __init__(self, auth: AwsSnsAuth) -> None:
        self._topic = auth.topic_arn.encode()

    @override
    def _wanted_key(self, request: RequestView) -> KeyRequest[Certificate]:
        return self._request(self._message(request))

    @override
    def verify(self, request: RequestView, now: float) -> Match:
        message = self._message(request)
        algorithm = _HASHES.get(_message_text(message, "SignatureVersion"))
        if algorithm is None:
            raise SignatureError("the signature is of an unknown version", reason="SIGNATURE_MALFORMED")
        certificate = fetched_key(request, self._request(message))
        names = [name for name in SIGNED[message["Type"]] if name != "Subject" or message.get(name) is not None]
        content = "".join(f"{name}\n{_message_text(message, name)}\n" for name in names).encode()
        check_signature(certificate, _message_text(message, "Signature").encode(), content, algorithm(), now)
        return Match(self.scheme, "topic_arn")

    @override
    def delivery_id(self, request: RequestView) -> str | None:
        try:
            return _message_text(self._message(request), "MessageId")
        except SignatureError:
            return None

    def _message(self, request: RequestView) -> dict[str, Any]:
        """Return the message, still unverified, and refuse those of other topics."""
        message = json_of(request)
        if not isinstance(message, dict) or "Signature" not in message:
            raise SignatureError("the body has no field Signature", reason="SIGNATURE_MISSING")
        if _message_text(message, "Type") not in SIGNED:
            raise SignatureError("the message is of an unknown type", reason="SIGNATURE_MALFORMED")
        if not hmac.compare_digest(_message_text(message, "TopicArn").encode(), self._topic):
            raise SignatureError("the message is of another topic", reason="SIGNATURE_MISMATCH")
        return message

    def _request(self, message: Mapping[str, Any]) -> KeyRequest[Certificate]:
        url = _message_text(message, "SigningCertURL")
        if not _CERTIFICATE_URL.fullmatch(url):
            raise SignatureError("the certificate's URL is not one of Amazon SNS", reason="SIGNATURE_MALFORMED")
        return KeyRequest(url, read_certificate, self.scheme)


def _message_text(message: Mapping[str, Any], name: str) -> str:
    value = message.get(name)
    if not isinstance(value, str):
        raise SignatureError(f"the message lacks {name}", reason="SIGNATURE_MALFORMED")
    return value


# PayPal repeats a delivery for three days, and does not document whether with the timestamp of the first.
TOLERANCE: Final = float("inf")

_URL: Final = re.compile(
    rb"https://api(?:-m)?(?:\.sandbox)?\.paypal\.com/v1/notifications/certs/CERT-[A-Za-z0-9-]{1,100}"
)
"""URL of a certificate, as in every example of PayPal's: on the hosts of its API, which have two names each."""

_SIGNATURE: Final = "paypal-transmission-sig"
_CERTIFICATE: Final = "paypal-cert-url"
_ALGORITHM: Final = "paypal-auth-algo"
_ID: Final = "paypal-transmission-id"
_TIME: Final = "paypal-transmission-time"


class PaypalVerifier(KeyedVerifier):
    """Verifies PayPal's signature over four values: two are the body's CRC-32 and the webhook's ID.

    The certificate is trusted because it is fetched from PayPal's own server over HTTPS, and while it is valid;
    PayPal's pages require no more. A CRC-32 is not a cryptographic hash: an attacker with a signed request can make
    another body with the same CRC-32. The only protection is the ID of the transmission, by which a repeated delivery
    is recognised. See docs/providers/paypal.md.

    Source: https://developer.paypal.com/api/rest/webhooks/rest/#link-selfverificationmethod
    """

    scheme = PaypalAuth.kind
    needs_body = True
    signs_body = True
    required_headers = frozenset({_SIGNATURE})
    credential_headers = frozenset({_SIGNATURE})

    def __init__(self, auth: PaypalAuth) -> None:
        self._webhook_id = auth.webhook_id.encode()

    @override
    def verify(self, request: RequestView, now: float) -> Match:
        sent = required_header(request.headers, _SIGNATURE, kind="SIGNATURE")
        if _value(request, _ALGORITHM) != b"SHA256withRSA":
            raise SignatureError("the signature is by another algorithm", reason="SIGNATURE_MALFORMED")
        message_id, sent_at = _value(request, _ID), _value(request, _TIME)
        check_timestamp(sent_at, "rfc3339", TOLERANCE, now)
        if b"|" in message_id:
            raise SignatureError("the transmission's ID contains a `|`", reason="SIGNATURE_MALFORMED")
        certificate = fetched_key(request, self._wanted_key(request))
        crc = str(zlib.crc32(request.body)).encode()
        content = b"|".join((message_id, sent_at, self._webhook_id, crc))
        check_signature(certificate, sent, content, hashes.SHA256(), now)
        return Match(self.scheme, "webhook_id")

    @override
    def delivery_id(self, request: RequestView) -> str | None:
        try:
            return _value(request, _ID).decode("latin-1")
        except SignatureError:
            return None

    @override
    def _wanted_key(self, request: RequestView) -> KeyRequest[Certificate]:
        url = _value(request, _CERTIFICATE)
        if not _URL.fullmatch(url):
            raise SignatureError("the certificate's URL is not one of PayPal's", reason="SIGNATURE_MALFORMED")
        return KeyRequest(url.decode(), read_certificate, self.scheme)


def _value(request: RequestView, name: str) -> bytes:
    value = single_header(request.headers, name, kind="SIGNATURE")
    if not value:
        raise SignatureError(f"the signature lacks the header {name}", reason="SIGNATURE_MALFORMED")
    return value
