"""Verification of the signatures and credentials of requests, and signing of requests as a sender.

Lives here: one `Verifier` per kind of `auth` (`flowhook.document.models.auth`), and `sign`. Must not live here: schemes
of providers (`flowhook.providers`), HTTP, storage, the fetching of secrets; handshakes.

Invariants: the raw bytes are verified before they are parsed. `verify` raises `SignatureError` and nothing else,
whatever was sent, and never returns a boolean. Values are compared in constant time. The work is bounded by the size
of the body times the number of secrets; parsing a body before verification has limits of its own (`JsonBody`). No
error, repr or log contains the value of a secret. A kind that needs a secret refuses every request while none is set.
"""

from flowhook.signatures.build import build_verifiers, sign, sign_body, sign_url
from flowhook.signatures.request_values import (
    contains_credential,
    credentials_of,
    strip_query,
    without_credential_copies,
)
from flowhook.signatures.schemes import StreamingAuthentication, can_stream
from flowhook.signatures.types import (
    MAX_JSON_BYTES,
    JsonBody,
    KeyedVerifier,
    KeyRequest,
    Match,
    Outcome,
    RequestView,
    SignatureError,
    Verifier,
    first_match,
    json_of,
    verify_any,
)

__all__ = [
    "MAX_JSON_BYTES",
    "JsonBody",
    "KeyRequest",
    "KeyedVerifier",
    "Match",
    "Outcome",
    "RequestView",
    "SignatureError",
    "StreamingAuthentication",
    "Verifier",
    "build_verifiers",
    "can_stream",
    "contains_credential",
    "credentials_of",
    "first_match",
    "json_of",
    "sign",
    "sign_body",
    "sign_url",
    "strip_query",
    "verify_any",
    "without_credential_copies",
]
