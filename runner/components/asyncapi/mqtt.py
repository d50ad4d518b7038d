"""AsyncAPI over MQTT 3.1.1 and 5.

Only MQTT 5 has properties of messages: the key of a call, the content type and headers. A subscription has a session
that the broker keeps for `EXPIRY_SECONDS`, as far as its own limits allow.

Source: https://github.com/asyncapi/bindings/tree/master/mqtt (0.2.0), https://docs.oasis-open.org/mqtt/mqtt/v5.0/.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import Any, Final

import aiomqtt
import attrs
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from flowhook import limits
from runner.components.asyncapi.connections import (
    Credentials,
    Target,
    closed_on_error,
    exchange_fault,
    pooled,
)
from runner.components.asyncapi.documents import document_fault
from runner.components.asyncapi.messages import InboundMessage, OutboundMessage
from runner.components.base import Context, time_left
from runner.interpreter.errors import TaskFault
from runner.outbound.bound_client import IDEMPOTENCY_KEY
from runner.outbound.dns import NamedTls, dial

EXPIRY_SECONDS: Final = 86_400
MAX_PACKET_BYTES: Final = limits.MAX_RESULT_BYTES + 64 * limits.KIB  # a message, with its topic and properties
MAX_QUEUED: Final = 16  # messages that a subscription has received and not handed on
_MAX_TOPIC_BYTES: Final = 65_535
ERRORS: Final = (aiomqtt.MqttError,)
# refusals of a connection: MQTT 3.1.1, section 3.2.2.3; MQTT 5, section 3.2.2.2
_CREDENTIALS: Final = frozenset({4, 5, 134, 135})

_silent: Final = logging.getLogger("flowhook.mqtt")
_silent.setLevel(logging.CRITICAL)


@attrs.define(eq=False, repr=False)
class MqttConnection:
    """A connection by MQTT 5, or 3.1.1."""

    client: aiomqtt.Client
    is_v5: bool

    async def close(self) -> None:
        await self.client.__aexit__(None, None, None)


async def publish(target: Target, message: OutboundMessage, context: Context) -> None:
    """Publish a message with the quality of service of the operation, by default at least once."""
    topic = _topic(target, wildcards=False)
    quality = _quality(target)
    async with pooled(target, context, _open) as connection:
        properties = None
        if connection.is_v5:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call] # paho has no types here
            properties.ContentType = message.content_type
            properties.UserProperty = [(IDEMPOTENCY_KEY, message.key), *message.all_headers.items()]
        elif message.headers:
            raise document_fault("with.message.headers: MQTT 3.1.1 can't carry headers")
        await connection.client.publish(
            topic,
            message.payload,
            qos=quality,
            retain=target.binding.get("retain") is True,
            properties=properties,
            timeout=time_left(context),
        )


@attrs.define(eq=False, repr=False)
class MqttSource:
    """A subscription with a session."""

    _connection: MqttConnection
    _topic: str

    async def receive(self) -> InboundMessage:
        message = await anext(aiter(self._connection.client.messages))
        properties = message.properties
        headers = {str(name): str(value) for name, value in getattr(properties, "UserProperty", ())}
        content_type = str(getattr(properties, "ContentType", ""))
        correlation = getattr(properties, "CorrelationData", b"").decode(errors="replace")
        return InboundMessage(message.payload, headers, content_type, correlation=correlation, native=message)

    async def acknowledge(self, message: InboundMessage) -> None:
        # aiomqtt does not offer it; pyproject.toml pins the versions that have this client
        self._connection.client._client.ack(message.native.mid, message.native.qos)  # noqa: SLF001

    async def end(self) -> None:
        """See `Source`; the session that remains has no messages."""
        await self._connection.client.unsubscribe(self._topic)

    async def close(self) -> None:
        await self._connection.close()


async def subscribe(target: Target, name: str, context: Context) -> MqttSource:
    """Subscribe to the topic, in the session of the client `name`."""
    topic = _topic(target, wildcards=True)
    connection = await _open(target, await Credentials.of(target.authentication, context), context, name)
    async with closed_on_error(connection.close):
        await connection.client.subscribe(topic, qos=min(1, _quality(target)), timeout=time_left(context))
    return MqttSource(connection, topic)


def _topic(target: Target, *, wildcards: bool) -> str:
    topic = target.address
    forbidden = "\0" if wildcards else "\0+#"
    if not topic or len(topic.encode()) > _MAX_TOPIC_BYTES or set(forbidden) & set(topic):
        raise document_fault(f"{topic!r} is not a topic of MQTT")
    return topic


def _quality(target: Target) -> int:
    quality = target.binding.get("qos", 1)
    if isinstance(quality, bool) or quality not in (0, 1, 2):
        raise document_fault("the binding qos is not within 0 to 2")
    return int(quality)


async def _open(target: Target, credentials: Credentials | None, context: Context, session: str = "") -> MqttConnection:
    endpoint, server = target.endpoint, target.server
    if credentials is not None and credentials.token:
        raise document_fault("with.authentication: MQTT takes a username and a password: use basic")
    host, port = await dial(endpoint.host, endpoint.port, address_policy=context.settings.address_policy)
    is_v5 = server.protocol == "mqtt5" or server.version.startswith("5")
    options: dict[str, Any] = {} if is_v5 else {"clean_session": not session}
    if is_v5:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = EXPIRY_SECONDS if session else 0
        properties.ReceiveMaximum = MAX_QUEUED
        properties.MaximumPacketSize = MAX_PACKET_BYTES
        options = {"clean_start": not session, "properties": properties}
    client = aiomqtt.Client(
        host,
        port,
        username=None if credentials is None else credentials.username,
        password=None if credentials is None else credentials.password,
        identifier=session or f"flowhook-{secrets.token_hex(8)}",
        protocol=aiomqtt.ProtocolVersion.V5 if is_v5 else aiomqtt.ProtocolVersion.V311,
        tls_context=await asyncio.to_thread(NamedTls.of, endpoint.host) if endpoint.tls else None,
        timeout=time_left(context),
        max_queued_incoming_messages=MAX_QUEUED,
        logger=_silent,
        **options,
    )
    _bound_packets(client._client)  # noqa: SLF001 - pyproject.toml pins the versions that have it
    if session:
        client._client.manual_ack_set(True)  # noqa: SLF001 - see `MqttSource.acknowledge`
    try:
        await client.__aenter__()
    except BaseException:
        client._client._sock_close()  # noqa: SLF001 - aiomqtt leaves it open to a server that says nothing
        raise
    return MqttConnection(client, is_v5)


def _bound_packets(client: Any) -> None:
    """Have a client of paho give up a connection on which a packet is larger than `MAX_PACKET_BYTES`."""
    read = client._sock_recv  # noqa: SLF001

    def receive(size: int) -> bytes:
        if size > MAX_PACKET_BYTES:  # paho asks for all that is left of a packet
            raise OSError("the broker sends too large a packet")
        received: bytes = read(size)
        return received

    client._sock_recv = receive  # noqa: SLF001


def fault_of(target: Target, problem: aiomqtt.MqttError) -> TaskFault:
    code = getattr(problem, "rc", None)
    return exchange_fault(target, problem, refused=getattr(code, "value", code) in _CREDENTIALS)
