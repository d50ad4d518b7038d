"""Models of the authentication policies of calls, and their rules, which also hold for evaluated policies.

When a flow is applied, its policies may contain expressions; when it runs, they contain values. The required keys and
their valid combinations are the same.

Source: dsl-reference.md, "Authentication", "OAuth2 Authentication"; schema/workflow.yaml, `authenticationPolicy`;
RFC 6749, RFC 7523, RFC 8693; OpenID Connect Core 1.0, section 9.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final, Literal, TypeAlias, TypeVar

from pydantic import Discriminator, Field, Tag

from flowhook.document.diagnostics.problems import Code, LocatedCause
from flowhook.document.models.base import Model, OneKeyModel, Uri, model_check
from flowhook.document.models.credentials import SecretName

TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 - a name
MAX_ITEMS: Final = 64  # maximum number of scopes, of audiences and of issuers

GrantType: TypeAlias = Literal[
    "authorization_code",
    "client_credentials",
    "password",
    "refresh_token",
    "urn:ietf:params:oauth:grant-type:token-exchange",
]

ClientAuthentication: TypeAlias = Literal[
    "client_secret_basic", "client_secret_post", "client_secret_jwt", "private_key_jwt", "none"
]

RequestEncoding: TypeAlias = Literal["application/x-www-form-urlencoded", "application/json"]

_NEEDED: Final[dict[str, tuple[str, ...]]] = {
    "password": ("username", "password"),
    "refresh_token": ("subject",),
    TOKEN_EXCHANGE: ("subject",),
}
_GOES_WITH: Final[dict[str, tuple[str, ...]]] = {
    "subject": ("refresh_token", TOKEN_EXCHANGE),
    "actor": (TOKEN_EXCHANGE,),
}


def _given(model: Model) -> set[str]:
    return {key for key, value in model if value is not None}


_Text = Annotated[str, Field(min_length=1)]
_Credential = Annotated[str, Field(repr=False)]
_OptionalCredential = Annotated[str | None, Field(repr=False)]
_Texts = Annotated[tuple[_Text, ...], Field(max_length=MAX_ITEMS)]


class SecretReference(Model):
    """A secret of `use.secrets` that contains the rest of the policy: JSON with its keys, or a token as plain text."""

    use: SecretName


class BasicCredentials(Model):
    """A name and a password. Source: RFC 7617."""

    username: str
    password: _Credential


class DigestCredentials(Model):
    """A name and a password, of which only a digest is sent. Source: RFC 7616."""

    username: str
    password: _Credential


class BearerCredentials(Model):
    """A token. Source: RFC 6750."""

    token: _Credential


class OAuth2Client(Model):
    """The client that requests a token. Source: RFC 6749, section 2.3; OpenID Connect Core 1.0, section 9."""

    id: _Text | None = None
    secret: _OptionalCredential = None
    assertion: _OptionalCredential = None
    """A JWT that the client signed, for `private_key_jwt` and `client_secret_jwt`."""
    authentication: ClientAuthentication = "client_secret_post"

    @model_check
    def _is_complete(self) -> Iterator[LocatedCause]:
        given, method = _given(self), self.authentication
        needed: tuple[str, ...] = ("assertion",) if method == "private_key_jwt" else ("id", "secret")
        if method == "none" or (method == "client_secret_jwt" and "assertion" in given):
            needed = ()
        elif method == "client_secret_post":
            needed = ("id",)
        return (((key,), Code.KEY_MISSING, f"is required by `{method}`") for key in needed if key not in given)


class TokenRequestFormat(Model):
    """Format of the token request."""

    encoding: RequestEncoding = "application/x-www-form-urlencoded"


class SecurityToken(Model):
    """A token that represents a party. Source: RFC 8693, section 2.1."""

    token: _Credential
    type: _Text


class OAuth2Endpoints(Model):
    """Paths of the endpoints, relative to the authority. Only `token` is used."""

    token: _Text = "/oauth2/token"  # noqa: S105 - a path
    revocation: _Text = "/oauth2/revoke"
    introspection: _Text = "/oauth2/introspect"


class OAuth2AuthenticationData(Model):
    """Keys that `oauth2` and `oidc` policies share: the request for a token from an authority."""

    authority: Uri
    grant: GrantType
    client: OAuth2Client | None = None
    request: TokenRequestFormat = TokenRequestFormat()
    issuers: _Texts = ()
    """Accepted issuers of tokens; empty: any."""
    scopes: _Texts = ()
    audiences: _Texts = ()
    username: str | None = None
    password: _OptionalCredential = None
    subject: SecurityToken | None = None
    """The party on whose behalf a token is exchanged; for `refresh_token`, the refresh token."""
    actor: SecurityToken | None = None

    @model_check
    def _can_be_asked_for(self) -> Iterator[LocatedCause]:
        given, grant = _given(self), self.grant
        if grant == "authorization_code":
            yield ("grant",), Code.VALUE_CHOICE, "`authorization_code` needs a person at a browser: use another grant"
        for key in _NEEDED.get(grant, ()):
            if key not in given:
                yield (key,), Code.KEY_MISSING, f"is required by the grant `{grant}`"
        for key, grants in _GOES_WITH.items():
            if key in given and grant not in grants:
                listed = " or ".join(f"`{each}`" for each in grants)
                yield (key,), Code.KEY_CONFLICT, f"is allowed only with the grant {listed}"


class OAuth2AuthenticationPolicy(OAuth2AuthenticationData):
    """Token request by OAuth 2. Source: RFC 6749, RFC 8693."""

    endpoints: OAuth2Endpoints = OAuth2Endpoints()


class OpenIdConnectAuthenticationPolicy(OAuth2AuthenticationData):
    """Token request to an endpoint that is found by OpenID Connect Discovery."""


_Inline = TypeVar("_Inline")
_OrSecret: TypeAlias = Annotated[
    Annotated[SecretReference, Tag("<secret>")] | Annotated[_Inline, Tag("<inline>")],
    Discriminator(lambda value: "<secret>" if isinstance(value, dict) and "use" in value else "<inline>"),
]


class AuthenticationPolicy(OneKeyModel):
    """Exactly one way to authenticate."""

    basic: _OrSecret[BasicCredentials] | None = None
    bearer: _OrSecret[BearerCredentials] | None = None
    digest: _OrSecret[DigestCredentials] | None = None
    oauth2: _OrSecret[OAuth2AuthenticationPolicy] | None = None
    oidc: _OrSecret[OpenIdConnectAuthenticationPolicy] | None = None


class ReferenceableAuthenticationPolicy(AuthenticationPolicy):
    """A policy of the endpoint's own, or the name of one of `use.authentications`."""

    use: _Text | None = None
