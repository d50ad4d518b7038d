"""Finds out whether the router knows a token, before anything is done for anyone who presents it.

Only unknown tokens count against the limit of an address, and a valid one is accepted whatever others at the address
present: once the limit is reached, checks of the address take place one after another instead of not at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

from admin.security.login_limiter import LoginLimiter
from admin.security.router_clients import RouterClients
from admin.shared_calls import SharedCalls
from flowhook.errors import ExhaustedError, PermissionDeniedError, UnauthenticatedError
from flowhook.sharing import FairQueue, Limit
from flowhook.sharing.addresses import address_principal


class Recognition:
    """Asks the router about tokens that no client is open for."""

    def __init__(self, clients: RouterClients, limit: Limit, *, clock: Callable[[], float]) -> None:
        """Create it.

        Args:
            clients: clients with the tokens that are known.
            limit: of the tokens that are being checked, by address.
            clock: monotonic, in seconds.
        """
        self._clients = clients
        self._queue = FairQueue(limit)
        self._limiter = LoginLimiter()
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
        key = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        await self._checks.share(key, lambda: self._check(token, address))

    async def _check(self, token: str, address: IPv4Address | IPv6Address) -> None:
        async with self._queue.seat(address_principal(address)):
            wait = self._limiter.attempt(str(address), self._clock())
            try:
                async with self._clients.client(token) as client:
                    await client.cluster.shards()
            except PermissionDeniedError:
                pass  # it is known, and may do something else
            except UnauthenticatedError:
                if wait:
                    raise ExhaustedError(
                        f"too many attempts: try again in {wait} s", reason="TOO_MANY_LOGINS", retry_after=wait
                    ) from None
                raise
            except BaseException:
                self._give_back(address, wait)
                raise
            self._give_back(address, wait)

    def _give_back(self, address: IPv4Address | IPv6Address, wait: int) -> None:
        if not wait:
            self._limiter.give_back(str(address))
