"""How a call proves who it is: the policies that Flowhook has, `basic` and `bearer`.

Source: dsl-reference.md, "Authentication"; schema/workflow.yaml, `authenticationPolicy`.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from flowhook.document.auth import SecretName
from flowhook.document.model import Model


class SecretReference(Model):
    """A secret of `use.secrets` that holds the credentials: JSON with their names, or a token as plain text."""

    use: SecretName


class BasicCredentials(Model):
    """A name and a password; either may be an expression in `${ }`."""

    username: str
    password: str


class BearerCredentials(Model):
    """A token; it may be an expression in `${ }`."""

    token: str


def _credentials_tag(value: object) -> str:
    return "<secret>" if isinstance(value, dict) and "use" in value else "<inline>"


_Secret = Annotated[SecretReference, Tag("<secret>")]


class AuthenticationPolicy(Model):
    """Exactly one way to authenticate."""

    basic: Annotated[_Secret | Annotated[BasicCredentials, Tag("<inline>")], Discriminator(_credentials_tag)] | None = (
        None
    )
    bearer: (
        Annotated[_Secret | Annotated[BearerCredentials, Tag("<inline>")], Discriminator(_credentials_tag)] | None
    ) = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if len(self.model_fields_set) != 1:
            ways = " and ".join(type(self).model_fields)
            raise PydanticCustomError("flow", "expected exactly one of {ways}", {"ways": ways})
        return self


class ReferenceableAuthenticationPolicy(AuthenticationPolicy):
    """A policy of the endpoint's own, or the name of one of `use.authentications`."""

    use: Annotated[str, Field(min_length=1)] | None = None
