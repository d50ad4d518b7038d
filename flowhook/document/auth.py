"""Who may call a webhook: the `auth` key of a flow file (DESIGN, "Flow file").

`auth` is `none`, one kind, or a list of kinds of which any one that passes will do. A kind is a mapping with one key,
its name: `{github: {secret: NAME}}`. The kinds hold what an author wrote, checked; what to do about it is
`flowhook.signatures`. No kind holds the value of a secret, only names.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    JsonValue,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError

from flowhook import limits
from flowhook.document import json_types
from flowhook.document.duration import parse_duration
from flowhook.document.model import Model
from flowhook.document.signed_content import TOKEN, ContentPart, parse_content
from flowhook.errors import InvalidError

MAX_SECRETS_PER_KIND: Final = 8
"""Secrets one kind may name: each costs a hash of the body when none of them matches."""

MAX_KINDS: Final = 8
"""Kinds one `auth` may list."""

MAX_TOLERANCE_SECONDS: Final = 7 * 24 * 3600.0

NOT_YET: Final = frozenset(
    {
        "twilio", "zoom", "meta", "whatsapp", "discord", "gitlab", "square", "hubspot", "sendgrid", "paypal", "aws-sns",
        "plaid", "adyen", "mailgun", "linear", "notion", "typeform", "zendesk", "jira", "intercom", "twitch", "x",
        "asana", "microsoft-graph", "docusign", "dropbox", "elasticio",
    }
)  # fmt: skip
"""Providers that are known to be wanted; refused by a message that does not call them a typing error."""


def refused(cause: str) -> PydanticCustomError:
    """Return an error that pydantic reports with exactly this text."""
    return PydanticCustomError("flowhook", cause)


def refused_at(problems: Iterable[tuple[tuple[int | str, ...], str]]) -> ValidationError:
    """Return an error for several places at once, each relative to the value under validation."""
    return ValidationError.from_exception_data(
        "flowhook", [InitErrorDetails(type=refused(cause), loc=loc, input=None) for loc, cause in problems]
    )


def duration(value: object) -> float:
    """Return seconds, in (0, inf), for an ISO 8601 duration."""
    try:
        seconds = parse_duration(value)
    except (InvalidError, ValueError) as error:
        raise refused(str(error)) from None
    if seconds <= 0:
        raise refused("must be longer than nothing")
    return seconds


def _header_name(value: str) -> str:
    if not TOKEN.fullmatch(value):
        raise refused(f"{value!r} is no header name: letters, digits and hyphens, at most 128")
    return value


def _visible(value: str) -> str:
    if not value.isascii() or not value.isprintable():
        raise refused("must be printable ASCII: that is all a header carries unchanged")
    return value


HeaderName = Annotated[str, AfterValidator(_header_name)]
"""A header field's name as its author spelled it; compare it in lower case."""

PublicKeyText = Annotated[str, Field(min_length=32, max_length=8192)]
SecretName = Annotated[str, Field(pattern=rf"^[A-Za-z0-9._-]{{1,{limits.MAX_SECRET_NAME_LENGTH}}}$")]
Duration = Annotated[float, BeforeValidator(duration), json_types.DURATION]


_ONE_WAY_TO_NAME_SECRETS: Final[JsonValue] = [{"required": ["secret"]}, {"required": ["secrets"]}]


class AuthKind(Model):
    """What every kind of credential has."""

    kind: ClassVar[str]

    @property
    def secret_names(self) -> tuple[str, ...]:
        """Names of the secrets that it may match, in the order they are tried."""
        return ()

    @property
    def public_values(self) -> tuple[tuple[str, bytes], ...]:
        """Public keys that stand in the flow file, and what each is called."""
        return ()

    @property
    def names_deliveries(self) -> bool:
        """Whether its senders give each delivery an ID, so that repeated ones are recognised without a key."""
        return False


class SecretAuth(AuthKind):
    """A kind that has secrets, newest first while rotating."""

    model_config = ConfigDict(json_schema_extra={"oneOf": _ONE_WAY_TO_NAME_SECRETS})

    secret: SecretName | None = None
    secrets: tuple[SecretName, ...] | None = None

    @model_validator(mode="after")
    def _one_way_to_name_secrets(self) -> Self:
        if (self.secret is None) == (self.secrets is None):
            raise refused("needs `secret: NAME`, or `secrets: [NAME, …]` while rotating, and not both")
        if self.secrets is not None and not 1 <= len(self.secrets) <= MAX_SECRETS_PER_KIND:
            raise refused_at([(("secrets",), f"needs 1 to {MAX_SECRETS_PER_KIND} names, not {len(self.secrets)}")])
        return self

    @property
    def secret_names(self) -> tuple[str, ...]:
        """See `AuthKind`; at least one."""
        return self.secrets or (self.secret or "",)


class BasicAuth(SecretAuth):
    """A user name and a password. Source: RFC 7617."""

    kind: ClassVar[str] = "basic"

    username: Annotated[str, Field(min_length=1, max_length=255)]

    @model_validator(mode="after")
    def _username_can_be_sent(self) -> Self:
        if ":" in self.username or not self.username.isprintable():
            raise refused_at([(("username",), "has no colon and no control characters (RFC 7617, section 2)")])
        return self


class ApiKeyAuth(SecretAuth):
    """A key in a header or in the query string."""

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [
                {"oneOf": _ONE_WAY_TO_NAME_SECRETS},
                {"oneOf": [{"required": ["header"]}, {"required": ["query"]}]},
            ]
        }
    )

    kind: ClassVar[str] = "api_key"

    header: HeaderName | None = None
    query: Annotated[str, Field(min_length=1, max_length=128)] | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.header is None) == (self.query is None):
            raise refused("needs `header: NAME` or `query: NAME`, and not both")
        return self


FieldPath = Annotated[str, Field(pattern=r"^[^.{}\s]{1,128}(\.[^.{}\s]{1,128}){0,7}$")]
"""Names joined by dots, into a JSON body."""

PairName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")]


class _Place(Model):
    """Where a value stands: exactly one of these.

    Attributes:
        header: name of a header.
        field: of the JSON body.
        pair: key beside the signature, where `layout` is `pairs`.
    """

    header: HeaderName | None = None
    field: FieldPath | None = None
    pair: PairName | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(value is not None for value in (self.header, self.field, self.pair)) != 1:
            raise refused("needs one of `header: NAME`, `field: PATH` and `pair: KEY`")
        return self

    @property
    def place(self) -> tuple[str, str]:
        """Its kind, and its name."""
        for kind in ("header", "field"):
            if (name := getattr(self, kind)) is not None:
                return kind, name
        return "pair", self.pair or ""


class TimestampSource(_Place):
    """Where a sender says when it signed.

    Attributes:
        unit: seconds or milliseconds since 1970, or a date and time as in RFC 3339.
        tolerance: how far it may be from our clock, either way, in seconds; in (0, 7 days].
    """

    unit: Literal["s", "ms", "rfc3339"] = "s"
    tolerance: Annotated[Duration, Field(le=MAX_TOLERANCE_SECONDS)] = 300.0


class IdSource(Model):
    """Where a sender names the delivery: in a header, or in a field of the JSON body."""

    header: HeaderName | None = None
    field: FieldPath | None = None

    @model_validator(mode="after")
    def _at_most_one(self) -> Self:
        if self.header is not None and self.field is not None:
            raise refused("needs `header: NAME` or `field: PATH`, and not both")
        return self

    @property
    def place(self) -> tuple[str, str]:
        """Its kind, and its name; `webhook-id`, as Standard Webhooks has it, when nothing is said."""
        return ("field", self.field) if self.field is not None else ("header", self.header or "webhook-id")


_PLACES: Final = ("header", "numbered_header", "query", "field")


class SpelledOut(AuthKind):
    """A signature that is spelled out: where it stands, how it is written, what it covers.

    Attributes:
        header: where the signature stands.
        numbered_header: what precedes the number in the names of headers with signatures, any of which may match.
        query: name of the query parameter where the signature stands.
        field: of the JSON body where the signature stands.
        layout: of that place: one signature, several separated by spaces or commas, or comma-separated pairs
            `key=value`.
        prefix: what precedes a signature there, exactly; with `pairs`, the key that it stands under.
        encoding: of the signature; hex in either case, base64 with or without padding.
        content: what is signed; see `parse_content`. `{timestamp}` and `{id}` are the values as sent.
        id: what names the delivery, for `{id}` and to recognise repeated deliveries. `{id}` without it reads
            `webhook-id`, the name that Standard Webhooks gave it.
    """

    header: HeaderName | None = None
    numbered_header: HeaderName | None = None
    query: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    field: FieldPath | None = None
    layout: Literal["whole", "spaces", "commas", "pairs"] = "whole"
    prefix: Annotated[str, Field(max_length=64), AfterValidator(_visible)] = ""
    encoding: Literal["hex", "base64", "base64url"] = "hex"
    content: Annotated[str, Field(max_length=1024)] = "{body}"
    timestamp: TimestampSource | None = None
    id: IdSource | None = None

    @model_validator(mode="after")
    def _content_is_sound(self) -> Self:
        problems = list(self._problems())
        if problems:
            raise refused_at(problems)
        return self

    def _problems(self) -> Iterable[tuple[tuple[int | str, ...], str]]:
        if sum(getattr(self, place) is not None for place in _PLACES) != 1:
            yield (), f"needs one of {', '.join(_PLACES)}: where the signature stands"
        try:
            parts = self.parts
        except ValueError as error:
            yield ("content",), str(error)
            return
        sources = {part.source for part in parts}
        if "timestamp" in sources and self.timestamp is None:
            yield ("content",), "{timestamp} needs `timestamp: {header: NAME}` beside it"
        if self.header is not None and ContentPart("header", self.header.lower()) in parts:
            yield ("content",), "a signature can't cover the header that carries it"
        if not sources & {"body", "body_crc32", "form", "url", "decoded_url", "field"}:
            yield ("content",), "must cover {body}, or {url} for methods without a body"
        if self.layout == "pairs" and not self.prefix:
            yield ("prefix",), "`layout: pairs` needs the key that signatures stand under"
        if self.timestamp is not None:
            kind, name = self.timestamp.place
            if kind == "pair" and self.layout != "pairs":
                yield ("timestamp", "pair"), "needs `layout: pairs`"
            covered = "timestamp" in sources or ContentPart(kind, name.lower() if kind == "header" else name) in parts
            if not covered and not (kind == "field" and "body" in sources):
                yield ("timestamp",), "is not covered by `content`, so anyone could renew it: add {timestamp} there"

    @property
    def parts(self) -> tuple[ContentPart, ...]:
        """The pieces of the signed content."""
        return parse_content(self.content)

    @property
    def covers_body(self) -> bool:
        """Whether anything of the body is signed; a request that has one is refused otherwise."""
        return any(part.is_of_body for part in self.parts)

    @property
    def place(self) -> tuple[str, str]:
        """Kind and name of where the signature stands."""
        kind = next(place for place in _PLACES if getattr(self, place) is not None)
        return ("numbered" if kind == "numbered_header" else kind), getattr(self, kind)

    @property
    def id_place(self) -> tuple[str, str] | None:
        """Kind and name of what names the delivery, or None."""
        if self.id is not None:
            return self.id.place
        return IdSource().place if ContentPart("id") in self.parts else None

    @property
    def names_deliveries(self) -> bool:
        """Whether there is a place for it."""
        return self.id_place is not None


class KeyReading(Model):
    """How the key is made of the secret: the text after `prefix`, if it has that, read as `encoding` says."""

    encoding: Literal["utf8", "hex", "base64"] = "utf8"
    prefix: Annotated[str, Field(max_length=64), AfterValidator(_visible)] = ""


class HmacAuth(SpelledOut, SecretAuth):
    """A signature by HMAC, spelled out; see `SpelledOut`."""

    kind: ClassVar[str] = "hmac"

    algorithm: Literal["sha1", "sha256", "sha384", "sha512"] = "sha256"
    key: KeyReading = KeyReading()


class PublicKeyAuth(SpelledOut):
    """A signature by a private key, spelled out; see `SpelledOut`.

    Attributes:
        algorithm: `rsa` is PKCS #1 v1.5; with both `ecdsa` and `rsa` the hash is `hash`.
        key: public key: PEM, or its DER (SubjectPublicKeyInfo) in base64 or hex; of Ed25519 also the bare 32 bytes.
        keys: several of them, while rotating.
    """

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["key"]}, {"required": ["keys"]}]})

    kind: ClassVar[str] = "public_key"

    algorithm: Literal["ed25519", "ecdsa", "rsa"]
    hash: Literal["sha1", "sha256", "sha384", "sha512"] = "sha256"
    key: PublicKeyText | None = None
    keys: Annotated[tuple[PublicKeyText, ...], Field(min_length=1, max_length=MAX_SECRETS_PER_KIND)] | None = None

    @model_validator(mode="after")
    def _one_way_to_give_keys(self) -> Self:
        if (self.key is None) == (self.keys is None):
            raise refused("needs `key: PUBLIC KEY`, or `keys: [PUBLIC KEY, …]` while rotating, and not both")
        return self

    @property
    def public_values(self) -> tuple[tuple[str, bytes], ...]:
        """See `AuthKind`."""
        if self.key is not None:
            return (("key", self.key.encode()),)
        return tuple((f"keys[{index}]", key.encode()) for index, key in enumerate(self.keys or ()))


class ProviderAuth(SecretAuth):
    """A provider by its name. How each one signs stands in `flowhook.signatures.providers`."""

    @property
    def names_deliveries(self) -> bool:
        """All providers do, so far."""
        return True


class GithubAuth(ProviderAuth):
    """Source: https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries."""

    kind: ClassVar[str] = "github"


class StripeAuth(ProviderAuth):
    """Source: https://docs.stripe.com/webhooks#verify-manually."""

    kind: ClassVar[str] = "stripe"


class SlackAuth(ProviderAuth):
    """Source: https://docs.slack.dev/authentication/verifying-requests-from-slack."""

    kind: ClassVar[str] = "slack"


class ShopifyAuth(ProviderAuth):
    """Source: https://shopify.dev/docs/apps/build/webhooks/verify-deliveries."""

    kind: ClassVar[str] = "shopify"


class StandardWebhooksAuth(ProviderAuth):
    """Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md."""

    kind: ClassVar[str] = "standard-webhooks"


_CLASSES: Final[tuple[type[AuthKind], ...]] = (
    BasicAuth,
    ApiKeyAuth,
    HmacAuth,
    PublicKeyAuth,
    GithubAuth,
    StripeAuth,
    SlackAuth,
    ShopifyAuth,
    StandardWebhooksAuth,
)
KINDS: Final[Mapping[str, type[AuthKind]]] = {model.kind: model for model in _CLASSES}
"""Every kind by its name in flow files."""

# A dictionary with one entry rather than the model itself, so that errors carry the kind's name in their place.
_ADAPTERS: Final[Mapping[str, TypeAdapter[dict[str, Any]]]] = {
    name: TypeAdapter(dict[str, model])  # type: ignore[valid-type]
    for name, model in KINDS.items()
}


def _parse_kind(value: object) -> AuthKind:
    if value == "none":
        raise refused("`none` beside other kinds would let everybody in: use it alone, or not at all")
    if not isinstance(value, Mapping) or len(value) != 1:
        raise refused("a kind of `auth` is a mapping with one key, its name: {github: {secret: NAME}}")
    (name,) = value
    adapter = _ADAPTERS.get(name)
    if adapter is not None:
        kind: AuthKind = adapter.validate_python(value)[name]
        return kind
    if name in NOT_YET:
        raise refused_at([((str(name),), f"provider {name} is not supported yet")])
    guesses = difflib.get_close_matches(str(name), [*KINDS, *sorted(NOT_YET)], n=1)
    hint = f"did you mean {guesses[0]}?" if guesses else f"there are none, {', '.join(KINDS)}"
    raise refused_at([((str(name),), f"unknown kind of `auth`: {hint}")])


_KIND: Final = TypeAdapter(Annotated[AuthKind, PlainValidator(_parse_kind)])
_LIST: Final = TypeAdapter(list[Annotated[AuthKind, PlainValidator(_parse_kind)]])


def parse_auth(value: object) -> tuple[AuthKind, ...]:
    """Return the kinds of `auth`, any one of which will do; empty for `none`.

    Raises:
        ValidationError: with each problem's place relative to `auth`.
        PydanticCustomError: `auth` as a whole is none of the three forms.
    """
    if value == "none":
        return ()
    if isinstance(value, Mapping):
        return (_KIND.validate_python(value),)
    if isinstance(value, list):
        if not 1 <= len(value) <= MAX_KINDS:
            raise refused(f"needs 1 to {MAX_KINDS} kinds, not {len(value)}; `auth: none` asks for no credentials")
        return tuple(_LIST.validate_python(value))
    if value is None:
        raise refused("is missing: say who may call, or `auth: none` for everyone")
    if isinstance(value, str) and value in (*KINDS, *NOT_YET):
        raise refused(f"{value} needs a secret: {{{value}: {{secret: NAME}}}}")
    raise refused("must be `none`, one kind such as {github: {secret: NAME}}, or a list of kinds")


class _OneOf(Model):
    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})


class _AuthSchema:
    """Shows editors the three forms of `auth`, and the kinds there are."""

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        fields: dict[str, Any] = {
            name.replace("-", "_"): (model | None, Field(None, alias=name)) for name, model in KINDS.items()
        }
        kind = create_model("AuthByKind", __base__=_OneOf, **fields)
        some = Annotated[list[kind], Field(min_length=1, max_length=MAX_KINDS)]  # type: ignore[valid-type]
        forms: Any = Literal["none"] | kind | some
        return handler(TypeAdapter(forms).core_schema)


Auth = Annotated[tuple[AuthKind, ...], PlainValidator(parse_auth), _AuthSchema()]
