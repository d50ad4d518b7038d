"""Table of the signature schemes of providers, each checked against the vendor's page in its `source`.

To add a provider, add its row here and one in `flowhook.document.auth.providers`, and the vendor's own test vector in
tests/conformance/signatures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from flowhook.document.signed_content import parse_content
from flowhook.signatures.scheme import (
    Algorithm,
    FieldLocation,
    FieldLocations,
    KeyFormat,
    Layout,
    Scheme,
    SignatureMethod,
    in_headers,
)

NO_TOLERANCE_SAID: Final = math.inf
"""For providers that sign a timestamp but document no maximum age; repeated deliveries may reuse the timestamp."""

AWS_SNS_HOST: Final = r"sns\.[a-z]{2}(?:-[a-z]{2,12}){1,3}-[0-9]{1,2}\.amazonaws\.com(?:\.cn)?"
"""Pattern of the hosts of Amazon SNS by region, including the regions of China and of governments."""

_ROWS: Final = (
    Scheme(
        name="github",
        source="https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries",
        places=(in_headers("X-Hub-Signature-256"),),
        tag="sha256=",
        delivery=(FieldLocation("header", "X-GitHub-Delivery"),),
        also_stripped=("X-Hub-Signature",),  # legacy SHA-1, which GitHub still sends
    ),
    Scheme(
        name="stripe",
        source="https://docs.stripe.com/webhooks#verify-manually",
        places=(FieldLocations(FieldLocation("header", "Stripe-Signature"), FieldLocation("pair", "t")),),
        layout=Layout.PAIRS,
        tag="v1",  # v0 is for test events only; to accept it would be a downgrade
        content=parse_content("{timestamp}.{body}"),
        unit="s",
        tolerance=300.0,
        delivery=(FieldLocation("field", "id"),),
    ),
    Scheme(
        name="slack",
        source="https://docs.slack.dev/authentication/verifying-requests-from-slack",
        places=(in_headers("X-Slack-Signature", timestamp="X-Slack-Request-Timestamp"),),
        tag="v0=",
        content=parse_content("v0:{timestamp}:{body}"),
        unit="s",
        tolerance=300.0,
        delivery=(FieldLocation("field", "event_id"),),
    ),
    Scheme(
        name="shopify",
        source="https://shopify.dev/docs/apps/build/webhooks/verify-deliveries",
        places=(in_headers("X-Shopify-Hmac-SHA256"),),
        encoding="base64",
        delivery=(FieldLocation("header", "X-Shopify-Webhook-Id"),),
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
    Scheme(
        name="asana",
        source="https://developers.asana.com/docs/webhooks-guide#webhook-signatures",
        places=(in_headers("X-Hook-Signature"),),
        also_stripped=("X-Hook-Secret",),
    ),
    Scheme(
        name="discord",
        source="https://discord.com/developers/docs/events/webhook-events#setting-up-an-endpoint",
        places=(in_headers("X-Signature-Ed25519", timestamp="X-Signature-Timestamp"),),
        method=SignatureMethod.ED25519,
        content=parse_content("{timestamp}{body}"),
        unit="s",
        tolerance=NO_TOLERANCE_SAID,
    ),
    Scheme(
        name="docusign",
        source="https://developers.docusign.com/platform/webhooks/connect/hmac/",
        places=(FieldLocations(FieldLocation("numbered", "X-DocuSign-Signature-")),),
        encoding="base64",
    ),
    Scheme(
        name="dropbox",
        source="https://www.dropbox.com/developers/reference/webhooks#notifications",
        places=(in_headers("X-Dropbox-Signature"),),
    ),
    Scheme(
        name="gitlab",
        source="https://docs.gitlab.com/user/project/integrations/webhooks/#validate-requests-by-using-a-secret-token",
        places=(in_headers("X-Gitlab-Token"),),
        method=SignatureMethod.TOKEN,
        delivery=(FieldLocation("header", "Idempotency-Key"), FieldLocation("header", "X-Gitlab-Event-UUID")),
    ),
    Scheme(
        name="hubspot",
        source="https://developers.hubspot.com/docs/guides/apps/authentication/validating-requests#validate-the-v3-request-signature",
        places=(in_headers("X-HubSpot-Signature-v3", timestamp="X-HubSpot-Request-Timestamp"),),
        encoding="base64",
        content=parse_content("{method}{decoded_url}{body}{timestamp}"),
        unit="ms",
        tolerance=300.0,
        also_stripped=("X-HubSpot-Signature",),  # v1 and v2, which have no timestamp
    ),
    Scheme(
        name="intercom",
        source="https://developers.intercom.com/docs/references/webhooks/webhook-models#signed-notifications",
        places=(in_headers("X-Hub-Signature"),),
        tag="sha1=",
        algorithm="sha1",
        delivery=(FieldLocation("field", "id"),),
    ),
    Scheme(
        name="jira",
        source="https://developer.atlassian.com/cloud/jira/platform/webhooks/#secure-admin-webhooks",
        places=(in_headers("X-Hub-Signature"),),
        tag="sha256=",
        delivery=(FieldLocation("header", "X-Atlassian-Webhook-Identifier"),),
    ),
    Scheme(
        name="linear",
        source="https://linear.app/developers/webhooks#securing-webhooks",
        places=(
            FieldLocations(FieldLocation("header", "Linear-Signature"), FieldLocation("field", "webhookTimestamp")),
        ),
        unit="ms",
        tolerance=60.0,
        delivery=(FieldLocation("header", "Linear-Delivery"),),
    ),
    Scheme(
        name="mailgun",
        source="https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/securing-webhooks",
        places=(
            FieldLocations(
                FieldLocation("field", "signature.signature"), FieldLocation("field", "signature.timestamp")
            ),
        ),
        content=parse_content("{timestamp}{field:signature.token}"),
        unit="s",
        tolerance=12 * 3600.0,  # "delays … outside of Mailgun's control": it retries with the same time for 8 hours
        delivery=(FieldLocation("field", "signature.token"),),
    ),
    *(
        Scheme(
            name=name,
            source="https://developers.facebook.com/docs/graph-api/webhooks/getting-started#validating-payloads",
            places=(in_headers("X-Hub-Signature-256"),),
            tag="sha256=",
            also_stripped=("X-Hub-Signature",),
        )
        for name in ("meta", "whatsapp")
    ),
    Scheme(
        name="notion",
        source="https://developers.notion.com/reference/webhooks#step-3-validating-event-payloads-recommended",
        places=(in_headers("X-Notion-Signature"),),
        tag="sha256=",
        delivery=(FieldLocation("field", "id"),),
    ),
    Scheme(
        name="sendgrid",
        source="https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/getting-started-event-webhook-security-features",
        places=(
            in_headers("X-Twilio-Email-Event-Webhook-Signature", timestamp="X-Twilio-Email-Event-Webhook-Timestamp"),
        ),
        method=SignatureMethod.ECDSA,
        encoding="base64",
        content=parse_content("{timestamp}{body}"),
        unit="s",
        tolerance=NO_TOLERANCE_SAID,
    ),
    Scheme(
        name="square",
        source="https://developer.squareup.com/docs/webhooks/step3validate",
        places=(in_headers("x-square-hmacsha256-signature"),),
        encoding="base64",
        content=parse_content("{url}{body}"),
        delivery=(FieldLocation("field", "event_id"),),
        also_stripped=("x-square-signature",),  # legacy SHA-1
    ),
    Scheme(
        name="twitch",
        source="https://dev.twitch.tv/docs/eventsub/handling-webhook-events/#verifying-the-event-message",
        places=(
            in_headers(
                "Twitch-Eventsub-Message-Signature",
                timestamp="Twitch-Eventsub-Message-Timestamp",
                id="Twitch-Eventsub-Message-Id",
            ),
        ),
        tag="sha256=",
        content=parse_content("{id}{timestamp}{body}"),
        unit="rfc3339",
        tolerance=600.0,
    ),
    Scheme(
        name="typeform",
        source="https://www.typeform.com/developers/webhooks/secure-your-webhooks/",
        places=(in_headers("Typeform-Signature"),),
        tag="sha256=",
        encoding="base64",
        delivery=(FieldLocation("field", "event_id"),),
    ),
    Scheme(
        name="x",
        source="https://docs.x.com/x-api/webhooks/quickstart#signature-header-validation",
        places=(in_headers("x-twitter-webhooks-signature"),),
        tag="sha256=",
        encoding="base64",
    ),
    Scheme(
        name="zendesk",
        source="https://developer.zendesk.com/documentation/webhooks/verifying/",
        places=(in_headers("X-Zendesk-Webhook-Signature", timestamp="X-Zendesk-Webhook-Signature-Timestamp"),),
        encoding="base64",
        content=parse_content("{timestamp}{body}"),
        unit="rfc3339",
        tolerance=NO_TOLERANCE_SAID,
        delivery=(FieldLocation("header", "X-Zendesk-Webhook-Invocation-Id"),),
    ),
    Scheme(
        name="zoom",
        source="https://developers.zoom.us/docs/api/webhooks/#verify-webhook-events",
        places=(in_headers("x-zm-signature", timestamp="x-zm-request-timestamp"),),
        tag="v0=",
        content=parse_content("v0:{timestamp}:{body}"),
        unit="s",
        tolerance=300.0,
    ),
)

PROVIDERS: Final[Mapping[str, Scheme]] = {row.name: row for row in _ROWS}
"""Schemes by the name they have in flow files."""


STANDARD_WEBHOOKS_PUBLIC: Final = replace(
    PROVIDERS["standard-webhooks"], method=SignatureMethod.ED25519, tag="v1a,", key=KeyFormat.RAW
)
"""The asymmetric variant of the standard, for senders whose public key is known."""


def elasticio(header: str, algorithm: Algorithm) -> Scheme:
    """Return the scheme of elastic.io, whose header and algorithm are configurable.

    Source: https://docs.elastic.io/components/webhook/technical-notes (HMAC verification shared secret).
    """
    return Scheme(name="elasticio", source=_ELASTICIO, places=(in_headers(header),), algorithm=algorithm)


_ELASTICIO: Final = "https://docs.elastic.io/components/webhook/"
