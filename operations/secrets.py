"""Operations on secrets: their values can be set, and never read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, SecretStr

from flowhook.model.secrets import SecretInfo
from operations.operation import Parameters

if TYPE_CHECKING:
    from flowhook.client import AsyncClient


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
class SecretUserView:
    """A flow that names a secret.

    `verifies`: requests are verified with it. `expressions`: expressions may read it. Neither: a call of a component
    reads it. `matched_at`: when a request of the flow was last verified with it; null: not since the router started.
    `latest_match`: of all secrets of the flow, it is the one that matched last.
    """

    flow_id: str
    verifies: bool
    expressions: bool
    matched_at: datetime | None
    latest_match: bool


@dataclass(frozen=True, slots=True)
class SecretUseView:
    """The flows that name a secret: those that it verified a request of last, then the others by ID; at most 100."""

    name: str
    matched_at: datetime | None
    user_count: int
    users: tuple[SecretUserView, ...]


@dataclass(frozen=True, slots=True)
class ListedSecret(SecretUseView):
    """A secret with the flows that name it."""

    updated_at: datetime


@dataclass(frozen=True, slots=True)
class SecretNames:
    """All secrets, by ascending name.

    `missing`: names that flows name, and that are not set; at most 1000. `matches_since`: when the router began to note
    which secrets match.
    """

    secrets: tuple[ListedSecret, ...]
    missing: tuple[SecretUseView, ...]
    matches_since: datetime


@dataclass(frozen=True, slots=True)
class Deleted:
    """What was deleted."""

    name: str


async def list_secrets(client: AsyncClient, _parameters: SecretList) -> SecretNames:
    """Return the names of all secrets, and the flows that name them."""
    uses = await client.secrets.uses()
    return SecretNames(
        secrets=tuple(
            ListedSecret(**_use(use), updated_at=use.updated_at) for use in uses.secrets if use.updated_at is not None
        ),
        missing=tuple(SecretUseView(**_use(use)) for use in uses.secrets if use.updated_at is None),
        matches_since=uses.matches_since,
    )


async def set_secret(client: AsyncClient, parameters: SecretValue) -> SecretView:
    """Create or replace a secret."""
    return _view(await client.secrets.set(parameters.name, parameters.value.get_secret_value().encode()))


async def delete_secret(client: AsyncClient, parameters: SecretName) -> Deleted:
    """Delete a secret."""
    await client.secrets.delete(parameters.name)
    return Deleted(parameters.name)


def _use(use: SecretInfo) -> dict[str, Any]:
    users = tuple(
        SecretUserView(user.flow_id, user.verifies, user.expressions, user.matched_at, user.latest_match)
        for user in use.users
    )
    return {"name": use.name, "matched_at": use.matched_at, "user_count": use.user_count, "users": users}


def _view(secret: SecretInfo) -> SecretView:
    assert secret.updated_at is not None  # noqa: S101 - it was set just now
    return SecretView(secret.name, secret.updated_at)
