"""The steps with which a provider is made to send to a flow, for people who enter them there.

Source: docs/senders.md, and each provider's page in `flowhook.providers.table`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_META: Final = (
    "In the app's dashboard at Meta, open Webhooks, and enter the callback URL {url}.",
    "Verify token: the value of the secret that verify_token names, any text of your choice.",
    "The secret {secret} is the app secret: App settings > Basic.",
)

_STEPS: Final[Mapping[str, tuple[str, ...]]] = {
    "adyen": (
        "At Adyen, open Developers > Webhooks > Standard webhook, and enter the URL {url}.",
        "Generate the HMAC key there, and set it as the secret {secret}, in hex as shown.",
        'Adyen requires the answer [accepted]: respond: {status: 200, body: "[accepted]"}.',
    ),
    "asana": (
        "Create the webhook over Asana's API with the target {url}; its handshake is answered.",
        "Set the X-Hook-Secret that Asana returns to its creator as the secret {secret}.",
    ),
    "aws-sns": (
        "At Amazon SNS, create a subscription of the topic with protocol HTTPS and the endpoint {url}.",
        "Leave raw message delivery off. The subscription is confirmed by an edge.",
    ),
    "discord": (
        "In the Developer Portal of Discord, enter the endpoint URL {url}; its pings are answered.",
        "The public key in the flow's file is that of General Information; it is not secret.",
    ),
    "docusign": (
        "At DocuSign, open Settings > Connect, and add a configuration with the URL {url}.",
        "Create a key under Connect Keys, and set it as the secret {secret}.",
    ),
    "dropbox": (
        "In Dropbox's App Console, add the webhook URI {url}; its challenge is answered.",
        "Set the app secret as the secret {secret}.",
    ),
    "elasticio": (
        "At elastic.io, let the component send to {url}.",
        "Set its HMAC secret as the secret {secret}; header and algorithm have to be those of the flow's file.",
    ),
    "github": (
        "At GitHub, open Settings > Webhooks > Add webhook of the repository or organization.",
        "Payload URL: {url}. Content type: application/json.",
        "Secret: a long random text of your choice, which is the value of the secret {secret}.",
    ),
    "gitlab": (
        "At GitLab, open Settings > Webhooks > Add new webhook. URL: {url}.",
        "Secret token: a long random text of your choice, which is the value of the secret {secret}.",
    ),
    "hubspot": (
        "In the app's settings at HubSpot, open Webhooks, and enter the target URL {url}.",
        "Set the app's client secret as the secret {secret}.",
        "The URL is signed: behind a proxy, edges need FLOWHOOK_PUBLIC_URL.",
    ),
    "intercom": (
        "In Intercom's Developer Hub, open the app's Webhooks, and enter the endpoint URL {url}.",
        "Set the app's client secret as the secret {secret}.",
    ),
    "jira": (
        "At Jira, open System > WebHooks > Create a WebHook. URL: {url}.",
        "Secret: a long random text of your choice, which is the value of the secret {secret}.",
    ),
    "linear": (
        "At Linear, open Settings > API > Webhooks > New webhook. URL: {url}.",
        "Set the signing secret that it shows as the secret {secret}.",
    ),
    "mailgun": (
        "At Mailgun, open Send > Sending > Webhooks > Add webhook. URL: {url}.",
        "Set the HTTP webhook signing key as the secret {secret}.",
    ),
    "meta": _META,
    "microsoft-graph": (
        "Create the subscription over Microsoft Graph with the notificationUrl {url}; its validation is answered.",
        "Its clientState is the value of the secret {secret}, a long random text of your choice.",
    ),
    "notion": (
        "In Notion's integration, create a webhook subscription, first to a page that shows requests.",
        "Set the verification token that Notion sends there as the secret {secret}; then change the URL to {url}.",
    ),
    "paypal": (
        "In PayPal's developer dashboard, open the app's Webhooks > Add Webhook. URL: {url}.",
        "The webhook_id in the flow's file is the ID that the list shows.",
    ),
    "plaid": (
        "At Plaid, pass the webhook {url} when a link token is created, or update the item's webhook.",
        "Set the secret of the environment, from Developers > Keys, as the secret {secret}.",
    ),
    "sendgrid": (
        "At SendGrid, open Settings > Mail Settings > Event Webhook. Post URL: {url}.",
        "Enable Signed Event Webhook; the public key in the flow's file is its verification key.",
    ),
    "shopify": (
        "At Shopify, open Settings > Notifications > Webhooks > Create webhook. Format: JSON. URL: {url}.",
        "Set the secret that the page shows below the list as the secret {secret}; for an app, its client secret.",
    ),
    "slack": (
        "Set Basic Information > Signing Secret of your Slack app as the secret {secret}.",
        "Open Event Subscriptions, and enter the request URL {url}; its challenge is answered.",
    ),
    "square": (
        "In Square's developer console, open the application's Webhooks > Subscriptions. Notification URL: {url}.",
        "Set the subscription's signature key as the secret {secret}.",
        "The URL is signed: behind a proxy, edges need FLOWHOOK_PUBLIC_URL.",
    ),
    "standard-webhooks": (
        "Enter the endpoint URL {url} at the sender.",
        "Set the secret that it shows, whsec_…, whole, as the secret {secret}.",
    ),
    "stripe": (
        "In Stripe's Workbench, open Webhooks > Add destination, choose events, and enter the endpoint URL {url}.",
        "Reveal the signing secret, and set it whole, including whsec_, as the secret {secret}.",
    ),
    "twilio": (
        "In Twilio's console, enter the webhook URL {url} at the phone number or service.",
        "Set the account's auth token as the secret {secret}.",
        "The URL is signed: behind a proxy, edges need FLOWHOOK_PUBLIC_URL.",
    ),
    "twitch": (
        "Create the EventSub subscription with the callback {url}; its challenge is answered.",
        "Its secret is the value of the secret {secret}, a random text of 10 to 100 characters.",
    ),
    "typeform": (
        "At Typeform, open the form's Connect > Webhooks > Add a webhook. Endpoint: {url}.",
        "Secret: a long random text of your choice, which is the value of the secret {secret}.",
    ),
    "whatsapp": _META,
    "x": (
        "Register the webhook {url} over the API of X; its CRC is answered.",
        "Set the app's consumer secret as the secret {secret}; no other kind of auth may use it.",
    ),
    "zendesk": (
        "In Zendesk's Admin Center, open Apps and integrations > Webhooks > Create webhook. Endpoint URL: {url}.",
        "Set the signing secret that it shows as the secret {secret}.",
    ),
    "zoom": (
        "In Zoom's App Marketplace, open the app's Features > Event Subscriptions. Endpoint URL: {url}.",
        "Set the app's secret token as the secret {secret}; no other kind of auth may use it.",
    ),
}


def setup_steps(provider: str, url: str, secret: str) -> tuple[str, ...]:
    """Return the steps for a provider of `flowhook.providers.table`.

    Args:
        provider: its name.
        url: URL of the webhook.
        secret: name of the secret; empty: a public key is in the flow's file, and steps about a secret are left out.
    """
    return tuple(
        step.replace("{url}", url).replace("{secret}", secret)
        for step in _STEPS[provider]
        if secret or "{secret}" not in step
    )
