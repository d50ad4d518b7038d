"""AsyncAPI over AMQP 0-9-1.

A message is published with a confirmation, and has to reach a queue; nothing is declared for it. A subscription to a
queue shares it with other consumers; one to a routing key has a queue of its own, which the broker drops when nobody
has used it for `EXPIRY_SECONDS`.

Source: https://github.com/asyncapi/bindings/tree/master/amqp (0.3.0), https://www.rabbitmq.com/docs/confirms.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

import aio_pika
import attrs
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import AMQPError, AuthenticationError, DeliveryError, ProbableAuthenticationError
from aiormq.connection import TCPTransportFactory, TLSTransportFactory, TransportFactory
from typing_extensions import override
from yarl import URL

from runner.components.asyncapi.connections import (
    Credentials,
    ReadBound,
    Target,
    closed_on_error,
    exchange_fault,
    pooled,
)
from runner.components.asyncapi.documents import document_fault
from runner.components.asyncapi.messages import InboundMessage, OutboundMessage
from runner.components.base import Context, time_left
from runner.components.resource import mapping
from runner.interpreter.errors import Kind, TaskFault, fault
from runner.outbound.bound_client import IDEMPOTENCY_KEY
from runner.outbound.dns import NamedTls, dial

EXPIRY_SECONDS: Final = 86_400
MAX_QUEUED: Final = 16  # messages that a subscription has received and not handed on; a broker that sends more is left
_MAX_NAME_BYTES: Final = 255
# what aio-pika raises when it can't go on; KeyError for a server that does not say what it is capable of
ERRORS: Final = (AMQPError, OSError, RuntimeError, KeyError)
_PERSISTENT: Final = 2

for _name in ("aio_pika", "aiormq"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


class _Transport(TransportFactory):
    """Opens the transport of a connection, of which no more is read than its bound allows."""

    bound: ReadBound

    @override
    async def create(self, url: URL, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        factory = TLSTransportFactory() if url.scheme == "amqps" else TCPTransportFactory()
        reader, writer = await factory.create(url, **options)
        self.bound = ReadBound(reader)
        return reader, writer


class _Connection(aio_pika.Connection):
    """A connection of aio-pika over that transport; messages of many frames count as a whole."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.kwargs["transport_factory"] = self.bounded = _Transport()


@attrs.define(eq=False, repr=False)
class AmqpConnection:
    """A connection with one channel, on which publishing is confirmed."""

    _connection: _Connection
    channel: AbstractChannel

    def renew(self) -> None:
        """Let the broker send another message."""
        self._connection.bounded.bound.renew()

    async def close(self) -> None:
        await self._connection.close()
        await asyncio.sleep(0)  # aio-pika ends what waits for this in tasks of its own


async def publish(target: Target, message: OutboundMessage, context: Context) -> None:
    """Publish a message, which at least one queue must take."""
    binding = target.binding
    exchange, key = _route(target)
    properties = aio_pika.Message(
        message.payload,
        headers={IDEMPOTENCY_KEY: message.key, **message.all_headers},
        content_type=message.content_type,
        message_id=message.key,
        delivery_mode=aio_pika.DeliveryMode(_integer(binding, "deliveryMode", _PERSISTENT, 1, 2)),
        priority=_integer(binding, "priority", 0, 0, 255),
        app_id="flowhook",
    )
    async with pooled(target, context, _open) as connection:
        connection.renew()
        sender = await connection.channel.get_exchange(exchange, ensure=False) if exchange else None
        await (sender or connection.channel.default_exchange).publish(
            properties, routing_key=key, mandatory=True, timeout=time_left(context)
        )


@attrs.define(eq=False, repr=False)
class AmqpSource:
    """A consumer of one queue, which has one message at a time."""

    _connection: AmqpConnection
    _target: Target
    _incoming: asyncio.Queue[AbstractIncomingMessage] = attrs.field(
        init=False, factory=lambda: asyncio.Queue(MAX_QUEUED)
    )
    _own: AbstractQueue | None = attrs.field(init=False, default=None)  # the queue, if it is the subscription's alone

    async def start(self, name: str) -> None:
        """Consume the queue of the target, or one of this `name`."""
        channel = self._connection.channel
        exchange, key = _route(self._target)
        await channel.set_qos(prefetch_count=1)
        if exchange:
            arguments: dict[str, Any] = {"x-expires": EXPIRY_SECONDS * 1000}
            self._own = queue = await channel.declare_queue(name, durable=True, arguments=arguments)
            await queue.bind(exchange, key)
        else:  # the default exchange routes to the queue of the key's name, and no other can be bound to it
            queue = await channel.get_queue(key, ensure=False)
        await queue.consume(self._take)

    async def _take(self, message: AbstractIncomingMessage) -> None:
        if self._incoming.full():  # it was told to send one at a time
            await self.close()
        else:
            self._incoming.put_nowait(message)

    async def receive(self) -> InboundMessage:
        """Wait for a message; raises a fault (`communication`) if the connection is lost."""
        self._connection.renew()
        closed = asyncio.ensure_future(self._connection.channel.closed())
        taken = asyncio.ensure_future(self._incoming.get())
        try:
            await asyncio.wait((closed, taken), return_when=asyncio.FIRST_COMPLETED)
            if not taken.done():
                raise fault(Kind.COMMUNICATION, f"{self._target.endpoint}: the connection was lost", status=503)
            message = taken.result()
            self._connection.renew()
        finally:
            taken.cancel()
            closed.cancel()
        headers = {str(name): _text(value) for name, value in (message.headers or {}).items()}
        return InboundMessage(
            message.body,
            headers,
            message.content_type or "",
            identity={"id": message.message_id} if message.message_id else None,
            is_repeated=bool(message.redelivered),
            correlation=message.correlation_id or "",
            native=message,
        )

    async def acknowledge(self, message: InboundMessage) -> None:
        await message.native.ack()

    async def end(self) -> None:
        if self._own is not None:
            await self._own.delete(if_unused=False, if_empty=False)

    async def close(self) -> None:
        await self._connection.close()


async def subscribe(target: Target, name: str, context: Context) -> AmqpSource:
    """Consume a queue of the target, or one of this `name` that is bound to its routing key."""
    source = AmqpSource(await _open(target, await Credentials.of(target.authentication, context), context), target)
    async with closed_on_error(source.close):
        await source.start(name)
    return source


def _route(target: Target) -> tuple[str, str]:
    """Return the exchange, empty for the default one, and the routing key or the name of the queue."""
    binding = target.binding
    queue, exchange = mapping(binding.get("queue")).get("name"), mapping(binding.get("exchange")).get("name")
    if binding.get("is") == "queue" or (queue is not None and exchange is None):
        exchange, key = "", queue if queue is not None else target.address
    else:
        exchange, key = exchange or "", target.address
    for text in (exchange, key):
        if not isinstance(text, str) or len(text.encode()) > _MAX_NAME_BYTES:
            raise document_fault(f"{text!r} is not the name of a queue or an exchange, or a routing key")
    return exchange, key


def _integer(binding: Mapping[str, Any], key: str, default: int, least: int, most: int) -> int:
    value = binding.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise document_fault(f"the binding {key} is not within {least} to {most}")
    return value


async def _open(target: Target, credentials: Credentials | None, context: Context) -> AmqpConnection:
    endpoint = target.endpoint
    host, port = await dial(endpoint.host, endpoint.port, address_policy=context.settings.address_policy)
    given = credentials or Credentials("guest", "guest")
    connection: Any = await aio_pika.connect(
        host=host,
        port=port,
        login=given.username or "token",
        password=given.token or given.password,
        virtualhost=unquote(endpoint.path[1:]) or "/",
        ssl=endpoint.tls,
        ssl_context=await asyncio.to_thread(NamedTls.of, endpoint.host) if endpoint.tls else None,
        timeout=time_left(context),
        connection_class=_Connection,
    )
    async with closed_on_error(connection.close):
        return AmqpConnection(connection, await connection.channel(publisher_confirms=True, on_return_raises=True))


def fault_of(target: Target, problem: Exception) -> TaskFault:
    if isinstance(problem, DeliveryError):
        detail = f"{target.endpoint}: no queue takes messages to {_route(target)[1]!r}"
        return fault(Kind.COMMUNICATION, detail, status=404)
    return exchange_fault(
        target, problem, refused=isinstance(problem, AuthenticationError | ProbableAuthenticationError)
    )


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
