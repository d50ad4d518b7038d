"""Subscriptions of flows to brokers: each is a session that receives one message at a time.

A message is acknowledged by the call after the one that returned it: the journal has it by then. A session stays open
between two calls, for `IDLE_SECONDS`. Where it is lost with its process, a new one continues: what the broker sends
again although the journal has it is recognised if the protocol gives messages an identity.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

import orjson

from flowhook.asyncio_tasks import end_tasks
from flowhook.errors import FlowhookError
from flowhook.payloads.content_type import is_json
from flowhook.process.settings import RunnerSettings
from flowhook.sharing import Principal, Seat, SharedLimit
from flowhook.sharing.table import RunnerLimits
from runner.components.asyncapi.documents import ChannelOperation
from runner.components.asyncapi.messages import InboundMessage, located
from runner.components.base import as_text
from runner.components.connection_pool import attempt
from runner.interpreter.errors import Kind, fault

IDLE_SECONDS: Final = 60.0
REPEAT_SECONDS: Final = 2.0  # how long a new session waits for a message that only has to be acknowledged


class Source(Protocol):
    """Where the messages of a session come from; an object of a protocol's module, which explains its errors."""

    async def receive(self) -> InboundMessage:
        """Wait for a message. May be cancelled."""
        ...

    async def acknowledge(self, message: InboundMessage) -> None:
        """Tell the broker that a message need not be sent again."""
        ...

    async def end(self) -> None:
        """Have the broker forget the subscription, which is over."""
        ...

    async def close(self) -> None:
        """Close the connection; what is not acknowledged will be sent again."""
        ...


Explained = Callable[[], AbstractContextManager[None]]


@dataclass(slots=True, eq=False)
class _Session:
    source: Source
    explained: Explained
    seat: Seat  # what it holds of the limit
    repeated: Any = None  # identity of the last message that the journal has; the broker may send it again
    is_acknowledged: bool = True  # whether that message is acknowledged, as far as is known
    held: InboundMessage | None = None  # message that was received and is not acknowledged
    nonce: str = ""  # names that message
    used_at: float = 0.0

    async def receive(self) -> InboundMessage:
        """Wait for a message; TaskFault (communication): the connection was lost."""
        with self.explained():
            return await self.source.receive()

    async def acknowledge(self, message: InboundMessage) -> None:
        with self.explained():
            await self.source.acknowledge(message)


class Subscriptions:
    """The subscriptions of a process; see `SharedResources`."""

    def __init__(self, _settings: RunnerSettings, /, *, limits: RunnerLimits | None = None) -> None:
        self._sessions: dict[str, _Session] = {}  # those that no call uses, by name
        self._limit = SharedLimit((limits or RunnerLimits()).subscriptions)
        self._sweeper: asyncio.Task[None] | None = None

    async def close(self) -> None:
        if self._sweeper is not None:
            await end_tasks([self._sweeper])
        while self._sessions:
            _, session = self._sessions.popitem()
            await _close(session)

    async def receive(
        self,
        flow_id: str,
        name: str,
        last: dict[str, Any] | None,
        seconds: float,
        open_: Callable[[], Awaitable[Source]],
        *,
        explained: Explained,
        release: bool,
    ) -> tuple[InboundMessage | None, dict[str, Any] | None]:
        """Acknowledge the `last` message, and return the next one with its token, which is JSON.

        Without a message within `seconds` both are None. With `release` the session ends. `open_` opens another one.
        `explained` gives a context for what its library raises.

        Raises:
            TaskFault: the broker can't be reached, or there are too many sessions (communication).
        """
        session = self._sessions.pop(name, None)
        if session is None:
            if release and last is None:
                return None, None
            session = await self._open(flow_id, last, open_, explained)
        try:
            received = await _next(session, last, 0.0 if release else seconds)
        except BaseException:
            release = True  # the state of the session is not known
            raise
        else:
            if release:
                await attempt(session.source.end())
            return received
        finally:
            await self._put_back(name, session, release=release)

    async def _open(
        self, flow_id: str, last: dict[str, Any] | None, open_: Callable[[], Awaitable[Source]], explained: Explained
    ) -> _Session:
        try:
            seat = self._limit.acquire(Principal("flow", flow_id))
        except FlowhookError as problem:
            raise fault(Kind.COMMUNICATION, f"asyncapi: {problem.message}", status=503) from None
        try:
            with explained():
                source = await open_()
        except BaseException:
            seat.release()
            raise
        repeated = None if last is None else last["identity"]
        return _Session(source, explained, seat, repeated, is_acknowledged=repeated is None)

    async def _put_back(self, name: str, session: _Session, *, release: bool) -> None:
        if release or name in self._sessions:
            await _close(session)
            return
        session.used_at = time.monotonic()
        self._sessions[name] = session
        if self._sweeper is None or self._sweeper.done():
            self._sweeper = asyncio.create_task(self._sweep(), name="idle subscriptions")

    async def _sweep(self) -> None:
        """Close sessions that no call has used for long: their executions have ended, or continue elsewhere."""
        while self._sessions:
            await asyncio.sleep(IDLE_SECONDS / 4)
            latest = time.monotonic() - IDLE_SECONDS
            for name, session in list(self._sessions.items()):
                # a call may have taken it while others were closed
                if session.used_at < latest and self._sessions.get(name) is session:
                    del self._sessions[name]
                    await _close(session)


async def _next(
    session: _Session, last: dict[str, Any] | None, seconds: float
) -> tuple[InboundMessage | None, dict[str, Any] | None]:
    if session.held is not None and last is not None and session.nonce == last["nonce"]:
        await session.acknowledge(session.held)
        session.repeated, session.held, session.is_acknowledged = session.held.identity, None, True
    if not seconds and session.is_acknowledged:
        return None, None
    try:
        async with asyncio.timeout(seconds or REPEAT_SECONDS):
            while session.held is None:
                message = await session.receive()
                if message.is_repeated and message.identity is not None and message.identity == session.repeated:
                    await session.acknowledge(message)
                    session.is_acknowledged = True
                    if not seconds:
                        return None, None
                else:
                    session.held, session.nonce = message, secrets.token_hex(8)
    except TimeoutError:
        return None, None
    if not seconds:
        return None, None
    return session.held, {"nonce": session.nonce, "identity": session.held.identity}


async def _close(session: _Session) -> None:
    with session.seat:
        await attempt(session.source.close())


def as_json(message: InboundMessage, operation: ChannelOperation) -> dict[str, Any]:
    """Return a message as flows see it: `{payload, headers, correlationId}`.

    The payload is parsed if it is JSON, a string if it is text, else in base64.
    """
    content: dict[str, Any] = {"payload": _payload(message, operation), "headers": dict(message.headers)}
    correlation = located(operation.correlation, content["payload"], message.headers) or message.correlation
    return {**content, "correlationId": as_text(correlation)} if correlation else content


def _payload(message: InboundMessage, operation: ChannelOperation) -> Any:
    if is_json(message.content_type or operation.content_type):
        with suppress(orjson.JSONDecodeError):
            return orjson.loads(message.payload)
    try:
        return message.payload.decode()
    except UnicodeDecodeError:
        return base64.b64encode(message.payload).decode()
