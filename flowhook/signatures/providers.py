"""How each provider signs: one row each, checked against the vendor's page that it names.

A provider is added by its row here and its class in `flowhook.document.auth`, with the vendor's own test vector in
tests/conformance/signatures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from flowhook.document.signed_content import parse_content
from flowhook.signatures.scheme import KeyFormat, Layout, Place, Places, Scheme, in_headers

_ROWS: Final = (
    Scheme(
        name="github",
        source="https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries",
        places=(in_headers("X-Hub-Signature-256"),),
        tag="sha256=",
        delivery=(Place("header", "X-GitHub-Delivery"),),
        also_stripped=("X-Hub-Signature",),  # the SHA-1 of old, which GitHub still sends
    ),
    Scheme(
        name="stripe",
        source="https://docs.stripe.com/webhooks#verify-manually",
        places=(Places(Place("header", "Stripe-Signature"), Place("pair", "t")),),
        layout=Layout.PAIRS,
        tag="v1",  # v0 is for test events only; to accept it would be a downgrade
        content=parse_content("{timestamp}.{body}"),
        unit="s",
        tolerance=300.0,
        delivery=(Place("field", "id"),),
    ),
    Scheme(
        name="slack",
        source="https://docs.slack.dev/authentication/verifying-requests-from-slack",
        places=(in_headers("X-Slack-Signature", timestamp="X-Slack-Request-Timestamp"),),
        tag="v0=",
        content=parse_content("v0:{timestamp}:{body}"),
        unit="s",
        tolerance=300.0,
        delivery=(Place("field", "event_id"),),
    ),
    Scheme(
        name="shopify",
        source="https://shopify.dev/docs/apps/build/webhooks/verify-deliveries",
        places=(in_headers("X-Shopify-Hmac-SHA256"),),
        encoding="base64",
        delivery=(Place("header", "X-Shopify-Webhook-Id"),),
    ),
    Scheme(
        name="standard-webhooks",
        source="https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md",
        places=(
            in_headers("webhook-signature", timestamp="webhook-timestamp", id="webhook-id"),
            # Svix, where the standard comes from: https://docs.svix.com/receiving/verifying-payloads/how-manual
            in_headers("svix-signature", timestamp="svix-timestamp", id="svix-id"),
        ),
        layout=Layout.SPACES,
        tag="v1,",  # v1a is Ed25519
        encoding="base64",
        content=parse_content("{id}.{timestamp}.{body}"),
        unit="s",
        tolerance=300.0,
        key=KeyFormat.WHSEC,
    ),
)

PROVIDERS: Final[Mapping[str, Scheme]] = {row.name: row for row in _ROWS}
"""Schemes by the name they have in flow files."""
