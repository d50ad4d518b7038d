"""AsyncAPI over WebSocket: each message has a connection of its own, a subscription has one as well.

The key of a call, and headers of its message, are those of the handshake, since WebSocket messages have none. Nothing
is acknowledged: what a server sends while nobody is connected is lost.

Source: https://github.com/asyncapi/bindings/tree/master/websockets (0.1.0), RFC 6455.
"""

from __future__ import annotations

from contextlib import AsyncExitStack

import aiohttp
import attrs

from flowhook.payloads.content_type import is_json
from runner.components.asyncapi.connections import Target
from runner.components.asyncapi.http import url_of
from runner.components.asyncapi.messages import InboundMessage, OutboundMessage
from runner.components.base import Context
from runner.interpreter.errors import Kind, fault
from runner.outbound.bound_client import IDEMPOTENCY_KEY


async def publish(target: Target, message: OutboundMessage, context: Context) -> None:
    """Connect, send one message, and close the connection."""
    headers = {IDEMPOTENCY_KEY: message.key, **message.headers}
    async with context.http.websocket(url_of(target), headers=headers, authentication=target.authentication) as socket:
        if is_json(message.content_type) or message.content_type.startswith("text/"):
            await socket.send_str(message.payload.decode())
        else:
            await socket.send_bytes(message.payload)


@attrs.define(eq=False, repr=False)
class WebSocketSource:
    """A connection that messages come over."""

    _socket: aiohttp.ClientWebSocketResponse
    _stack: AsyncExitStack
    _target: Target

    async def receive(self) -> InboundMessage:
        message = await self._socket.receive()
        match message.type:
            case aiohttp.WSMsgType.TEXT:
                return InboundMessage(str(message.data).encode(), {})
            case aiohttp.WSMsgType.BINARY:
                return InboundMessage(bytes(message.data), {})
        raise fault(Kind.COMMUNICATION, f"{self._target.endpoint}: the connection was lost", status=503)

    async def acknowledge(self, message: InboundMessage) -> None:
        """Do nothing: WebSocket has no acknowledgements."""

    async def end(self) -> None:
        """Do nothing: the server knows of nothing but the connection."""

    async def close(self) -> None:
        await self._stack.aclose()


async def subscribe(target: Target, name: str, context: Context) -> WebSocketSource:
    """Connect; `name` is of no use."""
    del name
    client, stack = context.http.without_key(), AsyncExitStack()
    connecting = client.websocket(url_of(target), headers={}, authentication=target.authentication)
    return WebSocketSource(await stack.enter_async_context(connecting), stack, target)
