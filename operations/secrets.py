"""Operations on secrets: their values can be set, and never read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, SecretStr

from flowhook.model.flows import SecretInfo
from operations.operation import NoParameters, Parameters

if TYPE_CHECKING:
    from flowhook.client import AsyncClient


class SecretName(Parameters):
    """Parameters of `delete_secret`."""

    name: str
    """Name of the secret."""


class SecretValue(Parameters):
    """Parameters of `set_secret`."""

    name: Annotated[str, Field(min_length=1)]
    """Name: letters, digits, `-`, `_`, `.`; at most 127 characters."""
    value: SecretStr
    """Its value as text, 1 byte to 64 KiB in UTF-8, stored as it is."""


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """A secret, without its value."""

    name: str
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class SecretNames:
    """All secrets, by ascending name.

    `missing`: names that flows name, and that are not set; at most 1000. `matches_since`: when the router began to note
    which secrets match.
    """

    secrets: tuple[SecretInfo, ...]
    missing: tuple[SecretInfo, ...]
    matches_since: datetime


@dataclass(frozen=True, slots=True)
class Deleted:
    """What was deleted."""

    name: str


async def list_secrets(client: AsyncClient, _parameters: NoParameters) -> SecretNames:
    """List the names of secrets, and the flows that name them."""
    uses = await client.secrets.uses()
    return SecretNames(
        secrets=tuple(each for each in uses.secrets if each.updated_at is not None),
        missing=tuple(each for each in uses.secrets if each.updated_at is None),
        matches_since=uses.matches_since,
    )


async def set_secret(client: AsyncClient, parameters: SecretValue) -> StoredSecret:
    """Create or replace a secret."""
    secret = await client.secrets.set(parameters.name, parameters.value.get_secret_value().encode())
    assert secret.updated_at is not None  # noqa: S101 - it was set just now
    return StoredSecret(secret.name, secret.updated_at)


async def delete_secret(client: AsyncClient, parameters: SecretName) -> Deleted:
    """Delete a secret."""
    await client.secrets.delete(parameters.name)
    return Deleted(parameters.name)
