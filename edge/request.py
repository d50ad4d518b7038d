"""The request interface that handlers see, independent of the transport."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Protocol

from edge.body_stream import BodyStream
from edge.http1 import Head
from edge.http_responses import Response


class Overloaded(Exception):  # noqa: N818 - names a state, not an error
    """Requests being received exceed the memory limit."""


class Request(Protocol):
    """A request that may still be arriving, as a handler sees it."""

    @property
    def head(self) -> Head:
        """Request line and header fields."""
        ...

    @property
    def address(self) -> IPv4Address | IPv6Address:
        """Address of the sender's side of the connection; IPv4-mapped addresses as IPv4."""
        ...

    @property
    def scheme(self) -> str:
        """`https` over TLS, else `http`."""
        ...

    @property
    def client_names(self) -> tuple[str, ...]:
        """Names in the sender's certificate, verified by TLS; empty without a certificate."""
        ...

    async def body(self, max_bytes: int) -> bytes:
        """Receive the body; call it once. No `100 Continue` is sent before.

        Raises:
            BodyTooLargeError: the body is larger than `max_bytes`.
            Overloaded: there is no memory for it now.
            MalformedRequestError: its framing is invalid.
            StreamClosedError: the sender disconnected.
        """
        ...

    async def receive(self, max_bytes: int, in_memory: int) -> bytes | BodyStream:
        """Receive the body, or a stream of it if it has more than `in_memory` bytes; call it once.

        Raises:
            BodyTooLargeError: the body is larger than `max_bytes`.
            Overloaded: there is no memory for it now.
            MalformedRequestError: its framing is invalid.
            StreamClosedError: the sender disconnected.
        """
        ...

    async def hold(self, answer: Coroutine[Any, Any, Response]) -> Response:
        """Wait for a response for as long as the sender is connected; exceptions of `answer` propagate.

        Raises:
            StreamClosedError: the sender disconnected; `answer` was cancelled.
        """
        ...


Handler = Callable[[Request], Awaitable[Response]]
"""Handles a request. Must not raise anything that `Request.body` does not raise."""
