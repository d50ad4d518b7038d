"""Verifies providers that sign each item of a body rather than the body: every item has to pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from flowhook.document.models.credentials import AuthKind
from flowhook.providers.scheme import Scheme
from flowhook.signatures.json_body import JsonBody, json_of
from flowhook.signatures.types import Match, RequestView, SignatureError
from flowhook.signatures.verification import SignatureVerifier

MAX_ITEMS: Final = 100
"""Items of one request: each costs one HMAC per secret."""


class BatchItemsVerifier:
    """Verifies the items of an array in the body one by one. All of them have to match the same secret."""

    needs_body = True
    reads_json = True
    comparisons = MAX_ITEMS
    required_headers: frozenset[str] = frozenset()
    credential_headers: frozenset[str] = frozenset()
    credential_query: frozenset[str] = frozenset()
    challenge = None

    def __init__(self, scheme: Scheme, kind: AuthKind, secrets: Mapping[str, bytes], *, field: str) -> None:
        """Verify the items under `field` of the body."""
        self.scheme = kind.kind
        self._field = field
        self._each = SignatureVerifier(scheme, kind, secrets)
        self.keys = self._each.keys

    def verify(self, request: RequestView, now: float) -> Match:
        """See `Verifier.verify`."""
        body = request.body
        matches = {
            self._each.verify(request._replace(json=JsonBody.known(body, item)), now) for item in self._items(request)
        }
        if len(matches) != 1:
            raise SignatureError("the items are signed by different secrets", reason="SIGNATURE_MISMATCH")
        return matches.pop()

    def delivery_id(self, request: RequestView) -> str | None:  # noqa: ARG002 - there is none for the whole
        """See `Verifier.delivery_id`."""
        return None

    def _items(self, request: RequestView) -> list[Any]:
        document = json_of(request)
        items = document.get(self._field) if isinstance(document, dict) else None
        if not isinstance(items, list) or not 1 <= len(items) <= MAX_ITEMS:
            raise SignatureError(
                f"{self._field} of the body must have 1 to {MAX_ITEMS} items", reason="SIGNATURE_MISSING"
            )
        return items
