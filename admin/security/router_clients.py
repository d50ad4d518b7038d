"""Clients of the router, one for each bearer token; whether the router knows a token, and which role it has there."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Coroutine, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final, Generic, TypeVar

from admin.security.sessions import LoginRole, digest
from flowhook.client import AsyncClient
from flowhook.errors import ExhaustedError, InvalidError, PermissionDeniedError, UnauthenticatedError
from flowhook.sharing import FairQueue, Limit
from flowhook.sharing.limit import address_principal, network_of
from flowhook.sharing.token_bucket import TokenBuckets

# clients that are open at a time; beyond it the unused one that was used least recently is closed
MAX_CLIENTS: Final = 64
# Limit of an address, or an IPv6 network (/64), for tokens that the router does not know. They can't be guessed (256
# random bits): it protects the router from the calls that each attempt makes.
BURST: Final = 10  # attempts that an address may make at once
SECONDS_PER_ATTEMPT: Final = 6.0  # time in which an address gains one further attempt
# addresses that are remembered; beyond it the one that was seen least recently is forgotten
MAX_ADDRESSES: Final = 10_000


T = TypeVar("T")


class SharedCalls(Generic[T]):
    """Calls that several requests need at a time, by key; each is made once for all of them."""

    def __init__(self) -> None:
        self._calls: dict[Hashable, asyncio.Task[T]] = {}

    async def share(self, key: Hashable, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return the result of the call of a key that is in progress, or of the one that `make` begins.

        Anyone who stops waiting does not end it: others may wait for it.
        """
        call = self._calls.get(key)
        if call is None:
            call = self._calls[key] = asyncio.create_task(make(), name="a shared call")
            call.add_done_callback(lambda _: self._calls.pop(key, None))
        return await asyncio.shield(call)


@dataclass(slots=True)
class _Entry:
    client: AsyncClient
    users: int = 0


class RouterClients:
    """Opens clients on demand and shares them among all requests that present the same token."""

    def __init__(self, connect: Callable[[str], AsyncClient]) -> None:
        self._connect = connect
        self._entries: dict[bytes, _Entry] = {}  # by the hash of the token, in the order of last use

    def is_known(self, token: str) -> bool:
        """Whether a client for this token is open: the router did not refuse it so far."""
        return digest(token) in self._entries

    @asynccontextmanager
    async def client(self, token: str) -> AsyncIterator[AsyncClient]:
        """Lend the client for a token. One whose token the router does not know is closed at the end."""
        key = digest(token)
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
        while self._entries:
            _, entry = self._entries.popitem()
            await entry.client.close()

    async def _make_room(self) -> None:
        while len(self._entries) >= MAX_CLIENTS:
            unused = next((key for key, entry in self._entries.items() if entry.users == 0), None)
            if unused is None:
                raise ExhaustedError("too many tokens are in use at a time: try again", reason="TOO_MANY_CLIENTS")
            await self._entries.pop(unused).client.close()


async def find_role(client: AsyncClient) -> LoginRole:
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
        return LoginRole.VIEWER
    except InvalidError:
        pass
    return LoginRole.OPERATOR


class Recognition:
    """Finds out whether the router knows a token, before anything is done for anyone who presents it.

    Only unknown tokens count against the limit of an address, and a valid one is accepted whatever others at the
    address present: once the limit is reached, checks of the address take place one after another instead of not at
    all. `limit`: of the tokens that are being checked, by address. `clock`: monotonic, in seconds.
    """

    def __init__(self, clients: RouterClients, limit: Limit, *, clock: Callable[[], float]) -> None:
        self._clients = clients
        self._queue = FairQueue(limit)
        self._attempts = TokenBuckets(per_second=1 / SECONDS_PER_ATTEMPT, burst=BURST, most=MAX_ADDRESSES)
        self._clock = clock
        self._checks = SharedCalls[None]()

    async def recognize(self, token: str, address: IPv4Address | IPv6Address) -> None:
        """Return if the router knows the token, or did so before.

        Raises:
            UnauthenticatedError: the router does not know it.
            ExhaustedError: the same, and the address has presented too many unknown ones; or it has too many tokens
                checked at a time (`TOO_MANY_LOGINS`).
            UnavailableError: the router does not answer, or too many addresses have tokens checked.
        """
        if self._clients.is_known(token):
            return
        await self._checks.share(digest(token), lambda: self._check(token, address))

    async def _check(self, token: str, address: IPv4Address | IPv6Address) -> None:
        async with self._queue.seat(address_principal(address)):
            wait = math.ceil(self._attempts.take(network_of(address), self._clock()))
            is_unknown = False
            try:
                async with self._clients.client(token) as client:
                    await client.cluster.shards()
            except PermissionDeniedError:
                pass  # it is known, and may do something else
            except UnauthenticatedError:
                is_unknown = True
                if not wait:
                    raise
                text = f"too many attempts: try again in {wait} s"
                raise ExhaustedError(text, reason="TOO_MANY_LOGINS", retry_after=wait) from None
            finally:
                if not wait and not is_unknown:
                    self._attempts.give_back(network_of(address))
