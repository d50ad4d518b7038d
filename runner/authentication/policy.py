"""Models of authentication policies with their credentials, as components receive them.

Source: dsl-reference.md, "Authentication"; schema/workflow.yaml, `authenticationPolicy`.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from flowhook.document.oauth2 import (
    MAX_ITEMS,
    ClientAuthentication,
    GrantType,
    RequestEncoding,
    check_client,
    check_grant,
)

Secret = Annotated[str, Field(repr=False)]
SecretIfAny = Annotated[str | None, Field(repr=False)]
Items = Annotated[list[str], Field(default_factory=list, max_length=MAX_ITEMS)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Basic(_Model):
    """`basic`. Source: RFC 7617."""

    username: str
    password: Secret


class Bearer(_Model):
    """`bearer`. Source: RFC 6750."""

    token: Secret


class Digest(_Model):
    """`digest`. Source: RFC 7616."""

    username: str
    password: Secret


class Client(_Model):
    """`client`: who asks for a token. Source: RFC 6749, section 2.3; OpenID Connect Core 1.0, section 9."""

    id: str | None = None
    secret: SecretIfAny = None
    assertion: SecretIfAny = None
    authentication: ClientAuthentication = "client_secret_post"

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        check_client(self, self.authentication)
        return self


class Request(_Model):
    """`request`: how a token is asked for."""

    encoding: RequestEncoding = "application/x-www-form-urlencoded"


class SecurityToken(_Model):
    """`subject` and `actor`. Source: RFC 8693, section 2.1."""

    token: Secret
    type: str


class Endpoints(_Model):
    """`endpoints`; of these, tokens alone are asked for."""

    token: str = "/oauth2/token"  # noqa: S105 - a path
    revocation: str = "/oauth2/revoke"
    introspection: str = "/oauth2/introspect"


class Grant(_Model):
    """What `oauth2` and `oidc` have in common."""

    authority: str
    grant: GrantType
    client: Client | None = None
    request: Request = Request()
    issuers: Items
    scopes: Items
    audiences: Items
    username: str | None = None
    password: SecretIfAny = None
    subject: SecurityToken | None = None
    actor: SecurityToken | None = None

    @model_validator(mode="after")
    def _can_be_asked_for(self) -> Self:
        check_grant(self, self.grant)
        return self


class OAuth2(Grant):
    """`oauth2`. Source: RFC 6749, RFC 8693."""

    endpoints: Endpoints = Endpoints()


class OpenIdConnect(Grant):
    """`oidc`: the token endpoint is found by discovery. Source: OpenID Connect Discovery 1.0."""


class Policy(_Model):
    """`authentication`: exactly one way."""

    basic: Basic | None = None
    bearer: Bearer | None = None
    digest: Digest | None = None
    oauth2: OAuth2 | None = None
    oidc: OpenIdConnect | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError(f"expected exactly one of {', '.join(type(self).model_fields)}")
        return self
