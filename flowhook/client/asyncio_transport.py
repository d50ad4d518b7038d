"""Performs the calls of the asyncio client over one channel."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import grpc
import grpc.aio

from flowhook.client import channel
from flowhook.client.retrying import CallRetries, translate
from flowhook.errors import UnavailableError
from flowhook.model.audit_reason import reason_metadata

Q = TypeVar("Q")
R = TypeVar("R")
T = TypeVar("T")


class AsyncTransport:
    """A channel to the router at `target`, or to several; `timeout`: seconds that a call may take, retries included."""

    def __init__(self, target: str, token: str, credentials: grpc.ChannelCredentials | None, timeout: float) -> None:
        self.target = target
        self.timeout = timeout
        self.channel = channel.connect(target, token, credentials)

    async def call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Q, R],
        request: Q,
        *,
        repeatable: bool = True,
        timeout: float | None = None,  # noqa: ASYNC109 - the deadline of a call
        check: Callable[[R], None] = lambda _response: None,
    ) -> R:
        """Call a method and return its response; if `repeatable`, retry while the router is unavailable.

        `check` may raise an UnavailableError that the response reports, and for which the call is retried as well.

        Raises:
            FlowhookError: the call failed.
        """
        attempts = CallRetries(repeatable, self.target, self.timeout if timeout is None else timeout, time.monotonic())
        while True:
            try:
                response = await method(
                    request, timeout=attempts.remaining(time.monotonic()), metadata=reason_metadata()
                )
                check(response)
            except (grpc.aio.AioRpcError, UnavailableError) as error:
                await asyncio.sleep(attempts.delay_after(error, time.monotonic()))
            else:
                return response

    async def stream(
        self, method: grpc.aio.UnaryStreamMultiCallable[Q, R], request: Q, convert: Callable[[R], T]
    ) -> AsyncIterator[T]:
        """Yield the converted messages of a stream, which ends when the iterator is closed.

        Raises:
            FlowhookError: the call failed, or the stream broke off.
        """
        attempts = CallRetries(False, self.target, self.timeout, time.monotonic())
        begun = False
        while True:
            stream = method(request)
            try:
                async for message in stream:
                    begun = True
                    yield convert(message)
            except grpc.aio.AioRpcError as error:
                if begun:
                    raise translate(error, self.target) from None
                delay = attempts.delay_after(error, time.monotonic())
            else:
                return
            finally:
                stream.cancel()
            await asyncio.sleep(delay)

    async def close(self) -> None:
        """Close the channel; calls in progress fail."""
        await self.channel.close(None)
