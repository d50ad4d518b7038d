"""A row of the table of providers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from flowhook.providers.scheme import Scheme, SignatureMethod


class Handshake(Enum):
    """A method by which providers validate a URL registered with them; `edge.webhook.handshakes` implements them."""

    CONFIRM_SUBSCRIPTION = auto()
    """A signed message with a URL that has to be fetched."""
    ECHO_BODY_CHALLENGE = auto()
    """A signed body of type `url_verification`, whose `challenge` is echoed."""
    ECHO_HEADER = auto()
    """A key in the header `X-Hook-Secret`, which is echoed there."""
    ECHO_MESSAGE_CHALLENGE = auto()
    """A signed message of type `webhook_callback_verification`, whose `challenge` is echoed."""
    ECHO_QUERY_CHALLENGE = auto()
    """A GET whose parameter `challenge` is echoed."""
    ECHO_VALIDATION_TOKEN = auto()
    """A POST whose parameter `validationToken` is echoed."""
    PING = auto()
    """A signed ping, which is acknowledged."""
    SIGN_CRC_TOKEN = auto()
    """A GET whose parameter `crc_token` is signed."""
    SIGN_PLAIN_TOKEN = auto()
    """A signed body of type `endpoint.url_validation`, whose `plainToken` is signed."""
    VERIFY_TOKEN = auto()
    """A GET with a token that is compared, and a challenge that is echoed."""

    @property
    def signs(self) -> bool:
        """Whether the response contains a signature of text that is in the request."""
        return self in (Handshake.SIGN_CRC_TOKEN, Handshake.SIGN_PLAIN_TOKEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A provider of webhooks.

    Attributes:
        name: of the kind of `auth`.
        source: the provider's page that documents the signature.
        scheme: how it signs; None: `flowhook.signatures.build` has a verifier of its own for it.
        handshake: how it validates a URL; None: it does not.
        sends_delivery_ids: whether its verifier finds a delivery ID. A scheme says so itself.
    """

    name: str
    source: str
    scheme: Scheme | None = None
    handshake: Handshake | None = None
    sends_delivery_ids: bool = False

    @property
    def names_deliveries(self) -> bool:
        """Whether each delivery has an ID."""
        return self.sends_delivery_ids if self.scheme is None else bool(self.scheme.delivery_locations)

    @property
    def sends_secret(self) -> bool:
        """Whether it sends the secret itself instead of a signature."""
        return self.scheme is not None and self.scheme.method is SignatureMethod.TOKEN

    @property
    def has_public_key(self) -> bool:
        """Whether its signatures are verified by a public key instead of a secret."""
        return self.scheme is not None and self.scheme.method.is_asymmetric
