"""Operations on secrets: their values can be set, and never read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import Field, SecretStr

from admin.operations.operation import Parameters
from flowhook.client import AsyncClient
from flowhook.model import SecretInfo


class SecretList(Parameters):
    """Parameters of `list_secrets`: none."""


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
class SecretView:
    """A secret, without its value."""

    name: str
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class SecretNames:
    """All secrets, by ascending name."""

    secrets: tuple[SecretView, ...]


@dataclass(frozen=True, slots=True)
class Deleted:
    """What was deleted."""

    name: str


async def list_secrets(client: AsyncClient, _parameters: SecretList) -> SecretNames:
    """Return the names of all secrets."""
    return SecretNames(tuple(map(_view, await client.secrets.list())))


async def set_secret(client: AsyncClient, parameters: SecretValue) -> SecretView:
    """Create or replace a secret."""
    return _view(await client.secrets.set(parameters.name, parameters.value.get_secret_value().encode()))


async def delete_secret(client: AsyncClient, parameters: SecretName) -> Deleted:
    """Delete a secret."""
    await client.secrets.delete(parameters.name)
    return Deleted(parameters.name)


def _view(secret: SecretInfo) -> SecretView:
    return SecretView(secret.name, secret.updated_at)
