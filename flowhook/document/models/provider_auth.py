"""Models of the kinds of `auth` that are providers, derived from the rows of `flowhook.providers.table`.

The model of a provider takes its secrets or its public keys; that of a provider with further keys is a class here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Literal

from pydantic import ConfigDict, Field
from typing_extensions import override

from flowhook import providers
from flowhook.document.models.base import exactly_one
from flowhook.document.models.credentials import (
    MAX_SECRETS_PER_KIND,
    AuthKind,
    HeaderName,
    PublicKeyText,
    SecretAuth,
    SecretName,
)
from flowhook.providers import Handshake, Provider

PublicKeys = Annotated[tuple[PublicKeyText, ...], Field(min_length=1, max_length=MAX_SECRETS_PER_KIND)]
_STANDARD_KEYS: Final = ("secret", "secrets", "public_key", "public_keys")


class ProviderAuth(AuthKind):
    """Base class of providers."""

    @override
    @property
    def names_deliveries(self) -> bool:
        return providers.PROVIDERS[self.kind].names_deliveries

    @override
    @property
    def handshake(self) -> Handshake | None:
        return providers.PROVIDERS[self.kind].handshake


class SecretProvider(ProviderAuth, SecretAuth):
    """A provider that signs with a shared secret, or sends it."""


class PublicKeyProvider(ProviderAuth):
    """A provider that signs with its private key."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["public_key"]}, {"required": ["public_keys"]}]}
    )

    public_key: PublicKeyText | None = None
    """As the provider shows it: hex, base64, or PEM."""
    public_keys: PublicKeys | None = None
    """Several of them, while rotating."""

    _one_way_to_give_keys = exactly_one(
        "public_key",
        "public_keys",
        cause="needs `public_key: KEY`, or `public_keys: [KEY, …]` while rotating, and not both",
    )

    @override
    @property
    def public_values(self) -> tuple[tuple[str, bytes], ...]:
        return _public_values(self)


def _public_values(kind: PublicKeyProvider | StandardWebhooksAuth) -> tuple[tuple[str, bytes], ...]:
    if kind.public_key is not None:
        return (("public_key", kind.public_key.encode()),)
    return tuple((f"public_keys[{index}]", key.encode()) for index, key in enumerate(kind.public_keys or ()))


class MetaAuth(SecretProvider):
    """Meta: Facebook, Instagram, WhatsApp."""

    kind: ClassVar[str] = "meta"

    verify_token: SecretName | None = None
    """Secret that Meta presents when a URL is registered there."""

    @override
    @property
    def other_secret_names(self) -> tuple[str, ...]:
        return () if self.verify_token is None else (self.verify_token,)


class WhatsappAuth(MetaAuth):
    """Another name of `meta`."""

    kind: ClassVar[str] = "whatsapp"


class ElasticioAuth(SecretProvider):
    """elastic.io."""

    kind: ClassVar[str] = "elasticio"

    header: HeaderName = "x-eio-signature"
    """Header with the signature."""
    algorithm: Literal["sha256", "sha512"] = "sha512"
    """As configured at elastic.io."""


class StandardWebhooksAuth(ProviderAuth):
    """Any sender that signs according to Standard Webhooks."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [name]} for name in _STANDARD_KEYS]})

    kind: ClassVar[str] = "standard-webhooks"

    secret: SecretName | None = None
    """Shared, for signatures `v1`."""
    secrets: Annotated[tuple[SecretName, ...], Field(min_length=1, max_length=MAX_SECRETS_PER_KIND)] | None = None
    """Several of them, while rotating."""
    public_key: PublicKeyText | None = None
    """Of the sender, for signatures `v1a`: `whpk_…`."""
    public_keys: PublicKeys | None = None
    """Several of them, while rotating."""

    _one_way_to_give_keys = exactly_one(
        *_STANDARD_KEYS,
        cause="needs one of `secret: NAME`, `secrets: [NAME, …]`, `public_key: KEY`, `public_keys: [KEY, …]`",
    )

    @override
    @property
    def secret_names(self) -> tuple[str, ...]:
        return self.secrets or ((self.secret,) if self.secret else ())

    @override
    @property
    def public_values(self) -> tuple[tuple[str, bytes], ...]:
        return tuple((name, key.removeprefix(b"whpk_")) for name, key in _public_values(self))


class PaypalAuth(ProviderAuth):
    """PayPal."""

    kind: ClassVar[str] = "paypal"

    webhook_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9]{1,50}$")]
    """ID of the webhook in PayPal's dashboard; events that are signed for another are refused."""


class AwsSnsAuth(ProviderAuth):
    """Amazon SNS."""

    kind: ClassVar[str] = "aws-sns"

    topic_arn: Annotated[str, Field(pattern=r"^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_.-]{1,261}$")]
    """ARN of the topic; without it, every AWS account could sign."""


class PlaidAuth(ProviderAuth):
    """Plaid."""

    kind: ClassVar[str] = "plaid"

    client_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9]{1,64}$")]
    """ID of the account at Plaid, for fetching keys."""
    secret: SecretName
    """Secret of that account, for the same purpose; it signs nothing."""
    environment: Literal["production", "sandbox"] = "production"
    """Environment of Plaid, as in the name of its server."""

    @override
    @property
    def other_secret_names(self) -> tuple[str, ...]:
        return (self.secret,)


def derive_model(row: Provider) -> type[ProviderAuth]:
    """Return the model of a provider whose keys are the secrets, or the public keys."""
    base: type[ProviderAuth] = PublicKeyProvider if row.has_public_key else SecretProvider

    class Auth(base):  # type: ignore[misc, valid-type] # one of two, given as a value
        kind: ClassVar[str] = row.name

    Auth.__doc__ = f"See `flowhook.providers.table`, {row.name}."
    Auth.__name__ = Auth.__qualname__ = "".join(word.capitalize() for word in row.name.split("-")) + "Auth"
    return Auth


_WITH_KEYS_OF_THEIR_OWN: Final[tuple[type[ProviderAuth], ...]] = (
    MetaAuth, WhatsappAuth, ElasticioAuth, StandardWebhooksAuth, PaypalAuth, AwsSnsAuth, PlaidAuth
)  # fmt: skip
_MODELS: Final = {model.kind: model for model in _WITH_KEYS_OF_THEIR_OWN}
PROVIDER_KINDS: Final[Mapping[str, type[ProviderAuth]]] = {
    name: _MODELS.get(name) or derive_model(row) for name, row in providers.PROVIDERS.items()
}
"""The kind of `auth` of each provider, by its name."""


def provider(name: str, *, secret: str) -> ProviderAuth:
    """Return the kind of a provider with one secret, as if a flow file contained it."""
    return PROVIDER_KINDS[name].model_validate({"secret": secret})
