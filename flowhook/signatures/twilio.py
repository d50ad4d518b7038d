"""Verifies Twilio's signatures, whose content depends on the type of the body.

For a form, the URL and every name and value of the form are signed, sorted. For anything else, the URL alone is signed,
and its query parameter `bodySHA256` is the hash of the body.

Source: https://www.twilio.com/docs/usage/security#validating-requests.
"""

from __future__ import annotations

import hmac
from hashlib import sha256

from flowhook.payloads import parse_content_type
from flowhook.signatures.query import parameter_values
from flowhook.signatures.types import Match, RequestView, SignatureError
from flowhook.signatures.verification import SignatureVerifier

_BODY_HASH = "bodySHA256"


class TwilioVerifier(SignatureVerifier):
    """Verifies both variants of the signature, by the Content-Type."""

    streams = False

    def verify(self, request: RequestView, now: float) -> Match:
        """See `Verifier.verify`."""
        content_type = next((value for name, value in request.headers if name == "content-type"), b"")
        essence = parse_content_type(content_type.decode("latin-1")).essence
        if not request.body or essence == "application/x-www-form-urlencoded":
            return super().verify(request, now)
        match = super().verify(request._replace(body=b""), now)
        hashes = parameter_values(request.query, _BODY_HASH)
        expected = sha256(request.body).hexdigest().encode()
        if len(hashes) != 1 or not hmac.compare_digest(hashes[0][0].lower(), expected):
            raise SignatureError("the hash in the URL is not that of the body", reason="SIGNATURE_MISMATCH")
        return match
