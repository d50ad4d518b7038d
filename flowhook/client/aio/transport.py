"""Performs the calls of a client over one channel."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from time import monotonic
from typing import Any, TypeVar

from flowhook.client.asyncio_calls import Credentials, RpcError, StreamMethod, UnaryMethod, open_channel, sleep
from flowhook.client.retrying import CallRetries, translate
from flowhook.errors import UnavailableError
from flowhook.model.audit_reason import reason_metadata

Q = TypeVar("Q")
R = TypeVar("R")
T = TypeVar("T")


class AsyncTransport:
    """A channel to the router at `target`, or to several; `timeout`: seconds that a call may take, retries included."""

    def __init__(self, target: str, token: str, credentials: Credentials | None, timeout: float) -> None:
        self.target = target
        self.timeout = timeout
        self.channel, self._metadata = open_channel(target, token, credentials)

    async def call(
        self,
        method: UnaryMethod[Q, R],
        request: Q,
        *,
        repeatable: bool = True,
        timeout: float | None = None,  # noqa: ASYNC109 - the deadline of a call
        check: Callable[[R], None] | None = None,
    ) -> R:
        """Call a method and return its response; if `repeatable`, retry while the router is unavailable.

        `check` may raise an UnavailableError that the response reports, and for which the call is retried as well.

        Raises:
            FlowhookError: the call failed.
        """
        attempts = CallRetries(repeatable, self.target, self.timeout if timeout is None else timeout, monotonic())
        while True:
            metadata = (*self._metadata, *reason_metadata())
            try:
                response = await method(request, timeout=attempts.remaining(monotonic()), metadata=metadata)
                if check is not None:
                    check(response)
            except (RpcError, UnavailableError) as error:
                await sleep(attempts.delay_after(error, monotonic()))
            else:
                return response

    async def stream(self, method: StreamMethod[Q, R], request: Q, convert: Callable[[R], T]) -> AsyncIterator[T]:
        """Yield the converted messages of a stream, which ends when the iterator is closed.

        Raises:
            FlowhookError: the call failed, or the stream broke off.
        """
        attempts = CallRetries(False, self.target, self.timeout, monotonic())
        begun = False
        while True:
            stream: Any = None
            try:
                stream = method(request, metadata=self._metadata)
                async for message in stream:
                    begun = True
                    yield convert(message)
            except RpcError as error:
                if begun:
                    raise translate(error, self.target) from None
                delay = attempts.delay_after(error, monotonic())
            else:
                return
            finally:
                if stream is not None:  # else there is no owner
                    stream.cancel()
            await sleep(delay)

    async def close(self) -> None:
        """Close the channel; calls in progress fail."""
        await self.channel.close(None)
