"""Locations of the secret in a request, for kinds of `auth` that send the secret instead of signing with it."""

from __future__ import annotations

from typing import Literal, NamedTuple

from flowhook.document.models.credentials import ApiKeyAuth, AuthKind, BasicAuth
from flowhook.errors import InvalidError
from flowhook.providers import PROVIDERS


class CredentialPlace(NamedTuple):
    """Where a secret is sent.

    Attributes:
        kind: in the header `name`; in the query parameter `name`; or as the password of the user `name` (RFC 7617).
        name: of the header, the parameter or the user.
    """

    kind: Literal["header", "query", "basic"]
    name: str


def sends_secret(kind: AuthKind) -> bool:
    """Whether the senders of a kind send the secret itself."""
    if isinstance(kind, ApiKeyAuth | BasicAuth):
        return True
    row = PROVIDERS.get(kind.kind)
    return row is not None and row.sends_secret


def credential_place(kind: AuthKind) -> CredentialPlace:
    """Return where the senders of a kind, of which `sends_secret` holds, put it.

    Raises:
        InvalidError: in the body (`CANNOT_SIGN`).
    """
    match kind:
        case BasicAuth():
            return CredentialPlace("basic", kind.username)
        case ApiKeyAuth(header=str(name)):
            return CredentialPlace("header", name)
        case ApiKeyAuth(query=str(name)):
            return CredentialPlace("query", name)
    row = PROVIDERS.get(kind.kind)
    if row is not None and row.scheme is not None:
        location = row.scheme.locations[0].signature
        if location.kind == "header":
            return CredentialPlace("header", location.name)
    raise InvalidError(f"{kind.kind} has its secret in the body, which only the sender writes", reason="CANNOT_SIGN")
