"""Models of authentication policies with their credentials, as components receive them.

They are the models of `flowhook.document.models.authentication` after the interpreter has evaluated the expressions and
inserted the secrets: values of any text, no `use`.

Source: dsl-reference.md, "Authentication"; schema/workflow.yaml, `authenticationPolicy`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from flowhook.document.models import authentication
from flowhook.document.models.authentication import MAX_ITEMS, SecurityToken
from flowhook.document.models.authentication import BasicCredentials as Basic
from flowhook.document.models.authentication import BearerCredentials as Bearer
from flowhook.document.models.authentication import DigestCredentials as Digest
from flowhook.document.models.authentication import OAuth2Client as Client
from flowhook.document.models.authentication import TokenRequestFormat as Request

__all__ = ["Basic", "Client", "Digest", "Grant", "OAuth2", "OpenIdConnect", "Policy", "Request", "SecurityToken"]

Items = Annotated[tuple[str, ...], Field(max_length=MAX_ITEMS)]


class Grant(authentication.OAuth2AuthenticationData):
    """Keys that `oauth2` and `oidc` share."""

    authority: str
    issuers: Items = ()
    scopes: Items = ()
    audiences: Items = ()


class OAuth2(Grant, authentication.OAuth2AuthenticationPolicy):
    """`oauth2`. Source: RFC 6749, RFC 8693."""


class OpenIdConnect(Grant, authentication.OpenIdConnectAuthenticationPolicy):
    """`oidc`: the token endpoint is found by discovery. Source: OpenID Connect Discovery 1.0."""


class Policy(authentication.AuthenticationPolicy):
    """`authentication`: exactly one way."""

    basic: Basic | None = None
    bearer: Bearer | None = None
    digest: Digest | None = None
    oauth2: OAuth2 | None = None
    oidc: OpenIdConnect | None = None
