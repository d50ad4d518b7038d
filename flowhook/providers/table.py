"""Table of the providers, each checked against the vendor's page in its `source`.

To add a provider, add its row here, and the vendor's own test vector in tests/conformance/signatures; see
CONTRIBUTING.md. A provider with further keys in flow files has a model in
`flowhook.document.models.auth`, and one that no `Scheme` describes a verifier in `flowhook.signatures.build`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from flowhook.providers.scheme import (
    FieldLocation,
    FieldLocations,
    Handshake,
    KeyFormat,
    Layout,
    Provider,
    Scheme,
    SignatureMethod,
    in_headers,
    parse_content,
)

# For providers that sign a timestamp but document no maximum age; repeated deliveries may reuse the timestamp.
NO_TOLERANCE_SAID: Final = math.inf
# Pattern of the hosts of Amazon SNS by region, including the regions of China and of governments.
AWS_SNS_HOST: Final = r"sns\.[a-z]{2}(?:-[a-z]{2,12}){1,3}-[0-9]{1,2}\.amazonaws\.com(?:\.cn)?"

_ROWS: Final = (
    Provider(
        name="github",
        source="https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries",
        scheme=Scheme(
            locations=(in_headers("X-Hub-Signature-256"),),
            tag="sha256=",
            delivery=(FieldLocation("header", "X-GitHub-Delivery"),),
            also_stripped=("X-Hub-Signature",),  # legacy SHA-1, which GitHub still sends
        ),
    ),
    Provider(
        name="stripe",
        source="https://docs.stripe.com/webhooks#verify-manually",
        scheme=Scheme(
            locations=(FieldLocations(FieldLocation("header", "Stripe-Signature"), FieldLocation("pair", "t")),),
            layout=Layout.PAIRS,
            tag="v1",  # v0 is for test events only; to accept it would be a downgrade
            content=parse_content("{timestamp}.{body}"),
            unit="s",
            delivery=(FieldLocation("field", "id"),),
        ),
    ),
    Provider(
        name="slack",
        source="https://docs.slack.dev/authentication/verifying-requests-from-slack",
        handshake=Handshake.ECHO_BODY_CHALLENGE,
        scheme=Scheme(
            locations=(in_headers("X-Slack-Signature", timestamp="X-Slack-Request-Timestamp"),),
            tag="v0=",
            content=parse_content("v0:{timestamp}:{body}"),
            unit="s",
            delivery=(FieldLocation("field", "event_id"),),
        ),
    ),
    Provider(
        name="shopify",
        source="https://shopify.dev/docs/apps/build/webhooks/verify-deliveries",
        scheme=Scheme(
            locations=(in_headers("X-Shopify-Hmac-SHA256"),),
            encoding="base64",
            delivery=(FieldLocation("header", "X-Shopify-Webhook-Id"),),
        ),
    ),
    Provider(
        name="standard-webhooks",
        source="https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md",
        scheme=Scheme(
            locations=(
                in_headers("webhook-signature", timestamp="webhook-timestamp", id="webhook-id"),
                # Svix, where the standard comes from: https://docs.svix.com/receiving/verifying-payloads/how-manual
                in_headers("svix-signature", timestamp="svix-timestamp", id="svix-id"),
            ),
            layout=Layout.SPACES,
            tag="v1,",  # v1a is Ed25519
            encoding="base64",
            content=parse_content("{id}.{timestamp}.{body}"),
            unit="s",
            key=KeyFormat.WHSEC,
        ),
    ),
    Provider(
        name="asana",
        source="https://developers.asana.com/docs/webhooks-guide#webhook-signatures",
        handshake=Handshake.ECHO_HEADER,
        scheme=Scheme(locations=(in_headers("X-Hook-Signature"),), also_stripped=("X-Hook-Secret",)),
    ),
    Provider(
        name="discord",
        source="https://discord.com/developers/docs/events/webhook-events#setting-up-an-endpoint",
        handshake=Handshake.PING,
        scheme=Scheme(
            locations=(in_headers("X-Signature-Ed25519", timestamp="X-Signature-Timestamp"),),
            method=SignatureMethod.ED25519,
            content=parse_content("{timestamp}{body}"),
            unit="s",
            tolerance=NO_TOLERANCE_SAID,
        ),
    ),
    Provider(
        name="docusign",
        source="https://developers.docusign.com/platform/webhooks/connect/hmac/",
        scheme=Scheme(
            locations=(FieldLocations(FieldLocation("numbered", "X-DocuSign-Signature-")),), encoding="base64"
        ),
    ),
    Provider(
        name="dropbox",
        source="https://www.dropbox.com/developers/reference/webhooks#notifications",
        handshake=Handshake.ECHO_QUERY_CHALLENGE,
        scheme=Scheme(locations=(in_headers("X-Dropbox-Signature"),)),
    ),
    Provider(
        name="gitlab",
        source="https://docs.gitlab.com/user/project/integrations/webhooks/#validate-requests-by-using-a-secret-token",
        scheme=Scheme(
            locations=(in_headers("X-Gitlab-Token"),),
            method=SignatureMethod.TOKEN,
            delivery=(FieldLocation("header", "Idempotency-Key"), FieldLocation("header", "X-Gitlab-Event-UUID")),
        ),
    ),
    Provider(
        name="hubspot",
        source="https://developers.hubspot.com/docs/guides/apps/authentication/validating-requests#validate-the-v3-request-signature",
        scheme=Scheme(
            locations=(in_headers("X-HubSpot-Signature-v3", timestamp="X-HubSpot-Request-Timestamp"),),
            encoding="base64",
            content=parse_content("{method}{decoded_url}{body}{timestamp}"),
            unit="ms",
            also_stripped=("X-HubSpot-Signature",),  # v1 and v2, which have no timestamp
        ),
    ),
    Provider(
        name="intercom",
        source="https://developers.intercom.com/docs/references/webhooks/webhook-models#signed-notifications",
        scheme=Scheme(
            locations=(in_headers("X-Hub-Signature"),),
            tag="sha1=",
            algorithm="sha1",
            delivery=(FieldLocation("field", "id"),),
        ),
    ),
    Provider(
        name="jira",
        source="https://developer.atlassian.com/cloud/jira/platform/webhooks/#secure-admin-webhooks",
        scheme=Scheme(
            locations=(in_headers("X-Hub-Signature"),),
            tag="sha256=",
            delivery=(FieldLocation("header", "X-Atlassian-Webhook-Identifier"),),
        ),
    ),
    Provider(
        name="linear",
        source="https://linear.app/developers/webhooks#securing-webhooks",
        scheme=Scheme(
            locations=(
                FieldLocations(FieldLocation("header", "Linear-Signature"), FieldLocation("field", "webhookTimestamp")),
            ),
            unit="ms",
            tolerance=60.0,
            delivery=(FieldLocation("header", "Linear-Delivery"),),
        ),
    ),
    Provider(
        name="mailgun",
        source="https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/securing-webhooks",
        scheme=Scheme(
            locations=(
                FieldLocations(
                    FieldLocation("field", "signature.signature"), FieldLocation("field", "signature.timestamp")
                ),
            ),
            content=parse_content("{timestamp}{field:signature.token}"),
            unit="s",
            tolerance=12 * 3600.0,  # "delays … outside of Mailgun's control": it retries with the same time for 8 hours
            delivery=(FieldLocation("field", "signature.token"),),
        ),
    ),
    *(
        Provider(
            name=name,
            source="https://developers.facebook.com/docs/graph-api/webhooks/getting-started#validating-payloads",
            handshake=Handshake.VERIFY_TOKEN,
            scheme=Scheme(
                locations=(in_headers("X-Hub-Signature-256"),), tag="sha256=", also_stripped=("X-Hub-Signature",)
            ),
        )
        for name in ("meta", "whatsapp")
    ),
    Provider(
        name="notion",
        source="https://developers.notion.com/reference/webhooks#step-3-validating-event-payloads-recommended",
        scheme=Scheme(
            locations=(in_headers("X-Notion-Signature"),), tag="sha256=", delivery=(FieldLocation("field", "id"),)
        ),
    ),
    Provider(
        name="sendgrid",
        source="https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/getting-started-event-webhook-security-features",
        scheme=Scheme(
            locations=(
                in_headers(
                    "X-Twilio-Email-Event-Webhook-Signature", timestamp="X-Twilio-Email-Event-Webhook-Timestamp"
                ),
            ),
            method=SignatureMethod.ECDSA,
            encoding="base64",
            content=parse_content("{timestamp}{body}"),
            unit="s",
            tolerance=NO_TOLERANCE_SAID,
        ),
    ),
    Provider(
        name="square",
        source="https://developer.squareup.com/docs/webhooks/step3validate",
        scheme=Scheme(
            locations=(in_headers("x-square-hmacsha256-signature"),),
            encoding="base64",
            content=parse_content("{url}{body}"),
            delivery=(FieldLocation("field", "event_id"),),
            also_stripped=("x-square-signature",),  # legacy SHA-1
        ),
    ),
    Provider(
        name="twitch",
        source="https://dev.twitch.tv/docs/eventsub/handling-webhook-events/#verifying-the-event-message",
        handshake=Handshake.ECHO_MESSAGE_CHALLENGE,
        scheme=Scheme(
            locations=(
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
    ),
    Provider(
        name="typeform",
        source="https://www.typeform.com/developers/webhooks/secure-your-webhooks/",
        scheme=Scheme(
            locations=(in_headers("Typeform-Signature"),),
            tag="sha256=",
            encoding="base64",
            delivery=(FieldLocation("field", "event_id"),),
        ),
    ),
    Provider(
        name="x",
        source="https://docs.x.com/x-api/webhooks/quickstart#signature-header-validation",
        handshake=Handshake.SIGN_CRC_TOKEN,
        scheme=Scheme(locations=(in_headers("x-twitter-webhooks-signature"),), tag="sha256=", encoding="base64"),
    ),
    Provider(
        name="zendesk",
        source="https://developer.zendesk.com/documentation/webhooks/verifying/",
        scheme=Scheme(
            locations=(in_headers("X-Zendesk-Webhook-Signature", timestamp="X-Zendesk-Webhook-Signature-Timestamp"),),
            encoding="base64",
            content=parse_content("{timestamp}{body}"),
            unit="rfc3339",
            tolerance=NO_TOLERANCE_SAID,
            delivery=(FieldLocation("header", "X-Zendesk-Webhook-Invocation-Id"),),
        ),
    ),
    Provider(
        name="zoom",
        source="https://developers.zoom.us/docs/api/webhooks/#verify-webhook-events",
        handshake=Handshake.SIGN_PLAIN_TOKEN,
        scheme=Scheme(
            locations=(in_headers("x-zm-signature", timestamp="x-zm-request-timestamp"),),
            tag="v0=",
            content=parse_content("v0:{timestamp}:{body}"),
            unit="s",
        ),
    ),
    Provider(
        name="adyen",
        source="https://docs.adyen.com/development-resources/webhooks/verify-hmac-signatures/",
        scheme=Scheme(
            locations=(FieldLocations(FieldLocation("field", "NotificationRequestItem.additionalData.hmacSignature")),),
            encoding="base64",
            content=parse_content(
                ":".join(
                    f"{{field:NotificationRequestItem.{field}}}"
                    for field in (
                        "pspReference",
                        "originalReference",
                        "merchantAccountCode",
                        "merchantReference",
                        "amount.value",
                        "amount.currency",
                        "eventCode",
                        "success",
                    )
                )
            ),
            key=KeyFormat.HEX,
        ),
    ),
    Provider(
        name="aws-sns",
        source="https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message-verify-message-signature.html",
        handshake=Handshake.CONFIRM_SUBSCRIPTION,
        sends_delivery_ids=True,
    ),
    Provider(
        # it signs nothing: who creates a subscription adds the secret to its URL, or to its delivery properties, which
        # are headers
        name="azure-event-grid",
        source="https://learn.microsoft.com/en-us/azure/event-grid/security-authentication#using-client-secret-as-a-query-parameter",
        handshake=Handshake.ECHO_VALIDATION_CODE,
        scheme=Scheme(
            locations=(in_headers("X-Event-Grid-Key"), FieldLocations(FieldLocation("query", "code"))),
            method=SignatureMethod.TOKEN,
        ),
    ),
    Provider(
        name="elasticio",
        source="https://docs.elastic.io/components/webhook/",
        scheme=Scheme(locations=(in_headers("x-eio-signature"),), algorithm="sha512"),
    ),
    Provider(
        name="microsoft-graph",
        source="https://learn.microsoft.com/graph/change-notifications-delivery-webhooks#process-the-change-notification",
        handshake=Handshake.ECHO_VALIDATION_TOKEN,
        scheme=Scheme(locations=(FieldLocations(FieldLocation("field", "clientState")),), method=SignatureMethod.TOKEN),
    ),
    Provider(
        name="paypal",
        source="https://developer.paypal.com/api/rest/webhooks/rest/#link-selfverificationmethod",
        sends_delivery_ids=True,
    ),
    Provider(name="plaid", source="https://plaid.com/docs/api/webhooks/webhook-verification/"),
    Provider(
        name="twilio",
        source="https://www.twilio.com/docs/usage/security#validating-requests",
        scheme=Scheme(
            locations=(in_headers("X-Twilio-Signature"),),
            algorithm="sha1",
            encoding="base64",
            content=parse_content("{url}{form}"),
            delivery=(FieldLocation("header", "I-Twilio-Idempotency-Token"),),
        ),
    ),
)

# Providers by the name they have in flow files.
PROVIDERS: Final[Mapping[str, Provider]] = {row.name: row for row in _ROWS}
