"""AsyncAPI over Kafka.

A broker names the addresses of the others: the address policy is applied to each connection, by name and address.

Source: https://github.com/asyncapi/bindings/tree/master/kafka (0.5.0).
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

import aiokafka.client
import attrs
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.abc import AbstractTokenProvider
from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, TopicAuthorizationFailedError

from flowhook import limits
from flowhook.security.address_policy import AddressPolicy
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
from runner.interpreter.errors import Kind, TaskFault, fault
from runner.outbound.bound_client import IDEMPOTENCY_KEY
from runner.outbound.dns import NamedTls, dial

_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
_MECHANISMS: Final = {"scramSha256": "SCRAM-SHA-256", "scramSha512": "SCRAM-SHA-512"}
_MAX_REQUEST_BYTES: Final = limits.MAX_RESULT_BYTES + 64 * limits.KIB
ERRORS: Final = (KafkaError,)
# in the names of errors that are about the credentials
_AUTHENTICATION: Final = ("AuthenticationFailed", "SaslAuthentication", "UnsupportedSaslMechanism")

logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # its records name hosts, and tell what errors say better


@dataclass(slots=True)
class _Guard:
    policy: AddressPolicy
    problem: TaskFault | None = None  # why it let nothing through, the last time


# of the producer or the consumer that the current task uses, or that has started the task
_guard: Final[ContextVar[_Guard]] = ContextVar("_guard")


class _BoundedConnection(AIOKafkaConnection):  # type: ignore[misc] # aiokafka has no types
    """A connection that reads no larger frame than `MAX_RECEIVED_BYTES`; each is the response to a request."""

    def _create_reader_task(self) -> Any:
        self._bound = ReadBound(self._reader)
        return super()._create_reader_task()

    def _handle_frame(self, resp: bytes) -> None:
        self._bound.renew()
        super()._handle_frame(resp)


async def _create_conn(
    host: str, port: int, *, ssl_context: ssl.SSLContext | None = None, **options: Any
) -> AIOKafkaConnection:
    """Create a connection as aiokafka does, to an address that the policy allows."""
    guard = _guard.get(None)
    if guard is None:  # somebody else's, such as a component that an installed package provides
        return await create_conn(host, port, ssl_context=ssl_context, **options)
    try:
        address, port = await dial(host, port, address_policy=guard.policy)
    except TaskFault as problem:
        guard.problem = problem
        raise OSError(str(problem)) from None  # what aiokafka expects of a broker that can't be reached
    tls = None if ssl_context is None else await asyncio.to_thread(NamedTls.of, host)
    connection = _BoundedConnection(address, port, ssl_context=tls, **options)
    await connection.connect()
    return connection


# the only place where aiokafka opens connections; pyproject.toml pins the versions that have it
if aiokafka.client.create_conn is not create_conn:
    raise RuntimeError("the addresses of brokers can't be checked with this version of aiokafka")
aiokafka.client.create_conn = _create_conn


@attrs.define(eq=False, repr=False)
class _Token(AbstractTokenProvider):  # type: ignore[misc] # aiokafka has no types
    _token: str

    async def token(self) -> str:
        return self._token


@attrs.define(eq=False, repr=False)
class KafkaConnection:
    """A producer."""

    _producer: Any
    _guard: _Guard

    async def send(self, topic: str, payload: bytes, headers: list[tuple[str, bytes]]) -> Any:
        """Send a message; returns where it is once all replicas in sync have it."""
        _guard.set(self._guard)
        return await self._producer.send_and_wait(topic, payload, headers=headers)

    async def close(self) -> None:
        # It lasts until what was not sent is given up: as long as a request may. Cancelled earlier, it would never end
        # the producer's tasks.
        await asyncio.shield(asyncio.create_task(self._producer.stop(), name="end of a Kafka producer"))


async def publish(target: Target, message: OutboundMessage, context: Context) -> dict[str, Any]:
    """Publish a message; returns `{topic, partition, offset}` once all replicas in sync have it."""
    topic = _topic(target)
    headers = {"content-type": message.content_type, IDEMPOTENCY_KEY: message.key, **message.all_headers}
    encoded = [(name, value.encode()) for name, value in headers.items()]
    async with pooled(target, context, _open) as connection:
        stored = await connection.send(topic, message.payload, encoded)
    return {"topic": stored.topic, "partition": stored.partition, "offset": stored.offset}


async def _open(target: Target, credentials: Credentials | None, context: Context) -> KafkaConnection:
    options = _options(target, credentials, context)
    producer = AIOKafkaProducer(acks="all", max_request_size=_MAX_REQUEST_BYTES, **options)
    return KafkaConnection(producer, await _started(producer, context))


@attrs.define(eq=False, repr=False)
class KafkaSource:
    """A consumer with the offsets of a group of its own."""

    _consumer: Any
    _guard: _Guard

    async def receive(self) -> InboundMessage:
        _guard.set(self._guard)
        record = await self._consumer.getone()
        headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers or ()}
        identity = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
        return InboundMessage(record.value or b"", headers, headers.get("content-type", ""), identity, is_repeated=True)

    async def acknowledge(self, message: InboundMessage) -> None:
        _guard.set(self._guard)
        place = message.identity or {}
        partition = TopicPartition(place["topic"], place["partition"])
        await self._consumer.commit({partition: place["offset"] + 1})

    async def end(self) -> None:
        """See `Source`; brokers remove the offsets of a group that is not used."""

    async def close(self) -> None:
        await self._consumer.stop()


async def subscribe(target: Target, name: str, context: Context) -> KafkaSource:
    """Consume all partitions of the topic, with the offsets of the group `name`; a new one starts at their ends.

    The group has no members: a subscription has one consumer, and needs no distribution of partitions.
    """
    topic = _topic(target)
    credentials = await Credentials.of(target.authentication, context)
    consumer = AIOKafkaConsumer(
        group_id=name,
        enable_auto_commit=False,
        auto_offset_reset="latest",
        max_poll_records=1,
        max_partition_fetch_bytes=_MAX_REQUEST_BYTES,
        fetch_max_bytes=_MAX_REQUEST_BYTES,
        **_options(target, credentials, context),
    )
    guard = await _started(consumer, context)
    async with closed_on_error(consumer.stop):
        await _assign(consumer, topic, target)
    return KafkaSource(consumer, guard)


async def _assign(consumer: Any, topic: str, target: Target) -> None:
    """Continue each partition at the offset of the group, and commit the end of those that it has none of."""
    await consumer._client.add_topic(topic)  # noqa: SLF001 - `topics` would fetch the metadata of all topics
    places = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
    if not places:
        raise fault(Kind.COMMUNICATION, f"{target.endpoint} has no topic {topic}", status=404)
    consumer.assign(places)
    ends, new = await consumer.end_offsets(places), {}
    for place in places:
        committed = await consumer.committed(place)
        if committed is None:
            new[place] = ends[place]
        consumer.seek(place, ends[place] if committed is None else committed)
    if new:
        await consumer.commit(new)


def _topic(target: Target) -> str:
    topic = target.binding.get("topic", target.address)
    if not isinstance(topic, str) or not _TOPIC.fullmatch(topic):
        raise document_fault(f"{topic!r} is not a topic of Kafka")
    return topic


def _options(target: Target, credentials: Credentials | None, context: Context) -> dict[str, Any]:
    endpoint = target.endpoint
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    options: dict[str, Any] = {
        "bootstrap_servers": f"{host}:{endpoint.port}",
        "client_id": "flowhook",
        "request_timeout_ms": max(1000, int(time_left(context) * 1000)),
        "ssl_context": ssl.create_default_context() if endpoint.tls else None,  # replaced for each broker
    }
    protocol = "SSL" if endpoint.tls else "PLAINTEXT"
    if credentials is None:
        return {**options, "security_protocol": protocol}
    options["security_protocol"] = f"SASL_{protocol}"
    if credentials.token:
        return {**options, "sasl_mechanism": "OAUTHBEARER", "sasl_oauth_token_provider": _Token(credentials.token)}
    mechanism = next((found for each in target.server.security if (found := _MECHANISMS.get(each))), "PLAIN")
    login = {"sasl_plain_username": credentials.username, "sasl_plain_password": credentials.password}
    return {**options, "sasl_mechanism": mechanism, **login}


async def _started(client: Any, context: Context) -> _Guard:
    """Start a producer or a consumer; returns what stands before its connections."""
    guard = _Guard(context.settings.address_policy)
    _guard.set(guard)
    try:
        async with closed_on_error(client.stop):
            await client.start()
    except KafkaError as problem:
        raise (guard.problem or problem) from None
    return guard


def fault_of(target: Target, problem: KafkaError) -> TaskFault:
    if isinstance(problem, TopicAuthorizationFailedError):
        return fault(Kind.AUTHORIZATION, f"{target.endpoint} does not allow the topic")
    if isinstance(problem, MessageSizeTooLargeError):
        return fault(Kind.CONFIGURATION, f"{target.endpoint} takes no message of this size")
    return exchange_fault(target, problem, refused=any(each in type(problem).__name__ for each in _AUTHENTICATION))
