"""Connections to brokers, dialled under the address policy; the protocols and their modules.

Brokers announce how much they send, in frames of up to some GiB, and their libraries read what is announced. So each
protocol's module bounds what a connection receives: by `ReadBound`, or as its library allows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from flowhook import limits
from runner.components.asyncapi.documents import ChannelOperation, DescribedServer, document_fault
from runner.components.base import Context
from runner.components.connection_pool import Connection, ConnectionPool, ServerAddress
from runner.components.resource import fingerprint
from runner.interpreter.errors import Kind, TaskFault, fault
from runner.outbound.policies import Policy

# what a broker may send at a time: a message, a response, or all until a message is taken
MAX_RECEIVED_BYTES: Final = 2 * limits.MAX_RESULT_BYTES


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
    authentication: Policy | None = None

    @property
    def binding(self) -> Mapping[str, Any]:
        """The bindings for the protocol, by its first name that the document has bindings for."""
        names = (name for name, each in PROTOCOLS.items() if each.module == PROTOCOLS[self.server.protocol].module)
        return next((found for name in names if (found := self.operation.bindings.get(name))), {})


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


@asynccontextmanager
async def pooled(
    target: Target, context: Context, open_: Callable[[Target, Credentials | None, Context], Awaitable[Connection]]
) -> AsyncIterator[Connection]:
    """Provide a connection of the process's pool for one call; see `ConnectionPool.use`, `Credentials.of`."""
    credentials, server = await Credentials.of(target.authentication, context), target.server
    shown = None if credentials is None else [credentials.username, credentials.password, credentials.token]
    key = fingerprint(server.protocol, server.version, str(target.endpoint), target.endpoint.path, shown)
    pool = context.shared.get(ConnectionPool)
    async with pool.use(key, lambda: open_(target, credentials, context)) as connection:
        yield connection


@asynccontextmanager
async def closed_on_error(close: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """Close what was opened if the block, which prepares it, raises or is cancelled."""
    try:
        yield
    except BaseException:
        await close()
        raise


@contextmanager
def explained(transport: Any, target: Target) -> Iterator[None]:
    """Raise what the library of a protocol raises as its module explains it."""
    try:
        yield
    except getattr(transport, "ERRORS", ()) as problem:  # over HTTP there are none: the HTTP client explains its own
        raise transport.fault_of(target, problem) from None


def exchange_fault(target: Target, problem: Exception, *, refused: bool = False) -> TaskFault:
    """Return the fault for an error of a library, without its message, which may hold anything.

    `refused`: it is about the credentials.
    """
    if refused:
        return fault(Kind.AUTHENTICATION, f"{target.endpoint} refuses the credentials")
    detail = f"{target.endpoint}: the exchange failed ({type(problem).__name__})"
    return fault(Kind.COMMUNICATION, detail, status=503)
