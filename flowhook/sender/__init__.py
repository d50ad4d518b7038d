"""Makes the request that a sender of webhooks makes: `flowhook send` and the router's SignWebhook use it.

- `signed_webhook`: the request to a flow, signed as its `auth` requires, with a new delivery ID.

Must not live here: HTTP, the fetching of secrets.
"""

from flowhook.sender.signed_webhook import SignedWebhook, WebhookRequest, sign_webhook
from flowhook.signatures.credentials import CredentialPlace

__all__ = ["CredentialPlace", "SignedWebhook", "WebhookRequest", "sign_webhook"]
