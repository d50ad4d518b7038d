"""Connections to brokers and gRPC servers, which the calls of a process share.

A connection is used for `MAX_AGE_SECONDS` at most, and until a call on it fails; a new one resolves the name again.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar
from weakref import WeakValueDictionary

from flowhook.errors import FlowhookError
from flowhook.process.settings import RunnerSettings
from flowhook.sharing import Seat, SharedLimit, current_principal
from flowhook.sharing.table import RunnerLimits
from runner.interpreter.errors import Kind, fault

MAX_AGE_SECONDS: Final = 300.0
CLOSE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where a server is."""

    host: str
    port: int
    tls: bool
    path: str = ""  # from the slash on, for protocols that have one

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Closable(Protocol):
    """A connection."""

    async def close(self) -> None:
        """Close the connection; it may be broken."""
        ...


Connection = TypeVar("Connection", bound=Closable)


@dataclass(slots=True, eq=False)
class _Pooled:
    connection: Any
    opened_at: float
    seat: Seat  # of the flow that opened it
    users: int = 0


class ConnectionPool:
    """The pool of a process; see `SharedResources`."""

    def __init__(self, _settings: RunnerSettings, /, *, limits: RunnerLimits | None = None) -> None:
        self._limit = SharedLimit((limits or RunnerLimits()).connections)
        self._pool: OrderedDict[Hashable, _Pooled] = OrderedDict()  # most recently used last
        self._locks: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    async def close(self) -> None:
        while self._pool:
            _, pooled = self._pool.popitem()
            await _close(pooled)

    @asynccontextmanager
    async def use(
        self,
        key: Hashable,
        open_: Callable[[], Awaitable[Connection]],
        *,
        breaks: Callable[[BaseException], bool] = lambda _problem: True,
    ) -> AsyncIterator[Connection]:
        """Provide a connection for one call, which `open_` opens; the caller sets the deadline.

        `key` is all that the connection depends on. `breaks`: whether a problem of a call, which may be its
        cancellation, means that no other call is made on the connection.

        Raises:
            TaskFault: too many servers are called at the same time, by the flow or by all (communication).
        """
        pooled = await self._get(key, open_)
        pooled.users += 1
        try:
            yield pooled.connection
        except BaseException as problem:
            if breaks(problem) and self._pool.get(key) is pooled:
                del self._pool[key]
            raise
        finally:
            pooled.users -= 1
            if not pooled.users and self._pool.get(key) is not pooled:
                await _close(pooled)

    async def _get(self, key: Hashable, open_: Callable[[], Awaitable[Closable]]) -> _Pooled:
        async with self._locks.setdefault(key, asyncio.Lock()):
            pooled = self._pool.get(key)
            if pooled is not None:
                self._pool.move_to_end(key)
                if time.monotonic() - pooled.opened_at <= MAX_AGE_SECONDS:
                    return pooled
                await self._remove(key)
            seat = await self._seat()
            try:
                self._pool[key] = pooled = _Pooled(await open_(), time.monotonic(), seat)
            except BaseException:
                seat.release()
                raise
            return pooled

    async def _seat(self) -> Seat:
        """Return a seat for another connection; those that no call uses give way, at first those of the same flow.

        They don't to a flow that uses its share of all.
        """
        principal, limit = current_principal.get(), self._limit.limit
        while True:
            try:
                return self._limit.acquire(principal)
            except FlowhookError as problem:
                idle = [key for key, each in self._pool.items() if not each.users]
                used = [each.seat.principal for each in self._pool.values() if each.users]
                own_used = used.count(principal)
                uses_share = own_used and own_used + 1 > (limit.total - len(used) + own_used) // limit.parts
                if uses_share or not idle:
                    raise fault(Kind.COMMUNICATION, problem.message, status=503) from None
                own = (key for key in idle if self._pool[key].seat.principal == principal)
                await self._remove(next(own, idle[0]))

    async def _remove(self, key: Hashable) -> None:
        """Remove a connection from the pool; the last call on it closes it."""
        pooled = self._pool.pop(key)
        if not pooled.users:
            await _close(pooled)


async def _close(pooled: _Pooled) -> None:
    with pooled.seat:
        await attempt(pooled.connection.close())


async def attempt(action: Awaitable[None]) -> None:
    """Await what may fail, for `CLOSE_SECONDS` at most."""
    with suppress(Exception):  # whatever a library raises about a connection that is broken
        async with asyncio.timeout(CLOSE_SECONDS):
            await action
