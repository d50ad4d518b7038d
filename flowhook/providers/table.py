"""Table of the providers, each checked against the vendor's page in its row.

To add a provider, add its row here, and the vendor's own test vector in tests/conformance/signatures; see
CONTRIBUTING.md. A provider with further keys in flow files has a model in
`flowhook.document.models.auth`, and one that no `Scheme` describes a verifier in `flowhook.signatures.build`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from flowhook.providers.scheme import Handshake, Provider, Scheme, at, sent

# For providers that sign a timestamp but document no maximum age; repeated deliveries may reuse the timestamp.
NO_TOLERANCE_SAID: Final = math.inf
# Pattern of the hosts of Amazon SNS by region, including the regions of China and of governments.
AWS_SNS_HOST: Final = r"sns\.[a-z]{2}(?:-[a-z]{2,12}){1,3}-[0-9]{1,2}\.amazonaws\.com(?:\.cn)?"

_ADYEN: Final = (
    *("pspReference", "originalReference", "merchantAccountCode", "merchantReference"),
    *("amount.value", "amount.currency", "eventCode", "success"),
)

_ROWS: Final = (
    Provider(
        "github",
        "https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries",
        Scheme(
            sent("X-Hub-Signature-256"),
            tag="sha256=",
            delivery=(at("X-GitHub-Delivery"),),
            also_stripped=("X-Hub-Signature",),  # legacy SHA-1, which GitHub still sends
        ),
    ),
    Provider(
        "stripe",
        "https://docs.stripe.com/webhooks#verify-manually",
        Scheme(
            sent("Stripe-Signature", timestamp="pair:t"),
            layout="pairs",
            tag="v1",  # v0 is for test events only; to accept it would be a downgrade
            content="{timestamp}.{body}",
            delivery=(at("field:id"),),
        ),
    ),
    Provider(
        "slack",
        "https://docs.slack.dev/authentication/verifying-requests-from-slack",
        Scheme(
            sent("X-Slack-Signature", timestamp="X-Slack-Request-Timestamp"),
            tag="v0=",
            content="v0:{timestamp}:{body}",
            delivery=(at("field:event_id"),),
        ),
        Handshake.ECHO_BODY_CHALLENGE,
    ),
    Provider(
        "shopify",
        "https://shopify.dev/docs/apps/build/webhooks/verify-deliveries",
        Scheme(sent("X-Shopify-Hmac-SHA256"), encoding="base64", delivery=(at("X-Shopify-Webhook-Id"),)),
    ),
    Provider(
        "standard-webhooks",
        "https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md",
        Scheme(
            sent("webhook-signature", timestamp="webhook-timestamp", id="webhook-id"),
            # Svix, where the standard comes from: https://docs.svix.com/receiving/verifying-payloads/how-manual
            alternatives=(sent("svix-signature", timestamp="svix-timestamp", id="svix-id"),),
            layout="spaces",
            tag="v1,",  # v1a is Ed25519
            encoding="base64",
            content="{id}.{timestamp}.{body}",
            key="whsec",
        ),
    ),
    Provider(
        "asana",
        "https://developers.asana.com/docs/webhooks-guide#webhook-signatures",
        Scheme(sent("X-Hook-Signature"), also_stripped=("X-Hook-Secret",)),
        Handshake.ECHO_HEADER,
    ),
    Provider(
        "discord",
        "https://discord.com/developers/docs/events/webhook-events#setting-up-an-endpoint",
        Scheme(
            sent("X-Signature-Ed25519", timestamp="X-Signature-Timestamp"),
            method="ed25519",
            content="{timestamp}{body}",
            tolerance=NO_TOLERANCE_SAID,
        ),
        Handshake.PING,
    ),
    Provider(
        "docusign",
        "https://developers.docusign.com/platform/webhooks/connect/hmac/",
        Scheme(sent("numbered:X-DocuSign-Signature-"), encoding="base64"),
    ),
    Provider(
        "dropbox",
        "https://www.dropbox.com/developers/reference/webhooks#notifications",
        Scheme(sent("X-Dropbox-Signature")),
        Handshake.ECHO_QUERY_CHALLENGE,
    ),
    Provider(
        "gitlab",
        "https://docs.gitlab.com/user/project/integrations/webhooks/#validate-requests-by-using-a-secret-token",
        Scheme(sent("X-Gitlab-Token"), method="token", delivery=(at("Idempotency-Key"), at("X-Gitlab-Event-UUID"))),
    ),
    Provider(
        "hubspot",
        "https://developers.hubspot.com/docs/guides/apps/authentication/validating-requests#validate-the-v3-request-signature",
        Scheme(
            sent("X-HubSpot-Signature-v3", timestamp="X-HubSpot-Request-Timestamp"),
            encoding="base64",
            content="{method}{decoded_url}{body}{timestamp}",
            unit="ms",
            also_stripped=("X-HubSpot-Signature",),  # v1 and v2, which have no timestamp
        ),
    ),
    Provider(
        "intercom",
        "https://developers.intercom.com/docs/references/webhooks/webhook-models#signed-notifications",
        Scheme(sent("X-Hub-Signature"), tag="sha1=", algorithm="sha1", delivery=(at("field:id"),)),
    ),
    Provider(
        "jira",
        "https://developer.atlassian.com/cloud/jira/platform/webhooks/#secure-admin-webhooks",
        Scheme(sent("X-Hub-Signature"), tag="sha256=", delivery=(at("X-Atlassian-Webhook-Identifier"),)),
    ),
    Provider(
        "linear",
        "https://linear.app/developers/webhooks#securing-webhooks",
        Scheme(
            sent("Linear-Signature", timestamp="field:webhookTimestamp"),
            unit="ms",
            tolerance=60.0,
            delivery=(at("Linear-Delivery"),),
        ),
    ),
    Provider(
        "mailgun",
        "https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/securing-webhooks",
        Scheme(
            sent("field:signature.signature", timestamp="field:signature.timestamp"),
            content="{timestamp}{field:signature.token}",
            tolerance=12 * 3600.0,  # "delays … outside of Mailgun's control": it retries with the same time for 8 hours
            delivery=(at("field:signature.token"),),
        ),
    ),
    *(
        Provider(
            name,
            "https://developers.facebook.com/docs/graph-api/webhooks/getting-started#validating-payloads",
            Scheme(sent("X-Hub-Signature-256"), tag="sha256=", also_stripped=("X-Hub-Signature",)),
            Handshake.VERIFY_TOKEN,
        )
        for name in ("meta", "whatsapp")
    ),
    Provider(
        "notion",
        "https://developers.notion.com/reference/webhooks#step-3-validating-event-payloads-recommended",
        Scheme(sent("X-Notion-Signature"), tag="sha256=", delivery=(at("field:id"),)),
    ),
    Provider(
        "sendgrid",
        "https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/getting-started-event-webhook-security-features",
        Scheme(
            sent("X-Twilio-Email-Event-Webhook-Signature", timestamp="X-Twilio-Email-Event-Webhook-Timestamp"),
            method="ecdsa",
            encoding="base64",
            content="{timestamp}{body}",
            tolerance=NO_TOLERANCE_SAID,
        ),
    ),
    Provider(
        "square",
        "https://developer.squareup.com/docs/webhooks/step3validate",
        Scheme(
            sent("x-square-hmacsha256-signature"),
            encoding="base64",
            content="{url}{body}",
            delivery=(at("field:event_id"),),
            also_stripped=("x-square-signature",),  # legacy SHA-1
        ),
    ),
    Provider(
        "twitch",
        "https://dev.twitch.tv/docs/eventsub/handling-webhook-events/#verifying-the-event-message",
        Scheme(
            sent(
                "Twitch-Eventsub-Message-Signature",
                timestamp="Twitch-Eventsub-Message-Timestamp",
                id="Twitch-Eventsub-Message-Id",
            ),
            tag="sha256=",
            content="{id}{timestamp}{body}",
            unit="rfc3339",
            tolerance=600.0,
        ),
        Handshake.ECHO_MESSAGE_CHALLENGE,
    ),
    Provider(
        "typeform",
        "https://www.typeform.com/developers/webhooks/secure-your-webhooks/",
        Scheme(sent("Typeform-Signature"), tag="sha256=", encoding="base64", delivery=(at("field:event_id"),)),
    ),
    Provider(
        "x",
        "https://docs.x.com/x-api/webhooks/quickstart#signature-header-validation",
        Scheme(sent("x-twitter-webhooks-signature"), tag="sha256=", encoding="base64"),
        Handshake.SIGN_CRC_TOKEN,
    ),
    Provider(
        "zendesk",
        "https://developer.zendesk.com/documentation/webhooks/verifying/",
        Scheme(
            sent("X-Zendesk-Webhook-Signature", timestamp="X-Zendesk-Webhook-Signature-Timestamp"),
            encoding="base64",
            content="{timestamp}{body}",
            unit="rfc3339",
            tolerance=NO_TOLERANCE_SAID,
            delivery=(at("X-Zendesk-Webhook-Invocation-Id"),),
        ),
    ),
    Provider(
        "zoom",
        "https://developers.zoom.us/docs/api/webhooks/#verify-webhook-events",
        Scheme(sent("x-zm-signature", timestamp="x-zm-request-timestamp"), tag="v0=", content="v0:{timestamp}:{body}"),
        Handshake.SIGN_PLAIN_TOKEN,
    ),
    Provider(
        "adyen",
        "https://docs.adyen.com/development-resources/webhooks/verify-hmac-signatures/",
        Scheme(
            sent("field:NotificationRequestItem.additionalData.hmacSignature"),
            encoding="base64",
            content=":".join(f"{{field:NotificationRequestItem.{field}}}" for field in _ADYEN),
            key="hex",
        ),
    ),
    Provider(
        "aws-sns",
        "https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message-verify-message-signature.html",
        handshake=Handshake.CONFIRM_SUBSCRIPTION,
        sends_delivery_ids=True,
    ),
    # it signs nothing: who creates a subscription adds the secret to its URL, or to its delivery properties, which
    # are headers
    Provider(
        "azure-event-grid",
        "https://learn.microsoft.com/en-us/azure/event-grid/security-authentication#using-client-secret-as-a-query-parameter",
        Scheme(sent("X-Event-Grid-Key"), alternatives=(sent("query:code"),), method="token"),
        Handshake.ECHO_VALIDATION_CODE,
    ),
    Provider(
        "elasticio",
        "https://docs.elastic.io/components/webhook/",
        Scheme(sent("x-eio-signature"), algorithm="sha512"),
    ),
    Provider(
        "microsoft-graph",
        "https://learn.microsoft.com/graph/change-notifications-delivery-webhooks#process-the-change-notification",
        Scheme(sent("field:clientState"), method="token"),
        Handshake.ECHO_VALIDATION_TOKEN,
    ),
    Provider(
        "paypal",
        "https://developer.paypal.com/api/rest/webhooks/rest/#link-selfverificationmethod",
        sends_delivery_ids=True,
    ),
    Provider("plaid", "https://plaid.com/docs/api/webhooks/webhook-verification/"),
    Provider(
        "twilio",
        "https://www.twilio.com/docs/usage/security#validating-requests",
        Scheme(
            sent("X-Twilio-Signature"),
            algorithm="sha1",
            encoding="base64",
            content="{url}{form}",
            delivery=(at("I-Twilio-Idempotency-Token"),),
        ),
    ),
)

# Providers by the name they have in flow files.
PROVIDERS: Final[Mapping[str, Provider]] = {row.name: row for row in _ROWS}
