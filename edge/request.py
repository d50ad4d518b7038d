"""What a request is to those who answer it; how it comes is no concern of theirs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Protocol

from edge.answers import Answer
from edge.body_stream import BodyStream
from edge.http1 import Head


class Overloaded(Exception):  # noqa: N818 - says what is, not what went wrong
    """All that is being received takes more memory than it may."""


class Request(Protocol):
    """A request, as far as it has arrived; what a handler sees of a connection."""

    @property
    def head(self) -> Head:
        """Request line and header fields."""
        ...

    @property
    def address(self) -> IPv4Address | IPv6Address:
        """Where the sender's side of the connection is; IPv4-mapped addresses as IPv4."""
        ...

    @property
    def scheme(self) -> str:
        """`https` over TLS, else `http`."""
        ...

    @property
    def client_names(self) -> tuple[str, ...]:
        """Names in the sender's certificate, which TLS verified; none without one."""
        ...

    async def body(self, max_bytes: int) -> bytes:
        """Receive the body, once; until then the sender is not even told to continue.

        Raises:
            BodyTooLargeError: it is larger than `max_bytes`.
            Overloaded: there is no memory for it now.
            MalformedRequestError: it is not framed as it should be.
            StreamClosedError: the sender went away.
        """
        ...

    async def receive(self, max_bytes: int, in_memory: int) -> bytes | BodyStream:
        """Receive the body, once, or begin to: what has more than `in_memory` bytes comes a piece at a time.

        Raises:
            BodyTooLargeError: it is larger than `max_bytes`.
            Overloaded: there is no memory for it now.
            MalformedRequestError: it is not framed as it should be.
            StreamClosedError: the sender went away.
        """
        ...

    async def hold(self, answer: Coroutine[Any, Any, Answer]) -> Answer:
        """Wait for an answer for as long as the sender is there; what the answer raises goes through.

        Raises:
            StreamClosedError: the sender went away; `answer` was cancelled.
        """
        ...


Handler = Callable[[Request], Awaitable[Answer]]
"""Answers a request. Must not raise but for what `Request.body` raises."""
