"""AsyncAPI over NATS.

A message to a subject that a JetStream stream stores is acknowledged, and stored once: a repetition has the same
`Nats-Msg-Id` (within the stream's `duplicate_window`). Without a stream, NATS delivers at most once.

Source: https://github.com/asyncapi/bindings/tree/master/nats (0.1.0), https://docs.nats.io/nats-concepts/jetstream.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import attrs
import nats.errors
from cachetools import TTLCache
from nats.aio.client import Client
from nats.js.api import ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError, ServiceUnavailableError
from nats.protocol.parser import Parser
from typing_extensions import override

from runner.components.asyncapi.connections import (
    MAX_RECEIVED_BYTES,
    Credentials,
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

ERRORS: Final = (nats.errors.Error, OSError)
MESSAGE_ID: Final = "Nats-Msg-Id"
_SUBJECT: Final = re.compile(r"[^\s.*>]+(\.[^\s.*>]+)*")
_LINE_BREAK: Final = re.compile(r"[\r\n\0]")
_NAME: Final = re.compile(r"[!-9;-~]+")  # printable ASCII without a colon
EXPIRY_SECONDS: Final = 86_400.0  # a consumer that nobody uses for so long is removed
MAX_PENDING: Final = 256  # messages that a subscription has received and not handed on
_FETCH_SECONDS: Final = 10.0  # duration of one request for a message
_KEPT_SUBJECTS: Final = 1000
_KEPT_SECONDS: Final = 60.0
_PENDING_BYTES: Final = 2 * 1024 * 1024
_PENDING: Final[Mapping[str, Any]] = {"pending_msgs_limit": MAX_PENDING, "pending_bytes_limit": _PENDING_BYTES}


class _Parser(Parser):
    """A parser that takes no larger message, and no longer line, than `MAX_RECEIVED_BYTES`."""

    @override
    async def parse(self, data: bytes = b"") -> None:
        await super().parse(data)
        if max(self.needed, len(self.buf)) > MAX_RECEIVED_BYTES:
            raise nats.errors.ProtocolError


@attrs.define(eq=False, repr=False)
class NatsConnection:
    """A connection, which never reconnects by itself."""

    client: Client
    _streams: TTLCache[str, str] = attrs.field(init=False, factory=lambda: TTLCache(_KEPT_SUBJECTS, _KEPT_SECONDS))

    async def close(self) -> None:
        await self.client.close()

    async def stream_of(self, subject: str) -> str:
        """Return the name of the stream that stores a subject; empty: none."""
        if subject not in self._streams:
            try:
                self._streams[subject] = await self.client.jetstream().find_stream_name_by_subject(subject)
            except (NotFoundError, ServiceUnavailableError, nats.errors.NoRespondersError):
                self._streams[subject] = ""
        return self._streams[subject]


async def publish(target: Target, message: OutboundMessage, context: Context) -> dict[str, Any] | None:
    """Publish a message; returns `{stream, sequence, duplicate}` if a stream stores it."""
    subject = target.address
    if not _SUBJECT.fullmatch(subject):
        raise document_fault(f"{subject!r} is not a subject of NATS that can be published to")
    headers = _headers(message)
    async with pooled(target, context, _open) as connection:
        if not await connection.stream_of(subject):
            await connection.client.publish(subject, message.payload, headers=headers)
            await connection.client.flush()
            return None
        stored = await connection.client.jetstream().publish(
            subject, message.payload, headers=headers, timeout=time_left(context)
        )
        return {"stream": stored.stream, "sequence": stored.seq, "duplicate": bool(stored.duplicate)}


@attrs.define(eq=False, repr=False)
class NatsSource:
    """A subscription: a durable consumer of a stream, or without a stream what is published meanwhile."""

    _connection: NatsConnection
    _subscription: Any
    _stream: str
    _name: str
    _held: Any = attrs.field(init=False, default=None)  # the message that is not acknowledged, if a stream stores it

    async def receive(self) -> InboundMessage:
        message = await self._next()
        headers = dict(message.headers or {})
        identity = None
        if self._stream:
            self._held, place = message, message.metadata
            identity = {"stream": place.stream, "sequence": place.sequence.stream}
        content_type = headers.get("Content-Type", "")
        return InboundMessage(message.data, headers, content_type, identity, is_repeated=True, native=message)

    async def _next(self) -> Any:
        while True:
            if self._connection.client.is_closed:
                raise nats.errors.ConnectionClosedError
            with suppress(nats.errors.TimeoutError):
                if not self._stream:
                    return await self._subscription.next_msg(_FETCH_SECONDS)
                (message,) = await self._subscription.fetch(1, timeout=_FETCH_SECONDS)
                return message

    async def acknowledge(self, message: InboundMessage) -> None:
        if self._stream:
            self._held = None
            await message.native.ack_sync()

    async def end(self) -> None:
        if self._stream:
            await self._connection.client.jetstream().delete_consumer(self._stream, self._name)

    async def close(self) -> None:
        try:
            if self._held is not None:
                # it is sent again at once, rather than when nobody has acknowledged it for long
                await self._held.nak()
        finally:
            await self._connection.close()


async def subscribe(target: Target, name: str, context: Context) -> NatsSource:
    """Subscribe to the subject; if a stream stores it, with the durable consumer `name`, which begins now."""
    subject = target.address
    if not subject or any(character.isspace() for character in subject):
        raise document_fault(f"{subject!r} is not a subject of NATS")
    queue = target.binding.get("queue", "")
    connection = await _open(target, await Credentials.of(target.authentication, context), context)
    async with closed_on_error(connection.close):
        stream = await connection.stream_of(subject)
        if stream:
            config = ConsumerConfig(
                deliver_policy=DeliverPolicy.NEW, inactive_threshold=EXPIRY_SECONDS, max_ack_pending=1
            )
            jetstream = connection.client.jetstream()
            subscription: Any = await jetstream.pull_subscribe(
                subject, durable=name, stream=stream, config=config, **_PENDING
            )
        else:
            own = queue if isinstance(queue, str) else ""
            subscription = await connection.client.subscribe(subject, queue=own, **_PENDING)
            await connection.client.flush()
    return NatsSource(connection, subscription, stream, name)


def _headers(message: OutboundMessage) -> dict[str, str]:
    headers = {"Content-Type": message.content_type, IDEMPOTENCY_KEY: message.key, MESSAGE_ID: message.key}
    headers |= message.all_headers
    for name, value in headers.items():
        if not _NAME.fullmatch(name) or _LINE_BREAK.search(value):
            raise document_fault(f"with.message.headers: NATS can't carry the header {name!r}")
    return headers


async def _open(target: Target, credentials: Credentials | None, context: Context) -> NatsConnection:
    endpoint = target.endpoint
    host, port = await dial(endpoint.host, endpoint.port, address_policy=context.settings.address_policy)
    given = credentials or Credentials()
    tls = await asyncio.to_thread(NamedTls.of, endpoint.host)  # for a server that asks for it
    client = Client()
    client._ps = _Parser(client)  # noqa: SLF001 - pyproject.toml pins the versions that have it
    problems: list[Exception] = []

    async def remember(problem: Exception) -> None:
        problems.append(problem)

    try:
        await client.connect(
            [f"nats://{f'[{host}]' if ':' in host else host}:{port}"],
            allow_reconnect=False,
            connect_timeout=max(1, int(time_left(context))),
            error_cb=remember,
            max_reconnect_attempts=0,
            pending_size=_PENDING_BYTES,
            tls=tls,
            tls_hostname=endpoint.host,
            user=given.username or None,
            password=given.password or None,
            token=given.token or None,
        )
    except BaseException as problem:
        await client.close()
        if isinstance(problem, ERRORS):
            raise fault_of(target, problems[0] if problems else problem) from None
        raise
    return NatsConnection(client)


def fault_of(target: Target, problem: Exception) -> TaskFault:
    if isinstance(problem, nats.errors.MaxPayloadError):
        return fault(Kind.CONFIGURATION, f"{target.endpoint} takes no message of this size")
    if isinstance(problem, TimeoutError):
        return fault(Kind.TIMEOUT, f"{target.endpoint} did not answer in time")
    return exchange_fault(target, problem, refused="authorization" in str(problem).lower())
