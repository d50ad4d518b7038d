"""Verifies Amazon SNS messages; the body contains the signature and the URL of the certificate.

The messages of all AWS accounts are signed by the same certificates: only the topic identifies the account.

Source: https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message-verify-message-signature.html
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.x509 import Certificate

from flowhook.document.models.provider_auth import AwsSnsAuth
from flowhook.providers.table import AWS_SNS_HOST
from flowhook.signatures.certificates import check_signature, read_certificate
from flowhook.signatures.json_body import json_of
from flowhook.signatures.key_requests import KeyRequest, fetched_key
from flowhook.signatures.types import Match, RequestView, SignatureError

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


class AwsSnsVerifier:
    """Verifies the messages of one topic."""

    scheme = AwsSnsAuth.kind
    needs_body = True
    reads_json = True
    required_headers: frozenset[str] = frozenset()
    credential_headers: frozenset[str] = frozenset()
    credential_query: frozenset[str] = frozenset()
    challenge = None

    def __init__(self, kind: AwsSnsAuth) -> None:
        self._topic = kind.topic_arn.encode()

    def key_request(self, request: RequestView) -> KeyRequest[Certificate] | None:
        """See `KeyedVerifier`; None for messages of other topics."""
        try:
            return self._request(self._message(request))
        except SignatureError:
            return None

    def verify(self, request: RequestView, now: float) -> Match:
        """See `Verifier.verify`; the match has the name of the setting, `topic_arn`."""
        message = self._message(request)
        algorithm = _HASHES.get(_text(message, "SignatureVersion"))
        if algorithm is None:
            raise SignatureError("the signature is of an unknown version", reason="SIGNATURE_MALFORMED")
        certificate = fetched_key(request, self._request(message))
        names = [name for name in SIGNED[message["Type"]] if name != "Subject" or message.get(name) is not None]
        content = "".join(f"{name}\n{_text(message, name)}\n" for name in names).encode()
        check_signature(certificate, _text(message, "Signature").encode(), content, algorithm(), now)
        return Match(self.scheme, "topic_arn")

    def delivery_id(self, request: RequestView) -> str | None:
        """See `Verifier.delivery_id`."""
        try:
            return _text(self._message(request), "MessageId")
        except SignatureError:
            return None

    def _message(self, request: RequestView) -> dict[str, Any]:
        """Return the message, still unverified, and refuse those of other topics."""
        message = json_of(request)
        if not isinstance(message, dict) or "Signature" not in message:
            raise SignatureError("the body has no field Signature", reason="SIGNATURE_MISSING")
        if _text(message, "Type") not in SIGNED:
            raise SignatureError("the message is of an unknown type", reason="SIGNATURE_MALFORMED")
        if not hmac.compare_digest(_text(message, "TopicArn").encode(), self._topic):
            raise SignatureError("the message is of another topic", reason="SIGNATURE_MISMATCH")
        return message

    def _request(self, message: Mapping[str, Any]) -> KeyRequest[Certificate]:
        url = _text(message, "SigningCertURL")
        if not _CERTIFICATE_URL.fullmatch(url):
            raise SignatureError("the certificate's URL is not one of Amazon SNS", reason="SIGNATURE_MALFORMED")
        return KeyRequest(url, read_certificate, self.scheme)


def _text(message: Mapping[str, Any], name: str) -> str:
    value = message.get(name)
    if not isinstance(value, str):
        raise SignatureError(f"the message lacks {name}", reason="SIGNATURE_MALFORMED")
    return value
