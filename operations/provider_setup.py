"""The steps with which a provider is made to send to a flow, for people who enter them there.

They are in the order in which they are taken: what a handshake needs is set before the URL is entered at the provider.

Source: docs/providers, and each provider's page in `flowhook.providers.table` and those in the comments here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_CHOOSE_IT: Final = "Set the secret {secret} to a long random text of your choice."
_PUBLIC_URL: Final = "The URL is signed: behind a proxy, edges need FLOWHOOK_PUBLIC_URL."
_ANSWER_200: Final = (
    "The answer has to have status 200, not 202, the default: the webhook needs respond: {status: 200}."
)
_NOT_SHARED: Final = "No other kind of auth may use that secret."

_META: Final = (
    "In the app's dashboard at Meta, open App settings > Basic, and set the app secret as the secret {secret}.",
    "Set the secret that verify_token names in the flow's file to a text of your choice.",
    "Open Webhooks (for WhatsApp: WhatsApp > Configuration). Callback URL: {url}. Verify token: that text.",
    "Press Verify and save, which is answered, and subscribe to fields (WhatsApp: messages).",
    _ANSWER_200,
)

_STEPS: Final[Mapping[str, tuple[str, ...]]] = {
    "adyen": (  # https://docs.adyen.com/development-resources/webhooks/configure-and-manage
        "In Adyen's Customer Area, open Developers > Webhooks, and add a Standard webhook with the URL {url}.",
        "Generate its HMAC key, set it as the secret {secret}, in hex as shown, and save the webhook.",
    ),
    "asana": (  # https://developers.asana.com/reference/createwebhook
        "Create the webhook over Asana's API (POST /webhooks) with the target {url}; its handshake is answered.",
        "Set the X-Hook-Secret in the response to that request as the secret {secret}.",
        "Heartbeats, whose list events is empty, are sent at first and every 8 hours.",
        _ANSWER_200,
    ),
    "aws-sns": (
        "At Amazon SNS, open the topic that topic_arn in the flow's file names, and create a subscription.",
        "Protocol: HTTPS. Endpoint: {url}. Leave raw message delivery off.",
        "An edge confirms the subscription. Then publish a message to the topic.",
    ),
    "azure-event-grid": (
        "Set the secret {secret} to a long random text of your choice that needs no percent-encoding.",
        "At Azure, create the event subscription. Endpoint type: Web Hook. Endpoint: {url}?code=THE-SECRET.",
        "Its validation is answered, for the Event Grid schema and for CloudEvents.",
    ),
    "discord": (
        "In Discord's Developer Portal, open the app's General Information, and copy the public key.",
        "Set it, which is not secret, as public_key in the flow's file, and apply the file.",
        "Open Webhooks in the Portal, and enter the endpoint URL {url}; its ping is answered.",
        "Enable events there, select them, and save the changes.",
        "The answer has to have status 204: the webhook needs respond: {status: 204}.",
    ),
    "docusign": (  # https://developers.docusign.com/platform/webhooks/connect/setting-up-hmac
        "At DocuSign, open Admin > Connect > Connect Keys, and add a secret key.",
        "Set it as the secret {secret}: it is shown in full once.",
        "Add a custom configuration under Connect. URL to publish: {url}. Data format: JSON.",
        "Select Include HMAC Signature and the events in it, and save it.",
    ),
    "dropbox": (
        "In Dropbox's App Console, open the app's settings, and set the app secret as the secret {secret}.",
        "Add the webhook URI {url} there; its challenge is answered.",
        "Change a file of an account that is linked to the app: events name the account, and not the file.",
    ),
    "elasticio": (  # the component verifies what its senders sign
        "Set the shared secret of the HMAC credential of elastic.io's Webhook component as the secret {secret}.",
        "Set header and algorithm in the flow's file to the header name and algorithm of that credential.",
        "Enter the URL {url} at the senders that sign for that component.",
    ),
    "github": (  # https://docs.github.com/en/webhooks/using-webhooks/creating-webhooks
        _CHOOSE_IT,
        "At GitHub, open Settings > Webhooks > Add webhook of the repository or organization.",
        "Payload URL: {url}. Content type: application/json. Secret: the value of {secret}.",
        "Choose the events, and add the webhook: GitHub sends the event ping at once.",
    ),
    "gitlab": (
        _CHOOSE_IT,
        "At GitLab, open Settings > Webhooks > Add new webhook of the project or group. URL: {url}.",
        "Secret token: the value of {secret}. Select the triggers, and add the webhook.",
        "Press Test > Push events in the list of webhooks.",
        "GitLab 19.0 and later can sign: give it a signing token instead, with auth: standard-webhooks here.",
    ),
    "hubspot": (
        "In the app's settings at HubSpot, open Auth, and set the client secret as the secret {secret}.",
        "Open Webhooks, and enter the target URL {url}.",
        "Create a subscription for each kind of event, and activate it.",
        _PUBLIC_URL,
    ),
    "intercom": (  # https://developers.intercom.com/building-apps/docs/setting-up-webhooks
        "In Intercom's Developer Hub, open the app's Basic information.",
        "Set the client secret as the secret {secret}.",
        "Open Configure > Webhooks, and enter the endpoint URL {url}; the request that validates it is answered.",
        "Select the topics, and save. Notifications with the topic ping only test the URL.",
    ),
    "jira": (
        _CHOOSE_IT,
        "At Jira, open System > WebHooks > Create a WebHook as an administrator. URL: {url}.",
        "Secret: the value of {secret}. Select the events, and create the webhook.",
        "Webhooks that apps register are not signed by a secret of your choice: don't use them.",
    ),
    "linear": (
        "At Linear, open Settings > API > Webhooks > New webhook. URL: {url}.",
        "Select the data change events, and create the webhook.",
        "Set the signing secret that it shows as the secret {secret}.",
        _ANSWER_200,
    ),
    "mailgun": (  # https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/webhooks
        "Set Mailgun's HTTP webhook signing key, which is none of the API keys, as the secret {secret}.",
        "At Mailgun, open Sending > Webhooks > Add webhook, once for each type of event. URL: {url}.",
        _ANSWER_200,
    ),
    "meta": _META,
    "microsoft-graph": (
        "Set the secret {secret} to a long random text of your choice, of at most 128 characters.",
        "Create the subscription over Microsoft Graph (POST /subscriptions) with the notificationUrl {url}.",
        "Its clientState is the value of {secret}. Its validation is answered.",
        "Renew it before its expirationDateTime: Microsoft Graph deletes it then.",
    ),
    "notion": (
        "In Notion, open Webhooks of the integration, and create a subscription to a page that shows requests.",
        "Set the verification_token that Notion sends there as the secret {secret}.",
        "Change the subscription's URL to {url} before you verify it: afterwards it can't be changed.",
        "Press Verify, and enter the token.",
        "Give the integration access to the pages whose events it is to get.",
    ),
    "paypal": (
        "In PayPal's developer dashboard, open the app, and press Add Webhook, for Sandbox or Live. URL: {url}.",
        "Select the event types, and save: the list shows the ID of the webhook.",
        "Set it as webhook_id in the flow's file, and apply the file.",
    ),
    "plaid": (  # https://plaid.com/docs/api/webhooks/
        "At Plaid, open Developers > Keys. The client_id in the flow's file is the one there.",
        "Set the secret of the environment that the flow's file names as the secret {secret}.",
        "Pass the webhook {url} when a link token is created, or to /item/webhook/update.",
        "In the sandbox, /sandbox/item/fire_webhook has an event sent.",
        _ANSWER_200,
    ),
    "sendgrid": (
        "At SendGrid, open Settings > Mail Settings > Event Webhooks, and create one. Post URL: {url}.",
        "Select the events, enable Signed Event Webhook, and save.",
        "Set the verification key that it shows as public_key in the flow's file, and apply the file.",
    ),
    "shopify": (
        "At Shopify, open Settings > Notifications > Webhooks > Create webhook. Format: JSON. URL: {url}.",
        "Set what follows 'Your webhooks will be signed with' on that page as the secret {secret}.",
        "For webhooks of an app, the secret {secret} is the app's client secret instead.",
    ),
    "slack": (
        "At Slack, open the app's Basic Information, and set its signing secret as the secret {secret}.",
        "Open Event Subscriptions, enable events, and enter the request URL {url}; its challenge is answered.",
        "Add events under Subscribe to bot events, save the changes, and install the app again.",
    ),
    "square": (
        "In Square's developer console, open the application's Webhooks > Subscriptions, of Sandbox or Production.",
        "Add a subscription, and select its events. Notification URL: {url}.",
        "Set the subscription's signature key as the secret {secret}.",
        _PUBLIC_URL,
        "Press Send Test Event on the subscription's page.",
    ),
    "standard-webhooks": (
        "Enter the endpoint URL {url} at the sender.",
        "Set the secret that it shows, whsec_…, whole, as the secret {secret}.",
    ),
    "stripe": (  # https://docs.stripe.com/workbench/webhooks
        "In Stripe's Workbench, open Webhooks, and create an event destination.",
        "Choose the events, of the payload style Snapshot, and the type Webhook endpoint. Endpoint URL: {url}.",
        "Reveal the signing secret, and set it whole, including whsec_, as the secret {secret}.",
        "Sandboxes and the live mode have destinations, and signing secrets, of their own.",
    ),
    "twilio": (  # https://www.twilio.com/docs/messaging/guides/webhook-request
        "In Twilio's console, open Account Info, and set the auth token as the secret {secret}.",
        "Open the phone number's configuration: A message comes in, or A call comes in.",
        "Webhook: {url}. Method: HTTP POST.",
        _PUBLIC_URL,
        "Twilio reads the answer as TwiML, of which <Response/> is the one without instructions.",
        "The webhook needs respond: {status: 200, headers: {Content-Type: text/xml}, body: <Response/>}.",
    ),
    "twitch": (
        "Set the secret {secret} to a random text of 10 to 100 ASCII characters.",
        "Create the EventSub subscription over Twitch's API, with an app access token and the method webhook.",
        "Its callback, which has to use port 443, is {url}; its challenge is answered.",
        "Its secret is the value of {secret}.",
    ),
    "typeform": (
        _CHOOSE_IT,
        "At Typeform, open the form's Connect > Webhooks > Add a webhook. Endpoint: {url}.",
        "Edit the webhook, and add the value of {secret} as its secret: it signs nothing without one.",
        "Switch the webhook on.",
    ),
    "whatsapp": _META,
    "x": (  # https://docs.x.com/x-api/webhooks/introduction
        "Set the consumer secret (API key secret) of the app at X as the secret {secret}.",
        _NOT_SHARED,
        "Register the webhook over the API of X (POST /2/webhooks) with the URL {url}; its CRC is answered.",
        "The URL may not name a port.",
        "Subscribe to events of the X Activity API with that webhook, or link a filtered stream to it.",
        _ANSWER_200,
    ),
    "zendesk": (  # https://developer.zendesk.com/documentation/webhooks/
        "In Zendesk's Admin Center, open Apps and integrations > Webhooks > Create webhook.",
        "Select Zendesk events and their types. Endpoint URL: {url}. Method: POST. Format: JSON.",
        "Create the webhook. Tests before that are signed by a secret that Zendesk publishes, and refused.",
        "Reveal its signing secret, and set it as the secret {secret}.",
    ),
    "zoom": (
        "In Zoom's App Marketplace, open the app's Features > Access.",
        "Set the secret token as the secret {secret}.",
        _NOT_SHARED,
        "Enable Event Subscriptions, and add one with its event types. Event notification endpoint URL: {url}.",
        "Press Validate, which is answered, and save.",
        _ANSWER_200,
    ),
}


# keys of `auth` other than a secret; values are examples, which have to be replaced
_AUTH: Final[Mapping[str, Mapping[str, str]]] = {
    "aws-sns": {"topic_arn": "arn:aws:sns:eu-central-1:123456789012:orders"},
    "discord": {"public_key": "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"},
    "meta": {"secret": "{secret}", "verify_token": "{secret}-verify"},
    "paypal": {"webhook_id": "8PT597110X687430LKGECATA"},
    "plaid": {"client_id": "5eb13e97fd0ed40013cc0000", "secret": "{secret}", "environment": "sandbox"},
    "sendgrid": {
        "public_key": "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw"
        "+2fNNRaINXvVpiglSI8eNEc6wEA3F+g=="
    },
    "whatsapp": {"secret": "{secret}", "verify_token": "{secret}-verify"},
}
# other keys of `webhook`: the answer, of providers that say that they want no other, not even 202; and a delivery ID
_MORE: Final[Mapping[str, Mapping[str, Any]]] = {
    "azure-event-grid": {"dedupe": {"key": "${ .body[0].id }"}},
    "discord": {"respond": {"status": 204}},
    "twilio": {"respond": {"status": 200, "headers": {"Content-Type": "text/xml"}, "body": "<Response/>"}},
}
_WITH_200: Final = frozenset(
    ("asana", "linear", "mailgun", "meta", "plaid", "shopify", "slack", "stripe", "whatsapp", "x", "zoom")
)


def webhook_settings(provider: str, secret: str) -> dict[str, Any]:
    """Return the section `webhook` of a flow for a provider, without what has suitable defaults."""
    keys = _AUTH.get(provider, {"secret": "{secret}"})
    auth = {provider: {key: value.replace("{secret}", secret) for key, value in keys.items()}}
    more = {"respond": {"status": 200}} if provider in _WITH_200 else _MORE.get(provider, {})
    return {"auth": auth, **more}


def setup_steps(provider: str, url: str, secret: str) -> tuple[str, ...]:
    """Return the steps for a provider of `flowhook.providers.table`, for the URL of a webhook and the name of a secret.

    Without a secret, a public key is in the flow's file, and steps about a secret are left out.
    """
    return tuple(
        step.replace("{url}", url).replace("{secret}", secret)
        for step in _STEPS[provider]
        if secret or "{secret}" not in step
    )
