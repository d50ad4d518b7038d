"""AsyncAPI over NATS.

A message to a subject that a JetStream stream stores is acknowledged, and stored once: a repetition has the same
`Nats-Msg-Id` (within the stream's `duplicate_window`). Without a stream, NATS delivers at most once.

Source: https://github.com/asyncapi/bindings/tree/master/nats (0.1.0), https://docs.nats.io/nats-concepts/jetstream.
"""

from __future__ import annotations

import re
from typing import Any, Final

import nats.errors
import nats.js.errors
from cachetools import TTLCache
from nats.aio.client import Client

from runner.authentication.policy import Policy
from runner.components.asyncapi.connections import ConnectionPool, Credentials, Target, time_left
from runner.components.asyncapi.documents import document_fault
from runner.components.asyncapi.messages import OutboundMessage
from runner.components.base import Context
from runner.interpreter.errors import Kind, TaskFault, fault
from runner.outbound.bound_client import IDEMPOTENCY_KEY
from runner.outbound.dns import NamedTls, dial

MESSAGE_ID: Final = "Nats-Msg-Id"
_SUBJECT: Final = re.compile(r"[^\s.*>]+(\.[^\s.*>]+)*")
_LINE_BREAK: Final = re.compile(r"[\r\n\0]")
_NAME: Final = re.compile(r"[!-9;-~]+")  # printable ASCII without a colon
_UNAVAILABLE: Final = 503
_KEPT_SUBJECTS: Final = 1000
_KEPT_SECONDS: Final = 60.0
_PENDING_BYTES: Final = 2 * 1024 * 1024


class NatsConnection:
    """A connection, which never reconnects by itself."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._streams: TTLCache[str, str] = TTLCache(_KEPT_SUBJECTS, _KEPT_SECONDS)

    async def close(self) -> None:
        """See `Closable`."""
        await self.client.close()

    async def stream_of(self, subject: str) -> str:
        """Return the name of the stream that stores a subject; empty: none."""
        if subject not in self._streams:
            try:
                self._streams[subject] = await self.client.jetstream().find_stream_name_by_subject(subject)
            except (
                nats.js.errors.NotFoundError,
                nats.js.errors.ServiceUnavailableError,
                nats.errors.NoRespondersError,
            ):
                self._streams[subject] = ""
        return self._streams[subject]


async def publish(
    target: Target, message: OutboundMessage, authentication: Policy | None, context: Context
) -> dict[str, Any] | None:
    """Publish a message; returns `{stream, sequence, duplicate}` if a stream stores it."""
    subject = target.address
    if not _SUBJECT.fullmatch(subject):
        raise document_fault(f"{subject!r} is not a subject of NATS that can be published to")
    headers = _headers(message)
    credentials = await Credentials.of(authentication, context)
    try:
        async with context.shared.get(ConnectionPool).use(
            target, credentials, lambda: _open(target, credentials, context)
        ) as connection:
            if not await connection.stream_of(subject):
                await connection.client.publish(subject, message.payload, headers=headers)
                await connection.client.flush()
                return None
            stored = await connection.client.jetstream().publish(
                subject, message.payload, headers=headers, timeout=time_left(context)
            )
            return {"stream": stored.stream, "sequence": stored.seq, "duplicate": bool(stored.duplicate)}
    except nats.errors.Error as problem:
        raise nats_fault(target, problem) from None


def _headers(message: OutboundMessage) -> dict[str, str]:
    headers = {"Content-Type": message.content_type, IDEMPOTENCY_KEY: message.key, MESSAGE_ID: message.key}
    headers |= message.headers
    for name, value in headers.items():
        if not _NAME.fullmatch(name) or _LINE_BREAK.search(value):
            raise document_fault(f"with.message.headers: NATS can't carry the header {name!r}")
    return headers


async def _open(target: Target, credentials: Credentials | None, context: Context) -> NatsConnection:
    endpoint = target.endpoint
    host, port = await dial(endpoint.host, endpoint.port, address_policy=context.settings.address_policy)
    given = credentials or Credentials()
    client = Client()
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
            tls=NamedTls.of(endpoint.host),
            tls_hostname=endpoint.host,
            user=given.username or None,
            password=given.password or None,
            token=given.token or None,
        )
    except (nats.errors.Error, OSError) as problem:
        await client.close()
        raise nats_fault(target, problems[0] if problems else problem) from None
    return NatsConnection(client)


def nats_fault(target: Target, problem: Exception) -> TaskFault:
    """Return the fault for an error of the library, without its message, which may hold anything."""
    if "authorization" in str(problem).lower():
        return fault(Kind.AUTHENTICATION, f"{target.endpoint} refuses the credentials")
    if isinstance(problem, nats.errors.MaxPayloadError):
        return fault(Kind.CONFIGURATION, f"{target.endpoint} takes no message of this size")
    if isinstance(problem, TimeoutError):
        return fault(Kind.TIMEOUT, f"{target.endpoint} did not answer in time")
    detail = f"{target.endpoint}: the exchange failed ({type(problem).__name__})"
    return fault(Kind.COMMUNICATION, detail, status=_UNAVAILABLE)
