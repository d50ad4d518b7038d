"""Verifier of `auth: none`, which requires no credentials."""

from __future__ import annotations

from flowhook.signatures.types import Match, RequestView


class NoAuthVerifier:
    """Accepts every request."""

    scheme = "none"
    needs_body = False
    required_headers: frozenset[str] = frozenset()
    credential_headers: frozenset[str] = frozenset()
    credential_query: frozenset[str] = frozenset()
    challenge = None

    def verify(self, request: RequestView, now: float) -> Match:  # noqa: ARG002
        """See `Verifier.verify`; no secret matches, so its name is empty."""
        return Match(self.scheme, "")

    def delivery_id(self, request: RequestView) -> str | None:  # noqa: ARG002
        """Return None: nothing is known of the sender."""
        return None
