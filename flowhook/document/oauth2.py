"""Validation rules for OAuth 2 and OpenID Connect policies, both when a flow is applied and when it runs.

When a flow is applied, its policies may contain expressions; when it runs, they contain values. The required keys and
their valid combinations are the same.

Source: dsl-reference.md, "OAuth2 Authentication"; RFC 6749, RFC 7523, RFC 8693; OpenID Connect Core 1.0, section 9.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Final, Literal, TypeAlias

from pydantic import BaseModel

from flowhook.document.codes import Code
from flowhook.document.validation import LocatedCause, validation_error_at

TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 - a name

MAX_ITEMS: Final = 64
"""Maximum number of scopes, of audiences and of issuers."""

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


def check_client(client: BaseModel, method: ClientAuthentication) -> None:
    """Refuse a client that lacks keys which its authentication method requires: `id`, `secret` or `assertion`.

    Raises:
        pydantic.ValidationError: lists all missing keys, each with its location.
    """
    given = _given(client)
    needed: tuple[str, ...] = ("assertion",) if method == "private_key_jwt" else ("id", "secret")
    if method == "none" or (method == "client_secret_jwt" and "assertion" in given):
        needed = ()
    elif method == "client_secret_post":
        needed = ("id",)
    _refuse(((key,), Code.KEY_MISSING, f"is required by `{method}`") for key in needed if key not in given)


def check_grant(policy: BaseModel, grant: GrantType) -> None:
    """Refuse a policy whose grant a flow can't use, that lacks a required key, or that has a key of another grant.

    Raises:
        pydantic.ValidationError: lists all problems, each with its location.
    """
    _refuse(_problems(grant, _given(policy)))


def _given(model: BaseModel) -> set[str]:
    """Return the keys that have a value."""
    return {key for key, value in model if value is not None}


def _problems(grant: GrantType, given: Collection[str]) -> Iterator[LocatedCause]:
    if grant == "authorization_code":
        yield ("grant",), Code.VALUE_CHOICE, "`authorization_code` needs a person at a browser: use another grant"
    for key in _NEEDED.get(grant, ()):
        if key not in given:
            yield (key,), Code.KEY_MISSING, f"is required by the grant `{grant}`"
    for key, grants in _GOES_WITH.items():
        if key in given and grant not in grants:
            yield (
                (key,),
                Code.KEY_CONFLICT,
                f"is allowed only with the grant {' or '.join(f'`{each}`' for each in grants)}",
            )


def _refuse(problems: Iterable[LocatedCause]) -> None:
    found = list(problems)
    if found:
        raise validation_error_at(*found)
