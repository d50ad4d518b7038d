"""Performs the calls of the blocking client over one channel."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import grpc

from flowhook.client.blocking_following_channel import BlockingFollowingChannel
from flowhook.client.channel import CHANNEL_OPTIONS
from flowhook.client.retrying import CallRetries, translate
from flowhook.errors import UnavailableError
from flowhook.model.audit_reason import reason_metadata
from flowhook.process.router_addresses import split_addresses

Q = TypeVar("Q")
R = TypeVar("R")
T = TypeVar("T")


class BlockingTransport:
    """A channel to the router at `target`, or to several; `timeout`: seconds that a call may take, retries included."""

    def __init__(self, target: str, token: str, credentials: grpc.ChannelCredentials | None, timeout: float) -> None:
        self.target = target
        self.timeout = timeout
        self._metadata = (("authorization", f"Bearer {token}"),)

        def open_one(address: str) -> grpc.Channel:
            if credentials is None:
                return grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
            return grpc.secure_channel(address, credentials, options=CHANNEL_OPTIONS)

        addresses = split_addresses(target) if "," in target else (target,)
        self.channel = BlockingFollowingChannel(addresses, open_one, self._metadata)

    def call(
        self,
        method: grpc.UnaryUnaryMultiCallable[Q, R],
        request: Q,
        *,
        repeatable: bool = True,
        timeout: float | None = None,
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
                response = method(
                    request,
                    timeout=attempts.remaining(time.monotonic()),
                    metadata=(*self._metadata, *reason_metadata()),
                )
                check(response)
            except (grpc.RpcError, UnavailableError) as error:
                time.sleep(attempts.delay_after(error, time.monotonic()))
            else:
                return response

    def stream(self, method: grpc.UnaryStreamMultiCallable[Q, R], request: Q, convert: Callable[[R], T]) -> Iterator[T]:
        """Yield the converted messages of a stream, which ends when the iterator is closed.

        Raises:
            FlowhookError: the call failed, or the stream broke off.
        """
        attempts = CallRetries(False, self.target, self.timeout, time.monotonic())
        begun = False
        while True:
            stream = None
            try:
                stream = method(request, metadata=self._metadata)
                for message in stream:
                    begun = True
                    yield convert(message)
            except grpc.RpcError as error:
                if begun:
                    raise translate(error, self.target) from None
                delay = attempts.delay_after(error, time.monotonic())
            else:
                return
            finally:
                if stream is not None:  # else there is no owner
                    stream.cancel()  # type: ignore[no-untyped-call] # the stubs of gRPC lack its type
            time.sleep(delay)

    def close(self) -> None:
        """Close the channel; calls in progress fail."""
        self.channel.close()
