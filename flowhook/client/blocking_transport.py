"""Performs the calls of the blocking client over one channel."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import grpc

from flowhook.client.channel import CHANNEL_OPTIONS
from flowhook.client.retrying import CallRetries, translate

Q = TypeVar("Q")
R = TypeVar("R")
T = TypeVar("T")


class BlockingTransport:
    """A channel to the router at `target`; `timeout` is the seconds that a call may take, retries included."""

    def __init__(self, target: str, token: str, credentials: grpc.ChannelCredentials | None, timeout: float) -> None:
        self.target = target
        self.timeout = timeout
        self.channel = (
            grpc.insecure_channel(target, options=CHANNEL_OPTIONS)
            if credentials is None
            else grpc.secure_channel(target, credentials, options=CHANNEL_OPTIONS)
        )
        self._metadata = (("authorization", f"Bearer {token}"),)

    def call(
        self,
        method: grpc.UnaryUnaryMultiCallable[Q, R],
        request: Q,
        *,
        repeatable: bool = True,
        timeout: float | None = None,
    ) -> R:
        """Call a method and return its response; if `repeatable`, retry while the router is unavailable.

        Raises:
            FlowhookError: the call failed.
        """
        attempts = CallRetries(repeatable, self.target, self.timeout if timeout is None else timeout, time.monotonic())
        while True:
            try:
                return method(request, timeout=attempts.remaining(time.monotonic()), metadata=self._metadata)
            except grpc.RpcError as error:
                time.sleep(attempts.delay_after(error, time.monotonic()))

    def stream(self, method: grpc.UnaryStreamMultiCallable[Q, R], request: Q, convert: Callable[[R], T]) -> Iterator[T]:
        """Yield the converted messages of a stream, which ends when the iterator is closed.

        Raises:
            FlowhookError: the call failed, or the stream broke off.
        """
        stream = method(request, metadata=self._metadata)
        try:
            for message in stream:
                yield convert(message)
        except grpc.RpcError as error:
            raise translate(error, self.target) from None
        finally:
            stream.cancel()  # type: ignore[no-untyped-call] # the stubs of gRPC lack its type

    def close(self) -> None:
        """Close the channel; calls in progress fail."""
        self.channel.close()
