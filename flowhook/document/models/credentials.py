"""Kinds of `auth` that belong to no provider: credentials that are presented, and custom signatures.

The former are a password, an API key, a token, a certificate or a one-time URL. The latter are spelled out in a flow
file, so that a new provider needs no code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, JsonValue, WithJsonSchema
from pydantic_core import PydanticKnownError
from typing_extensions import override

from flowhook import limits
from flowhook.document.diagnostics.problems import Code, LocatedCause, refused_as, validation_error
from flowhook.document.models import base
from flowhook.document.models.base import Model, accept, at_most_one, exactly_one, model_check
from flowhook.document.quantities import parse_duration
from flowhook.providers import Handshake
from flowhook.providers.scheme import TOKEN, ContentPart, parse_content

MAX_SECRETS_PER_KIND: Final = 8  # secrets one kind may name: each costs a hash of the body when none of them matches

MAX_TOLERANCE_SECONDS: Final = 7 * 24 * 3600.0

FIELD_PATH: Final = r"^[^.{}\s]{1,128}(\.[^.{}\s]{1,128}){0,7}$"
_FIELD_PATH: Final = re.compile(FIELD_PATH)


def positive_duration(value: object) -> float:
    with refused_as(Code.DURATION_INVALID):
        seconds = parse_duration(value)
    if seconds <= 0:
        raise validation_error(Code.VALUE_RANGE, "must be longer than zero")
    return seconds


def _header_name(value: str) -> str:
    if not TOKEN.fullmatch(value):
        cause = f"{value!r} is not a valid header name: use letters, digits and hyphens, at most 128"
        raise validation_error(Code.HEADER_INVALID, cause)
    return value


def _field_path(value: str) -> str:
    # not `Field(pattern=…)`: pydantic's regex engine unrolls the repetitions, to 4 MiB in each process with the model
    if not _FIELD_PATH.fullmatch(value):
        raise PydanticKnownError("string_pattern_mismatch", {"pattern": FIELD_PATH})
    return value


printable_ascii: Final = accept(
    lambda value: value.isascii() and value.isprintable(),
    Code.HEADER_INVALID,
    "must be printable ASCII: headers transmit nothing else unchanged",
)


HeaderName = Annotated[str, AfterValidator(_header_name)]
"""The name of a header field as the author spelled it; compare it in lower case."""

FieldPath = Annotated[str, AfterValidator(_field_path), WithJsonSchema({"type": "string", "pattern": FIELD_PATH})]
"""Path into a JSON body: names joined by dots."""

PublicKeyText = Annotated[str, Field(min_length=32, max_length=8192)]
SecretName = Annotated[str, Field(pattern=rf"^[A-Za-z0-9._-]{{1,{limits.MAX_SECRET_NAME_LENGTH}}}$")]
SecretNames = Annotated[tuple[SecretName, ...], Field(min_length=1, max_length=MAX_SECRETS_PER_KIND)]
Duration = Annotated[float, BeforeValidator(positive_duration), base.DURATION]


ONE_WAY_TO_NAME_SECRETS: Final[JsonValue] = [{"required": ["secret"]}, {"required": ["secrets"]}]


def named_keys(name: str, one: str | None, several: Iterable[str] | None) -> tuple[tuple[str, bytes], ...]:
    """Return the public keys of a kind that has a key `name` for one, or one for several, each by its place."""
    if one is not None:
        return ((name, one.encode()),)
    return tuple((f"{name}s[{index}]", key.encode()) for index, key in enumerate(several or ()))


class AuthKind(Model):
    """Base class of all kinds of credentials."""

    model_config = ConfigDict(defer_build=True)  # there are dozens of kinds, and a process uses a few of them

    kind: ClassVar[str]  # its name in flow files; given as an argument of its class, base classes have none

    def __init_subclass__(cls, *, kind: str | None = None, **options: Any) -> None:
        super().__init_subclass__(**options)
        if kind is not None:
            cls.kind = kind

    @property
    def secret_names(self) -> tuple[str, ...]:
        """Names of the secrets that a request may match, in the order they are tried."""
        return ()

    @property
    def other_secret_names(self) -> tuple[str, ...]:
        """Names of further secrets, which no request is matched against: for handshakes, for fetching keys."""
        return ()

    @property
    def public_values(self) -> tuple[tuple[str, bytes], ...]:
        """Public keys in the flow file, each as its name and its value."""
        return ()

    @property
    def handshake(self) -> Handshake | None:
        """Method by which senders of this kind validate a URL; None: they don't."""
        return None

    @property
    def names_deliveries(self) -> bool:
        """Whether senders give each delivery an ID, so that repeated ones are recognised without a `dedupe.key`."""
        return False


class SecretAuth(AuthKind):
    """A kind that has secrets, newest first while rotating."""

    model_config = ConfigDict(json_schema_extra={"oneOf": ONE_WAY_TO_NAME_SECRETS})

    secret: SecretName | None = None
    secrets: SecretNames | None = None

    _one_way_to_name_secrets = exactly_one(
        "secret", "secrets", cause="needs `secret: NAME`, or `secrets: [NAME, …]` while rotating, and not both"
    )

    @override
    @property
    def secret_names(self) -> tuple[str, ...]:
        return self.secrets or (self.secret or "",)


_KEY_LOCATIONS: Final = ("header", "query", "field")


_can_be_sent: Final = accept(
    lambda name: ":" not in name and name.isprintable(),
    Code.VALUE_FORMAT,
    "must not contain colons or control characters (RFC 7617, section 2)",
)


class BasicAuth(SecretAuth, kind="basic"):
    """A user name and a password. Source: RFC 7617."""

    username: Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_can_be_sent)]

    @property
    def names_deliveries(self) -> bool:
        return True  # by `Idempotency-Key`


class ApiKeyAuth(SecretAuth, kind="api_key"):
    """A key in a header, in the query string, or in a field of the JSON body."""

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [
                {"oneOf": ONE_WAY_TO_NAME_SECRETS},
                {"oneOf": [{"required": [location]} for location in _KEY_LOCATIONS]},
            ]
        }
    )

    header: HeaderName | None = None
    query: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    field: FieldPath | None = None

    _one_location = exactly_one(*_KEY_LOCATIONS, cause="needs one of `header: NAME`, `query: NAME` and `field: PATH`")

    @property
    def names_deliveries(self) -> bool:
        return True  # by `Idempotency-Key`


class MtlsAuth(AuthKind, kind="mtls"):
    """A certificate of the sender's own, which the edge's TLS verified against `tls_client_ca_file`."""

    names: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=255)], ...], Field(min_length=1, max_length=100)
    ]
    """Accepted names, of which the certificate must have one: common name, DNS name, URI or email address."""


class OneTimeUrlAuth(AuthKind, kind="one_time_url"):
    """Only one-time URLs: for callbacks, which then have no other URL. It names no secret."""


KeySetUrl = Annotated[
    str,
    Field(
        pattern=r"^(https://[^\s/?#@\\]+|http://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?)([/?][^\s#\\]*)?$",
        max_length=2048,
    ),
]
"""https, or http to a loopback address, which only an edge accepts that may reach private addresses."""

SharedAlgorithm = Literal["HS256", "HS384", "HS512"]
PublicAlgorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"
]
_SHARED: Final = frozenset({"HS256", "HS384", "HS512"})
_KEYS: Final = ("jwks", "public_key", "secret", "secrets")


class JwtAuth(AuthKind, kind="jwt"):
    """A token that an issuer signed. Source: RFC 7519."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [name]} for name in _KEYS]})

    jwks: KeySetUrl | None = None
    """URL of the issuer's public keys; the token names one of them."""
    public_key: PublicKeyText | None = None
    """The issuer's, as PEM."""
    secret: SecretName | None = None
    """Shared with the issuer, at least 32 bytes; signs with HS256 unless `algorithms` says otherwise."""
    secrets: SecretNames | None = None
    """Several of them, while rotating."""
    audience: str | Annotated[tuple[str, ...], Field(min_length=1, max_length=16)] | None = None
    """Accepted audiences of the token."""
    issuer: Annotated[str, Field(min_length=1, max_length=2048)] | None = None
    """Required issuer of the token."""
    algorithms: Annotated[tuple[SharedAlgorithm | PublicAlgorithm, ...], Field(min_length=1)] | None = None
    """Allowed algorithms, of those that the key supports."""
    header: HeaderName = "Authorization"
    """Header with the token; in `Authorization` it follows `Bearer`."""
    leeway: Annotated[Duration, Field(le=MAX_TOLERANCE_SECONDS)] = 60.0
    """Maximum difference between the issuer's clock and the local one, in seconds; at most 7 days."""

    _one_key = exactly_one(
        *_KEYS, cause="needs one of `jwks: URL`, `public_key: PEM`, `secret: NAME` and `secrets: [NAME, …]`"
    )

    @model_check
    def _sound(self) -> Iterator[LocatedCause]:
        other = [name for name in self.algorithms or () if (name in _SHARED) != bool(self.secret_names)]
        if self.jwks is not None and (self.audience is None or self.issuer is None):
            cause = "`jwks` needs `audience` and `issuer`: the issuer's keys sign tokens for other services, too"
            yield (), Code.KEY_MISSING, cause
        elif other:
            yield ("algorithms",), Code.VALUE_CHOICE, f"{', '.join(other)} can't be used with this kind of key"

    @override
    @property
    def secret_names(self) -> tuple[str, ...]:
        return self.secrets or ((self.secret,) if self.secret else ())

    @override
    @property
    def public_values(self) -> tuple[tuple[str, bytes], ...]:
        return named_keys("public_key", self.public_key, None)

    @property
    def audiences(self) -> tuple[str, ...]:
        """Accepted audiences of the token; empty: it must name no audience."""
        return (self.audience,) if isinstance(self.audience, str) else self.audience or ()


PairName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")]


class _ValueSource(Model):
    """Location of a value: exactly one of these."""

    header: HeaderName | None = None
    """Name of a header."""
    field: FieldPath | None = None
    """Of the JSON body."""
    pair: PairName | None = None
    """Key beside the signature, where `layout` is `pairs`."""

    _one = exactly_one("header", "field", "pair", cause="needs one of `header: NAME`, `field: PATH` and `pair: KEY`")

    @property
    def location(self) -> tuple[str, str]:
        return next((kind, name) for kind in ("header", "field", "pair") if (name := getattr(self, kind)) is not None)


class TimestampSource(_ValueSource):
    """Location of the time at which a sender signed."""

    unit: Literal["s", "ms", "rfc3339"] = "s"
    """Seconds or milliseconds since 1970, or a date and time as in RFC 3339."""
    tolerance: Annotated[Duration, Field(le=MAX_TOLERANCE_SECONDS)] = 300.0
    """Maximum difference from the local clock, either way, in seconds; in (0, 7 days]."""


class IdSource(Model):
    """Location of the delivery ID: a header, or a field of the JSON body."""

    header: HeaderName | None = None
    field: FieldPath | None = None

    _at_most_one = at_most_one("header", "field", cause="needs `header: NAME` or `field: PATH`, and not both")

    @property
    def location(self) -> tuple[str, str]:
        """Kind and name of the location; by default the header `webhook-id`, as in Standard Webhooks."""
        return ("field", self.field) if self.field is not None else ("header", self.header or "webhook-id")


_PLACES: Final = ("header", "numbered_header", "query", "field")


class CustomSignature(AuthKind):
    """A custom signature: its location, its encoding and its content."""

    header: HeaderName | None = None
    """Header with the signature."""
    numbered_header: HeaderName | None = None
    """Part before the number in the names of headers with signatures, any of which may match."""
    query: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """Query parameter with the signature."""
    field: FieldPath | None = None
    """Field of the JSON body with the signature."""
    layout: Literal["whole", "spaces", "commas", "pairs"] = "whole"
    """Format of that value: one signature, several separated by spaces or commas, or pairs `key=value`."""
    separator: Literal[",", ";", "&", "|", " "] | None = None
    """Character between the pairs; None: a comma."""
    prefix: Annotated[str, Field(max_length=64), AfterValidator(printable_ascii)] = ""
    """Exact text before a signature there; with `pairs`, the key of the signatures."""
    encoding: Literal["hex", "base64", "base64url"] = "hex"
    """Encoding of the signature; hex in either case, base64 with or without padding."""
    content: Annotated[str, Field(max_length=1024)] = "{body}"
    """Template of the signed content; see `parse_content`. `{timestamp}` and `{id}` are the values as sent."""
    timestamp: TimestampSource | None = None
    id: IdSource | None = None
    """Location of the delivery ID, for `{id}` and to recognise repeated deliveries. `{id}` without it reads
    `webhook-id`, the header of Standard Webhooks."""

    @model_check
    def _content_is_sound(self) -> Iterator[LocatedCause]:
        if sum(getattr(self, location) is not None for location in _PLACES) != 1:
            yield (), Code.KEY_CONFLICT, f"needs one of {', '.join(_PLACES)}: the location of the signature"
        try:
            parts = self.parts
        except ValueError as error:
            yield ("content",), Code.VALUE_FORMAT, str(error)
            return
        sources = {part.source for part in parts}
        if "timestamp" in sources and self.timestamp is None:
            yield ("content",), Code.KEY_MISSING, "{timestamp} needs `timestamp: {header: NAME}` beside it"
        if self.header is not None and ContentPart("header", self.header.lower()) in parts:
            yield ("content",), Code.SIGNATURE_UNSAFE, "a signature can't cover the header that carries it"
        if not sources & {"body", "body_crc32", "form", "url", "decoded_url", "field"}:
            yield ("content",), Code.SIGNATURE_UNSAFE, "must cover {body}, or {url} for methods without a body"
        yield from self._problems_of_layout()
        if self.timestamp is not None:
            kind, name = self.timestamp.location
            covered = "timestamp" in sources or ContentPart(kind, name.lower() if kind == "header" else name) in parts
            if not covered and not (kind == "field" and "body" in sources):
                cause = "is not covered by `content`, so anyone could renew it: add {timestamp} there"
                yield ("timestamp",), Code.SIGNATURE_UNSAFE, cause

    def _problems_of_layout(self) -> Iterator[LocatedCause]:
        if self.layout == "pairs":
            if not self.prefix:
                yield ("prefix",), Code.KEY_MISSING, "`layout: pairs` needs the key of the signatures as `prefix`"
            return
        if self.separator is not None:
            yield ("separator",), Code.KEY_CONFLICT, "needs `layout: pairs`"
        if self.timestamp is not None and self.timestamp.pair is not None:
            yield ("timestamp", "pair"), Code.KEY_CONFLICT, "needs `layout: pairs`"

    @property
    def parts(self) -> tuple[ContentPart, ...]:
        return parse_content(self.content)

    @property
    def covers_body(self) -> bool:
        """Whether any part of the body is signed; if not, a request with a body is refused."""
        return any(part.is_of_body for part in self.parts)

    @property
    def location(self) -> tuple[str, str]:
        kind = next(location for location in _PLACES if getattr(self, location) is not None)
        return ("numbered" if kind == "numbered_header" else kind), getattr(self, kind)

    @property
    def id_location(self) -> tuple[str, str] | None:
        if self.id is not None:
            return self.id.location
        return IdSource().location if ContentPart("id") in self.parts else None

    @override
    @property
    def names_deliveries(self) -> bool:
        return self.id_location is not None


class KeyReading(Model):
    """Derivation of the key from the secret: the text after `prefix`, if it is present, decoded by `encoding`."""

    encoding: Literal["utf8", "hex", "base64"] = "utf8"
    prefix: Annotated[str, Field(max_length=64), AfterValidator(printable_ascii)] = ""


class HmacAuth(CustomSignature, SecretAuth, kind="hmac"):
    """A custom signature by HMAC; see `CustomSignature`."""

    algorithm: Literal["sha1", "sha256", "sha384", "sha512"] = "sha256"
    key: KeyReading = KeyReading()


class PublicKeyAuth(CustomSignature, kind="public_key"):
    """A custom signature by a private key; see `CustomSignature`."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["key"]}, {"required": ["keys"]}]})

    algorithm: Literal["ed25519", "ecdsa", "rsa"]
    """`rsa` is PKCS #1 v1.5; with both `ecdsa` and `rsa` the hash is `hash`."""
    hash: Literal["sha1", "sha256", "sha384", "sha512"] = "sha256"
    key: PublicKeyText | None = None
    """Public key: PEM, or its DER (SubjectPublicKeyInfo) in base64 or hex; of Ed25519 also the bare 32 bytes."""
    keys: Annotated[tuple[PublicKeyText, ...], Field(min_length=1, max_length=MAX_SECRETS_PER_KIND)] | None = None
    """Several of them, while rotating."""

    _one_way_to_give_keys = exactly_one(
        "key", "keys", cause="needs `key: PUBLIC KEY`, or `keys: [PUBLIC KEY, …]` while rotating, and not both"
    )

    @override
    @property
    def public_values(self) -> tuple[tuple[str, bytes], ...]:
        return named_keys("key", self.key, self.keys)


OWN_KINDS: Final[Mapping[str, type[AuthKind]]] = {
    kind.kind: kind for kind in (BasicAuth, ApiKeyAuth, JwtAuth, MtlsAuth, HmacAuth, PublicKeyAuth)
}
"""The kinds that belong to no provider, by name; without the one that only callbacks have."""
