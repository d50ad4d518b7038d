"""Clients of the router, one for each bearer token, and the role that a token has there."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from admin.security.sessions import Role
from flowhook.client import AsyncClient
from flowhook.errors import ExhaustedError, InvalidError, PermissionDeniedError, UnauthenticatedError

# clients that are open at a time; beyond it the unused one that was used least recently is closed
MAX_CLIENTS: Final = 64


@dataclass(slots=True)
class _Entry:
    client: AsyncClient
    users: int = 0


class RouterClients:
    """Opens clients on demand and shares them among all requests that present the same token.

    Args:
        connect: returns a new client that presents a token.
    """

    def __init__(self, connect: Callable[[str], AsyncClient]) -> None:
        self._connect = connect
        self._entries: dict[bytes, _Entry] = {}  # by the hash of the token, in the order of last use

    def is_known(self, token: str) -> bool:
        """Whether a client for this token is open: the router did not refuse it so far."""
        return _key(token) in self._entries

    @asynccontextmanager
    async def client(self, token: str) -> AsyncIterator[AsyncClient]:
        """Lend the client for a token. One whose token the router does not know is closed at the end.

        Raises:
            ExhaustedError: too many clients are in use (`TOO_MANY_CLIENTS`).
        """
        key = _key(token)
        entry = self._entries.pop(key, None)
        if entry is None:
            await self._make_room()
            entry = _Entry(self._connect(token))
        self._entries[key] = entry
        entry.users += 1
        try:
            yield entry.client
        except UnauthenticatedError:
            if self._entries.get(key) is entry:
                del self._entries[key]
            raise
        finally:
            entry.users -= 1
            if entry.users == 0 and self._entries.get(key) is not entry:
                await entry.client.close()

    async def aclose(self) -> None:
        """Close all clients; calls in progress fail."""
        while self._entries:
            _, entry = self._entries.popitem()
            await entry.client.close()

    async def _make_room(self) -> None:
        while len(self._entries) >= MAX_CLIENTS:
            unused = next((key for key, entry in self._entries.items() if entry.users == 0), None)
            if unused is None:
                raise ExhaustedError("too many tokens are in use at a time: try again", reason="TOO_MANY_CLIENTS")
            await self._entries.pop(unused).client.close()


async def find_role(client: AsyncClient) -> Role:
    """Return the role of a client's token.

    The router answers what a token may do, and nothing else does: one call that needs `view` or `admin`, and one that
    needs `admin` and can't change anything, because it is a dry run of no flows.

    Raises:
        UnauthenticatedError: the router does not know the token.
        PermissionDeniedError: it has neither scope.
        UnavailableError: the router did not answer.
    """
    await client.cluster.shards()
    try:
        await client.flows.apply((), dry_run=True)
    except PermissionDeniedError:
        return Role.VIEWER
    except InvalidError:
        pass
    return Role.OPERATOR


def _key(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
