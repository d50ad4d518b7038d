"""Checks the names in a client certificate, which TLS has verified (RFC 8446, section 4.4.2)."""

from __future__ import annotations

from flowhook.document.models.credentials import MtlsAuth
from flowhook.signatures.types import Match, RequestView, SignatureError


class MtlsVerifier:
    """Accepts senders whose certificate has one of the names that the flow lists."""

    scheme = MtlsAuth.kind
    needs_body = False
    required_headers: frozenset[str] = frozenset()
    credential_headers: frozenset[str] = frozenset()
    credential_query: frozenset[str] = frozenset()
    challenge = None

    def __init__(self, kind: MtlsAuth) -> None:
        self._names = {name.lower(): name for name in kind.names}

    def verify(self, request: RequestView, now: float) -> Match:  # noqa: ARG002 - TLS has checked the validity
        """See `Verifier.verify`."""
        if not request.client_names:
            raise SignatureError("the sender presented no certificate", reason="CREDENTIALS_MISSING")
        for name in request.client_names:
            if name.lower() in self._names:
                return Match(self.scheme, self._names[name.lower()])
        raise SignatureError("the certificate has none of the names", reason="CREDENTIALS_WRONG")

    def delivery_id(self, request: RequestView) -> str | None:  # noqa: ARG002
        """Return None: a certificate names no delivery."""
        return None
