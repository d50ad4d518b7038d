"""The `auth` key: who may call a webhook (docs/flow-file.md).

`auth` is `none`, one kind, or a list of kinds of which any one has to pass. A kind is a mapping with one key, its name:
`{github: {secret: NAME}}`. For a callback, `auth` may also be `one_time_url`. The models hold the validated settings;
`flowhook.signatures` verifies requests by them. No model holds the value of a secret, only names.

The kinds that are providers are derived from the rows of `flowhook.providers.table`. The model of a provider takes its
secrets or its public keys; that of a provider with further keys is a class here.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import ConfigDict, Field, GetJsonSchemaHandler, PlainValidator, TypeAdapter, ValidationError, create_model
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from typing_extensions import override

from flowhook.document.diagnostics.problems import Code, validation_error, validation_error_at
from flowhook.document.models import credentials
from flowhook.document.models.base import Model, exactly_one
from flowhook.document.models.credentials import (
    AuthKind,
    OneTimeUrlAuth,
    PublicKeyText,
    SecretName,
    SecretNames,
    named_keys,
)
from flowhook.providers import PROVIDERS, Handshake, Provider

PublicKeys = Annotated[tuple[PublicKeyText, ...], Field(min_length=1, max_length=credentials.MAX_SECRETS_PER_KIND)]
_STANDARD_KEYS: Final = ("secret", "secrets", "public_key", "public_keys")


class ProviderAuth(AuthKind):
    """Base class of providers."""

    @override
    @property
    def names_deliveries(self) -> bool:
        return PROVIDERS[self.kind].names_deliveries

    @override
    @property
    def handshake(self) -> Handshake | None:
        return PROVIDERS[self.kind].handshake


class SecretProvider(ProviderAuth, credentials.SecretAuth):
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
        return named_keys("public_key", self.public_key, self.public_keys)


class MetaAuth(SecretProvider, kind="meta"):
    """Meta: Facebook, Instagram, WhatsApp."""

    verify_token: SecretName | None = None
    """Secret that Meta presents when a URL is registered there."""

    @override
    @property
    def other_secret_names(self) -> tuple[str, ...]:
        return () if self.verify_token is None else (self.verify_token,)


class WhatsappAuth(MetaAuth, kind="whatsapp"):
    """Another name of `meta`."""


class ElasticioAuth(SecretProvider, kind="elasticio"):
    """elastic.io."""

    header: credentials.HeaderName = "x-eio-signature"
    """Header with the signature."""
    algorithm: Literal["sha256", "sha512"] = "sha512"
    """As configured at elastic.io."""


class StandardWebhooksAuth(ProviderAuth, kind="standard-webhooks"):
    """Any sender that signs according to Standard Webhooks."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [name]} for name in _STANDARD_KEYS]})

    secret: SecretName | None = None
    """Shared, for signatures `v1`."""
    secrets: SecretNames | None = None
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
        values = named_keys("public_key", self.public_key, self.public_keys)
        return tuple((name, key.removeprefix(b"whpk_")) for name, key in values)


class PaypalAuth(ProviderAuth, kind="paypal"):
    """PayPal."""

    webhook_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9]{1,50}$")]
    """ID of the webhook in PayPal's dashboard; events that are signed for another are refused."""


class AwsSnsAuth(ProviderAuth, kind="aws-sns"):
    """Amazon SNS."""

    topic_arn: Annotated[str, Field(pattern=r"^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_.-]{1,261}$")]
    """ARN of the topic; without it, every AWS account could sign."""


class PlaidAuth(ProviderAuth, kind="plaid"):
    """Plaid."""

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

    class Auth(base, kind=row.name):  # type: ignore[call-arg, misc, valid-type] # one of two, given as a value
        __doc__ = f"See `flowhook.providers.table`, {row.name}."

    Auth.__name__ = Auth.__qualname__ = "".join(word.capitalize() for word in row.name.split("-")) + "Auth"
    return Auth


_WITH_KEYS_OF_THEIR_OWN: Final[tuple[type[ProviderAuth], ...]] = (
    MetaAuth, WhatsappAuth, ElasticioAuth, StandardWebhooksAuth, PaypalAuth, AwsSnsAuth, PlaidAuth
)  # fmt: skip
_MODELS: Final = {model.kind: model for model in _WITH_KEYS_OF_THEIR_OWN}
PROVIDER_KINDS: Final[Mapping[str, type[ProviderAuth]]] = {
    name: _MODELS.get(name) or derive_model(row) for name, row in PROVIDERS.items()
}
"""The kind of `auth` of each provider, by its name."""


def provider(name: str, *, secret: str) -> ProviderAuth:
    """Return the kind of a provider with one secret, as if a flow file contained it."""
    return PROVIDER_KINDS[name].model_validate({"secret": secret})


MAX_KINDS: Final = 8  # kinds one `auth` may list

KINDS: Final[Mapping[str, type[AuthKind]]] = {**credentials.OWN_KINDS, **PROVIDER_KINDS}
"""Every kind by its name in flow files, except the one that only callbacks have."""

ONE_TIME_URL: Final = OneTimeUrlAuth.kind


@functools.cache
def _adapter(name: str) -> TypeAdapter[dict[str, Any]]:
    """Return the validator of one kind, built on first use: there are dozens, and a process uses a few of them.

    It validates a dictionary with one entry rather than the model itself, so that the location of an error contains
    the name of the kind.
    """
    model = KINDS[name]
    return TypeAdapter(dict[str, model])  # type: ignore[valid-type] # known only to the table


def _parse_kind(value: object) -> AuthKind:
    if not isinstance(value, Mapping) or len(value) != 1:
        cause = "a kind of `auth` is a mapping with one key, its name: {github: {secret: NAME}}"
        if value == "none":
            cause = "`none` beside other kinds would let everybody in: use it alone, or remove it"
        elif value == ONE_TIME_URL:
            cause = "remove it: a callback's one-time URLs are valid whatever other kinds are listed"
        raise validation_error(Code.AUTH_INVALID, cause)
    (name,) = value
    if name in KINDS:
        kind: AuthKind = _adapter(name).validate_python(value)[name]
        return kind
    guesses = difflib.get_close_matches(str(name), KINDS, n=1)
    hint = f"did you mean {guesses[0]}?" if guesses else f"use none, {', '.join(KINDS)}"
    cause = _NO_KEYS if name == ONE_TIME_URL else f"unknown kind of `auth`: {hint}"
    raise validation_error_at(((str(name),), Code.AUTH_INVALID, cause))


_KIND: Final = TypeAdapter(Annotated[AuthKind, PlainValidator(_parse_kind)])
_LIST: Final = TypeAdapter(list[Annotated[AuthKind, PlainValidator(_parse_kind)]])


def parse_auth(value: object) -> tuple[AuthKind, ...]:
    """Return the kinds of `auth`, any one of which has to pass; empty for `none`.

    Raises:
        ValidationError: lists each problem with its location, relative to `auth`.
        PydanticCustomError: `auth` as a whole is none of the three forms.
    """
    if value == "none":
        return ()
    if isinstance(value, Mapping):
        return (_KIND.validate_python(value),)
    if isinstance(value, list) and 1 <= len(value) <= MAX_KINDS:
        return tuple(_LIST.validate_python(value))
    code, cause = Code.AUTH_INVALID, "must be `none`, one kind such as {github: {secret: NAME}}, or a list of kinds"
    if isinstance(value, list):
        code = Code.VALUE_RANGE
        cause = f"needs 1 to {MAX_KINDS} kinds, not {len(value)}; `auth: none` asks for no credentials"
    elif value is None:
        code, cause = Code.KEY_MISSING, "is missing: say who may call, or `auth: none` for everyone"
    elif value == ONE_TIME_URL:
        cause = "is for callbacks only: say who may call this URL, or `auth: none` for everyone"
    elif isinstance(value, str) and value in KINDS:
        cause = f"{value} needs settings: {_written(value)}"
    raise validation_error(code, cause)


def parse_callback_auth(value: object) -> tuple[AuthKind, ...]:
    return (OneTimeUrlAuth(),) if value is None or value == ONE_TIME_URL else parse_auth(value)


_NO_KEYS: Final = f"has no keys: write `auth: {ONE_TIME_URL}`, the default of callbacks"


def _written(name: str) -> str:
    fields = KINDS[name].model_fields
    needed = [f"{field.alias or key}: …" for key, field in fields.items() if field.is_required()]
    parts = [*needed, *(["secret: NAME"] if "secret" in fields else [])]
    try:
        KINDS[name].model_validate({"secret": "NAME"})
    except ValidationError:
        parts += [] if needed else ["…"]
    return f"{{{name}: {{{', '.join(parts)}}}}}"


class _OneOf(Model):
    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})


class _AuthSchema:
    """JSON Schema of `auth` for editors: its forms and all kinds; `words` are the forms that are a single word."""

    def __init__(self, *words: str) -> None:
        self._words = words

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        fields: dict[str, Any] = {
            name.replace("-", "_"): (model | None, Field(None, alias=name)) for name, model in KINDS.items()
        }
        kind = create_model("AuthByKind", __base__=_OneOf, **fields)
        some = Annotated[list[kind], Field(min_length=1, max_length=MAX_KINDS)]  # type: ignore[valid-type]
        forms: Any = Literal[self._words] | kind | some
        return handler(TypeAdapter(forms).core_schema)


Auth = Annotated[tuple[AuthKind, ...], PlainValidator(parse_auth), _AuthSchema("none")]
CallbackAuth = Annotated[tuple[AuthKind, ...], PlainValidator(parse_callback_auth), _AuthSchema("none", ONE_TIME_URL)]


SIGNING: Final = frozenset(row.name for row in PROVIDERS.values() if row.handshake is not None and row.handshake.signs)
"""Kinds that sign text from a request: for `x`, from anybody; for `zoom`, from a request that is itself signed."""


class SecretMisuse(NamedTuple):
    """A secret of two kinds, one of which signs text chosen by others."""

    secret: str
    one: str
    other: str

    @property
    def signing(self) -> str:
        return self.one if self.one in SIGNING else self.other


def kinds_by_secret(kinds: Iterable[AuthKind]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for kind in kinds:
        for name in kind.secret_names:
            found.setdefault(name, set()).add(kind.kind)
    return found


def secret_misuses(one: Mapping[str, set[str]], other: Mapping[str, set[str]]) -> Iterator[SecretMisuse]:
    for name in sorted(one.keys() & other.keys()):
        for mine in sorted(one[name]):
            for theirs in sorted(other[name]):
                if mine != theirs and SIGNING & {mine, theirs}:
                    yield SecretMisuse(name, mine, theirs)
