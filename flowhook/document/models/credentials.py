"""Kinds of `auth` that present a credential: a password, an API key, a token, a certificate, a one-time URL."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, ClassVar, Final, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, JsonValue, WithJsonSchema
from pydantic_core import PydanticKnownError
from typing_extensions import override

from flowhook import limits
from flowhook.document.diagnostics.problems import Code, LocatedCause, refused_as, validation_error
from flowhook.document.models import base
from flowhook.document.models.base import Model, accept, exactly_one, model_check
from flowhook.document.quantities import parse_duration
from flowhook.providers import Handshake
from flowhook.providers.scheme import TOKEN

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
Duration = Annotated[float, BeforeValidator(positive_duration), base.DURATION]


ONE_WAY_TO_NAME_SECRETS: Final[JsonValue] = [{"required": ["secret"]}, {"required": ["secrets"]}]


class AuthKind(Model):
    """Base class of all kinds of credentials."""

    model_config = ConfigDict(defer_build=True)  # there are dozens of kinds, and a process uses a few of them

    kind: ClassVar[str]

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
    secrets: tuple[SecretName, ...] | None = None

    _one_way_to_name_secrets = exactly_one(
        "secret", "secrets", cause="needs `secret: NAME`, or `secrets: [NAME, …]` while rotating, and not both"
    )

    @model_check
    def _few_secrets(self) -> Iterator[LocatedCause]:
        if self.secrets is not None and not 1 <= len(self.secrets) <= MAX_SECRETS_PER_KIND:
            cause = f"needs 1 to {MAX_SECRETS_PER_KIND} names, not {len(self.secrets)}"
            yield ("secrets",), Code.VALUE_RANGE, cause

    @override
    @property
    def secret_names(self) -> tuple[str, ...]:
        return self.secrets or (self.secret or "",)


_KEY_LOCATIONS: Final = ("header", "query", "field")


class BasicAuth(SecretAuth):
    """A user name and a password. Source: RFC 7617."""

    kind: ClassVar[str] = "basic"

    username: Annotated[str, Field(min_length=1, max_length=255)]

    @model_check
    def _username_can_be_sent(self) -> Iterator[LocatedCause]:
        if ":" in self.username or not self.username.isprintable():
            cause = "must not contain colons or control characters (RFC 7617, section 2)"
            yield ("username",), Code.VALUE_FORMAT, cause

    @property
    def names_deliveries(self) -> bool:
        return True  # by `Idempotency-Key`


class ApiKeyAuth(SecretAuth):
    """A key in a header, in the query string, or in a field of the JSON body."""

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [
                {"oneOf": ONE_WAY_TO_NAME_SECRETS},
                {"oneOf": [{"required": [location]} for location in _KEY_LOCATIONS]},
            ]
        }
    )

    kind: ClassVar[str] = "api_key"

    header: HeaderName | None = None
    query: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    field: FieldPath | None = None

    _one_location = exactly_one(*_KEY_LOCATIONS, cause="needs one of `header: NAME`, `query: NAME` and `field: PATH`")

    @property
    def names_deliveries(self) -> bool:
        return True  # by `Idempotency-Key`


class MtlsAuth(AuthKind):
    """A certificate of the sender's own, which the edge's TLS verified against `tls_client_ca_file`."""

    kind: ClassVar[str] = "mtls"

    names: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=255)], ...], Field(min_length=1, max_length=100)
    ]
    """Accepted names, of which the certificate must have one: common name, DNS name, URI or email address."""


class OneTimeUrlAuth(AuthKind):
    """Only one-time URLs: for callbacks, which then have no other URL. It names no secret."""

    kind: ClassVar[str] = "one_time_url"


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


class JwtAuth(AuthKind):
    """A token that an issuer signed. Source: RFC 7519."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [name]} for name in _KEYS]})

    kind: ClassVar[str] = "jwt"

    jwks: KeySetUrl | None = None
    """URL of the issuer's public keys; the token names one of them."""
    public_key: PublicKeyText | None = None
    """The issuer's, as PEM."""
    secret: SecretName | None = None
    """Shared with the issuer, at least 32 bytes; signs with HS256 unless `algorithms` says otherwise."""
    secrets: Annotated[tuple[SecretName, ...], Field(min_length=1, max_length=MAX_SECRETS_PER_KIND)] | None = None
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
        return () if self.public_key is None else (("public_key", self.public_key.encode()),)

    @property
    def audiences(self) -> tuple[str, ...]:
        """Accepted audiences of the token; empty: it must name no audience."""
        return (self.audience,) if isinstance(self.audience, str) else self.audience or ()
