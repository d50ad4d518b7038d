"""Verifies PayPal's signatures, made by a certificate over four values: two are the body's CRC-32 and the webhook's ID.

The certificate is trusted because it is fetched from PayPal's own server over HTTPS, and while it is valid; PayPal's
pages require no more. A CRC-32 is not a cryptographic hash: an attacker with a signed request can make another body
with the same CRC-32. The only protection is the ID of the transmission, by which a repeated delivery is recognised. See
docs/senders.md.

Source: https://developer.paypal.com/api/rest/webhooks/rest/#link-selfverificationmethod
"""

from __future__ import annotations

import re
import zlib
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.x509 import Certificate

from flowhook.document.models.provider_auth import PaypalAuth
from flowhook.signatures.certificates import check_signature, read_certificate
from flowhook.signatures.headers import single_header
from flowhook.signatures.key_requests import KeyRequest, fetched_key
from flowhook.signatures.timestamps import check_timestamp
from flowhook.signatures.types import Match, RequestView, SignatureError

TOLERANCE: Final = float("inf")
"""PayPal repeats a delivery for three days, and does not document whether with the timestamp of the first."""

_URL: Final = re.compile(
    rb"https://api(?:-m)?(?:\.sandbox)?\.paypal\.com/v1/notifications/certs/CERT-[A-Za-z0-9-]{1,100}"
)
"""URL of a certificate, as in every example of PayPal's: on the hosts of its API, which have two names each."""

_SIGNATURE: Final = "paypal-transmission-sig"
_CERTIFICATE: Final = "paypal-cert-url"
_ALGORITHM: Final = "paypal-auth-algo"
_ID: Final = "paypal-transmission-id"
_TIME: Final = "paypal-transmission-time"


class PaypalVerifier:
    """Verifies PayPal's signature."""

    scheme = PaypalAuth.kind
    needs_body = True
    signs_body = True
    required_headers = frozenset({_SIGNATURE})
    credential_headers = frozenset({_SIGNATURE})
    credential_query: frozenset[str] = frozenset()
    challenge = None

    def __init__(self, kind: PaypalAuth) -> None:
        self._webhook_id = kind.webhook_id.encode()

    def key_request(self, request: RequestView) -> KeyRequest[Certificate] | None:
        """See `KeyedVerifier`."""
        try:
            return self._request(request)
        except SignatureError:
            return None

    def verify(self, request: RequestView, now: float) -> Match:
        """See `Verifier.verify`; the match has the name of the setting, `webhook_id`."""
        sent = single_header(request.headers, _SIGNATURE, kind="SIGNATURE")
        if sent is None:
            raise SignatureError(f"header {_SIGNATURE} is missing", reason="SIGNATURE_MISSING")
        if _value(request, _ALGORITHM) != b"SHA256withRSA":
            raise SignatureError("the signature is by another algorithm", reason="SIGNATURE_MALFORMED")
        message_id, sent_at = _value(request, _ID), _value(request, _TIME)
        check_timestamp(sent_at, "rfc3339", TOLERANCE, now)
        if b"|" in message_id:
            raise SignatureError("the transmission's ID contains a `|`", reason="SIGNATURE_MALFORMED")
        certificate = fetched_key(request, self._request(request))
        crc = str(zlib.crc32(request.body)).encode()
        content = b"|".join((message_id, sent_at, self._webhook_id, crc))
        check_signature(certificate, sent, content, hashes.SHA256(), now)
        return Match(self.scheme, "webhook_id")

    def delivery_id(self, request: RequestView) -> str | None:
        """See `Verifier.delivery_id`."""
        try:
            return _value(request, _ID).decode("latin-1")
        except SignatureError:
            return None

    def _request(self, request: RequestView) -> KeyRequest[Certificate]:
        url = _value(request, _CERTIFICATE)
        if not _URL.fullmatch(url):
            raise SignatureError("the certificate's URL is not one of PayPal's", reason="SIGNATURE_MALFORMED")
        return KeyRequest(url.decode(), read_certificate, self.scheme)


def _value(request: RequestView, name: str) -> bytes:
    value = single_header(request.headers, name, kind="SIGNATURE")
    if not value:
        raise SignatureError(f"the signature lacks the header {name}", reason="SIGNATURE_MALFORMED")
    return value
