"""Pooled connections to brokers, dialled under the address policy; the protocols and their modules.

A connection is used for `MAX_AGE_SECONDS` at most, and until a call on it fails; a new one resolves the name again.

Brokers announce how much they send, in frames of up to some GiB, and their libraries read what is announced. So each
protocol's module bounds what a connection receives: by `ReadBound`, or as its library allows.
"""

from __future__ import annotations

import asyncio
import importlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol, TypeVar, runtime_checkable
from weakref import WeakValueDictionary

from flowhook import limits
from flowhook.errors import FlowhookError
from flowhook.process.settings import RunnerSettings
from flowhook.sharing import Seat, SharedLimit, current_principal
from flowhook.sharing.table import RunnerLimits
from runner.authentication.policy import Policy
from runner.components.asyncapi.documents import ChannelOperation, DescribedServer, document_fault
from runner.components.asyncapi.messages import OutboundMessage, ServerAddress
from runner.components.base import Context
from runner.components.resource import fingerprint
from runner.interpreter.errors import Kind, TaskFault, fault

# what a broker may send at a time: a message, a response, or all until a message is taken
MAX_RECEIVED_BYTES: Final = 2 * limits.MAX_RESULT_BYTES
MAX_AGE_SECONDS: Final = 300.0
CLOSE_SECONDS: Final = 5.0
_UNAVAILABLE: Final = 503


class BrokerProtocol(NamedTuple):
    """A protocol of servers in documents."""

    module: str  # module of this package that speaks it
    tls: bool
    port: int  # default port
    extra: str = ""  # extra of the distribution that installs its library; empty: always installed


PROTOCOLS: Final[Mapping[str, BrokerProtocol]] = {
    "http": BrokerProtocol("http", tls=False, port=80),
    "https": BrokerProtocol("http", tls=True, port=443),
    "nats": BrokerProtocol("nats", tls=False, port=4222),
    "kafka": BrokerProtocol("kafka", tls=False, port=9092, extra="kafka"),
    "kafka-secure": BrokerProtocol("kafka", tls=True, port=9093, extra="kafka"),
    "amqp": BrokerProtocol("amqp", tls=False, port=5672, extra="amqp"),
    "amqps": BrokerProtocol("amqp", tls=True, port=5671, extra="amqp"),
    "mqtt": BrokerProtocol("mqtt", tls=False, port=1883, extra="mqtt"),
    "mqtt5": BrokerProtocol("mqtt", tls=False, port=1883, extra="mqtt"),
    "mqtts": BrokerProtocol("mqtt", tls=True, port=8883, extra="mqtt"),
    "secure-mqtt": BrokerProtocol("mqtt", tls=True, port=8883, extra="mqtt"),
    "ws": BrokerProtocol("websocket", tls=False, port=80),
    "wss": BrokerProtocol("websocket", tls=True, port=443),
}
"""By name, as documents write it."""

_FAMILIES: Final[Mapping[str, frozenset[str]]] = {
    "amqp": frozenset({"amqp", "amqps"}),
    "http": frozenset({"http", "https"}),
    "kafka": frozenset({"kafka", "kafka-secure"}),
    "mqtt": frozenset({"mqtt", "mqtts", "secure-mqtt"}),
    "ws": frozenset({"ws", "wss"}),
}
"""Protocols of servers that a `protocol` of a call selects, where it is not only that of the same name."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a broker is told to authenticate a call: a name and a password, or a token."""

    username: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    @classmethod
    async def of(cls, policy: Policy | None, context: Context) -> Credentials | None:
        """Return the credentials of a policy; None: none.

        Raises:
            TaskFault: the policy works for HTTP only (configuration), or no token can be obtained.
        """
        if policy is None:
            return None
        if policy.basic is not None:
            return cls(policy.basic.username, policy.basic.password)
        authorization = await context.http.authorization(policy)
        return cls(token=authorization.value.removeprefix("Bearer "))


@dataclass(frozen=True, slots=True)
class Target:
    """Where a message goes, or comes from."""

    operation: ChannelOperation
    server: DescribedServer
    endpoint: ServerAddress
    address: str  # of the channel, without variables

    def binding(self, *protocols: str) -> Mapping[str, Any]:
        """Return the bindings for a protocol, by its first name that the document has bindings for."""
        return next((found for name in protocols if (found := self.operation.bindings.get(name))), {})


class ReadBound:
    """Bounds what is read of a connection by `readexactly`, until it is renewed."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._read = reader.readexactly
        self.renew()
        reader.readexactly = self._read_bounded  # type: ignore[method-assign]

    def renew(self) -> None:
        self._left = MAX_RECEIVED_BYTES

    async def _read_bounded(self, n: int) -> bytes:
        self._left -= n
        if self._left < 0:
            raise ConnectionError(f"the broker sends more than {MAX_RECEIVED_BYTES} bytes")
        return await self._read(n)


class Transport(Protocol):
    """A module that speaks a protocol."""

    async def publish(
        self, target: Target, message: OutboundMessage, authentication: Policy | None, context: Context
    ) -> Any:
        """Publish a message; returns what the server says about it, as JSON, or None.

        Raises:
            TaskFault: the server does not take it.
        """
        ...


def select_server(operation: ChannelOperation, name: str | None, protocol: str | None) -> DescribedServer:
    """Return the server of a name or else the first one with the protocol; without either, the first one.

    Raises:
        TaskFault: there is none, or its protocol is not supported (configuration).
    """
    if name is not None:
        server = next((each for each in operation.servers if each.name == name), None)
        wanted = f"no server {name}"
    elif protocol is not None:
        family = _FAMILIES.get(protocol, frozenset({protocol}))
        server = next((each for each in operation.servers if each.protocol in family), None)
        wanted = f"no server with the protocol {protocol}"
    else:
        server = next(iter(operation.servers), None)
        wanted = "no server"
    if server is None:
        raise document_fault(f"the document has {wanted} for {operation.name}")
    if server.protocol not in PROTOCOLS:
        known = ", ".join(PROTOCOLS)
        raise document_fault(f"the protocol {server.protocol} is not supported; those that are: {known}")
    return server


async def load_transport(protocol: BrokerProtocol) -> Transport:
    """Import the module of a protocol.

    Raises:
        TaskFault: its library is not installed (configuration).
    """
    try:
        module: Any = await asyncio.to_thread(importlib.import_module, f"{__package__}.{protocol.module}")
    except ModuleNotFoundError as problem:
        if not protocol.extra:
            raise
        detail = f"this runner lacks {problem.name}: install flowhook[{protocol.extra}] where runners run"
        raise document_fault(detail) from None
    transport: Transport = module
    return transport


@runtime_checkable
class Closable(Protocol):
    """A connection to a broker."""

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
    """The connections of a process to brokers; see `SharedResources`."""

    def __init__(self, _settings: RunnerSettings, /, *, limits: RunnerLimits | None = None) -> None:
        self._limit = SharedLimit((limits or RunnerLimits()).connections)
        self._pool: OrderedDict[bytes, _Pooled] = OrderedDict()  # most recently used last
        self._locks: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()

    async def close(self) -> None:
        while self._pool:
            _, pooled = self._pool.popitem()
            await _close(pooled)

    @asynccontextmanager
    async def use(
        self, target: Target, credentials: Credentials | None, open_: Callable[[], Awaitable[Connection]]
    ) -> AsyncIterator[Connection]:
        """Provide a connection to a server for one call, which `open_` opens; the caller sets the deadline.

        Raises:
            TaskFault: too many servers are called at the same time, by the flow or by all (communication).
        """
        shown = None if credentials is None else [credentials.username, credentials.password, credentials.token]
        key = fingerprint(
            target.server.protocol, target.server.version, str(target.endpoint), target.endpoint.path, shown
        )
        pooled = await self._get(key, open_)
        pooled.users += 1
        try:
            yield pooled.connection
        except BaseException:  # cancellation included: the connection's state is not known
            if self._pool.get(key) is pooled:
                del self._pool[key]
            raise
        finally:
            pooled.users -= 1
            if not pooled.users and self._pool.get(key) is not pooled:
                await _close(pooled)

    async def _get(self, key: bytes, open_: Callable[[], Awaitable[Connection]]) -> _Pooled:
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
                    raise fault(Kind.COMMUNICATION, f"asyncapi: {problem.message}", status=_UNAVAILABLE) from None
                own = (key for key in idle if self._pool[key].seat.principal == principal)
                await self._remove(next(own, idle[0]))

    async def _remove(self, key: bytes) -> None:
        """Remove a connection from the pool; the last call on it closes it."""
        pooled = self._pool.pop(key)
        if not pooled.users:
            await _close(pooled)


@asynccontextmanager
async def pooled(
    target: Target,
    authentication: Policy | None,
    context: Context,
    open_: Callable[[Target, Credentials | None, Context], Awaitable[Connection]],
) -> AsyncIterator[Connection]:
    """Provide a connection of the process's pool for one call; see `ConnectionPool.use`, `Credentials.of`."""
    credentials = await Credentials.of(authentication, context)
    pool = context.shared.get(ConnectionPool)
    async with pool.use(target, credentials, lambda: open_(target, credentials, context)) as connection:
        yield connection


def exchange_fault(target: Target, problem: Exception, *, refused: bool = False) -> TaskFault:
    """Return the fault for an error of a library, without its message, which may hold anything.

    `refused`: it is about the credentials.
    """
    if refused:
        return fault(Kind.AUTHENTICATION, f"{target.endpoint} refuses the credentials")
    detail = f"{target.endpoint}: the exchange failed ({type(problem).__name__})"
    return fault(Kind.COMMUNICATION, detail, status=_UNAVAILABLE)


def time_left(context: Context) -> float:
    """Return the seconds until the deadline of a call."""
    return max(0.001, context.deadline - asyncio.get_running_loop().time())


async def _close(pooled: _Pooled) -> None:
    with pooled.seat, suppress(Exception):  # whatever a library raises about a connection that is broken
        async with asyncio.timeout(CLOSE_SECONDS):
            await pooled.connection.close()
