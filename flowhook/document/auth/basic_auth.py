"""Models of credentials that senders present as they are: a password, an API key, a certificate, a one-time URL."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Self

from pydantic import ConfigDict, Field, model_validator

from flowhook.document.auth.base import (
    ONE_WAY_TO_NAME_SECRETS,
    AuthKind,
    FieldPath,
    HeaderName,
    SecretAuth,
)
from flowhook.document.codes import Code
from flowhook.document.validation import validation_error, validation_error_at

MAX_NAMES: Final = 100
"""Maximum number of names in one `mtls`."""


_KEY_LOCATIONS: Final = ("header", "query", "field")


class BasicAuth(SecretAuth):
    """A user name and a password. Source: RFC 7617."""

    kind: ClassVar[str] = "basic"

    username: Annotated[str, Field(min_length=1, max_length=255)]

    @model_validator(mode="after")
    def _username_can_be_sent(self) -> Self:
        if ":" in self.username or not self.username.isprintable():
            cause = "must not contain colons or control characters (RFC 7617, section 2)"
            raise validation_error_at((("username",), Code.VALUE_FORMAT, cause))
        return self


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

    @model_validator(mode="after")
    def _one_location(self) -> Self:
        if sum(getattr(self, location) is not None for location in _KEY_LOCATIONS) != 1:
            raise validation_error(Code.KEY_CONFLICT, "needs one of `header: NAME`, `query: NAME` and `field: PATH`")
        return self


class MtlsAuth(AuthKind):
    """A certificate of the sender's own, which the edge's TLS verified against `tls_client_ca_file`.

    Attributes:
        names: accepted names, of which the certificate must have one: common name, DNS name, URI or email address.
    """

    kind: ClassVar[str] = "mtls"

    names: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=255)], ...], Field(min_length=1, max_length=MAX_NAMES)
    ]


class OneTimeUrlAuth(AuthKind):
    """Only one-time URLs: for callbacks, which then have no other URL. It names no secret."""

    kind: ClassVar[str] = "one_time_url"
