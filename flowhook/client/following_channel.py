"""A gRPC channel over several routers that starts each call on the one that owns the shard.

Calls are not repeated here. One that can't be finished ends with UNAVAILABLE and one of the reasons in `router_errors`,
and callers repeat what may be repeated, as they do after a restart of a single router. What is added is when that
happens: at once when another owner is known, even if the former one is paused and its connection open.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import grpc
import grpc.aio

from flowhook.client.owner_watch import OwnerChannel, OwnerWatch
from flowhook.client.router_errors import ANSWER_SECONDS, ANY_ROUTER, is_unanswered, lost, replaced, unserved

T = TypeVar("T")

_EOF: Final = grpc.aio.EOF  # type: ignore[attr-defined] # the stubs of gRPC lack it

OWNER_SECONDS: Final = 1.0
"""Time that a call waits for an owner that serves, unless it is made with `wait_for_ready`: then until its timeout."""


class FollowingChannel(grpc.aio.Channel):
    """A channel that follows the owner. Unary calls are coroutines, streams are `FollowingStream`.

    Attributes:
        watch: knows the routers.
        open_plain: opens a channel to a single router that presents no token.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        open_channel: Callable[[str], grpc.aio.Channel],
        open_plain: Callable[[str], grpc.aio.Channel],
    ) -> None:
        """Follow the owner that some routers report.

        Args:
            addresses: of these routers.
            open_channel: opens a channel to a single router.
            open_plain: opens one that presents no token.

        """
        self.watch = OwnerWatch(addresses, open_channel)
        self.open_plain = open_plain

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close(None)

    async def close(self, grace: float | None = None) -> None:
        """Close the channels to all routers; calls in progress have `grace` seconds to finish."""
        await self.watch.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: FBT001, FBT002 - the base class's signature
        """Not supported: the state of the connection is a different one for each router."""
        raise NotImplementedError("a channel over several routers has no single state")

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Not supported, see `get_state`."""
        raise NotImplementedError("a channel over several routers has no single state")

    async def channel_ready(self) -> None:
        """Wait until an owner serves."""
        await self.watch.owner(float("inf"))

    def unary_unary(self, method: Any, *_: Any, **options: Any) -> Any:
        """Return the method; a call is a coroutine."""

        def call(
            request: Any, *, timeout: float | None = None, wait_for_ready: bool | None = None, **more: Any
        ) -> Coroutine[Any, Any, Any]:
            if method.startswith(ANY_ROUTER):
                return self._unary_anywhere(method, options, request, timeout, more)
            more["wait_for_ready"] = wait_for_ready
            return self._unary(("unary_unary", method, options), request, timeout, more)

        return call

    def unary_stream(self, method: Any, *_: Any, **options: Any) -> Any:
        """Return the method; a call is a `FollowingStream`."""
        return self._streaming("unary_stream", method, options)

    def stream_unary(self, method: Any, *_: Any, **options: Any) -> Any:
        """Return the method; a call is a `FollowingStream`."""
        return self._streaming("stream_unary", method, options)

    def stream_stream(self, method: Any, *_: Any, **options: Any) -> Any:
        """Return the method; a call is a `FollowingStream`."""
        return self._streaming("stream_stream", method, options)

    async def _unary(self, method: Any, request: Any, timeout: float | None, more: Mapping[str, Any]) -> Any:  # noqa: ASYNC109 - the deadline of a call
        ownership, left = await _owner(self.watch, timeout, wait=bool(more["wait_for_ready"]))
        call = ownership.method(*method)(request, timeout=left, **more)
        ownership.add(call)
        return await _result(call, call, ownership)

    async def _unary_anywhere(
        self,
        method: str,
        options: Mapping[str, Any],
        request: Any,
        timeout: float | None,  # noqa: ASYNC109 - the deadline of a call
        more: Mapping[str, Any],
    ) -> Any:
        deadline = time.monotonic() + (float("inf") if timeout is None else timeout)
        problems: dict[str, grpc.RpcError | None] = {}
        for address, channel in self.watch.seeds().items():
            left = max(deadline - time.monotonic(), 0.001)
            stub: Any = channel.unary_unary(method, **options)
            try:
                return await stub(request, timeout=min(left, ANSWER_SECONDS), **more)
            except grpc.aio.AioRpcError as error:
                if not is_unanswered(error):
                    raise
                problems[address] = error
        raise unserved(problems)

    def _streaming(self, kind: str, method: Any, options: Mapping[str, Any]) -> Callable[..., FollowingStream]:
        def call(
            requests: Any = None, *, timeout: float | None = None, wait_for_ready: bool | None = None, **more: Any
        ) -> FollowingStream:
            async def begin() -> tuple[OwnerChannel, Any]:
                ownership, left = await _owner(self.watch, timeout, wait=bool(wait_for_ready))
                stub = ownership.method(kind, method, options)
                return ownership, stub(requests, timeout=left, wait_for_ready=wait_for_ready, **more)

            return FollowingStream(begin)

        return call


class FollowingStream:
    """A streaming call, which begins with its first operation. Its methods are those of the calls of `grpc.aio`."""

    def __init__(self, begin: Callable[[], Awaitable[tuple[OwnerChannel, Any]]]) -> None:
        self._begin = begin
        self._beginning = asyncio.Lock()
        self._begun: tuple[OwnerChannel, Any] | None = None
        self._failure: grpc.RpcError | None = None
        self._cancelled = False
        self._callbacks: list[Callable[[Any], None]] = []

    def cancel(self) -> bool:
        """Cancel the call."""
        if self._begun is not None:
            return bool(self._begun[1].cancel())
        first, self._cancelled = not self._cancelled, True
        return first

    def done(self) -> bool:
        """Return whether the call has ended."""
        if self._begun is not None:
            return bool(self._begun[1].done())
        return self._cancelled or self._failure is not None

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Call `callback` when the call ends, if it has begun."""
        if self._begun is not None:
            self._begun[1].add_done_callback(callback)
        else:
            self._callbacks.append(callback)

    async def initial_metadata(self) -> Any:
        """Return the metadata that the router sends first."""
        return await self._perform(lambda call: call.initial_metadata())

    async def read(self) -> Any:
        """Return the next message, or `grpc.aio.EOF`."""
        return await self._perform(lambda call: call.read())

    async def write(self, message: Any) -> None:
        """Send a message."""
        await self._perform(lambda call: call.write(message))

    async def done_writing(self) -> None:
        """Send the end of the messages."""
        await self._perform(lambda call: call.done_writing())

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (message := await self.read()) is not _EOF:
            yield message

    def __await__(self) -> Generator[Any, None, Any]:
        return self._perform(lambda call: call).__await__()

    async def _perform(self, operation: Callable[[Any], Awaitable[T]]) -> T:
        ownership, call = self._begun or await self._start()
        return await _result(operation(call), call, ownership)

    async def _start(self) -> tuple[OwnerChannel, Any]:
        """Begin the call, unless another operation does."""
        async with self._beginning:
            if self._begun is not None:
                return self._begun
            if self._failure is not None:
                raise self._failure
            if self.done():
                raise asyncio.CancelledError
            try:
                begun = ownership, call = await self._begin()
            except grpc.RpcError as error:
                self._failure = error
                raise
            for callback in self._callbacks:
                call.add_done_callback(callback)
            ownership.add(call)
            self._begun = begun
            if self._cancelled:  # meanwhile
                call.cancel()
            return begun


async def _owner(watch: OwnerWatch, seconds: float | None, *, wait: bool) -> tuple[OwnerChannel, float | None]:
    """Return the owner for a call with a timeout of `seconds`, and what is left of them.

    Raises:
        grpc.RpcError: there is none in time.
    """
    if seconds is None:
        return await watch.owner(float("inf") if wait else OWNER_SECONDS), None
    start = time.monotonic()
    ownership = await watch.owner(seconds if wait else min(seconds, OWNER_SECONDS))
    return ownership, max(seconds - (time.monotonic() - start), 0.001)


async def _result(operation: Awaitable[T], call: Any, ownership: OwnerChannel) -> T:
    """Wait for an operation on a call.

    Raises:
        grpc.RpcError: the call failed, or the ownership ended.
    """
    try:
        return await operation
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if ownership.over and call.cancelled() and task is not None and not task.cancelling():
            raise replaced(ownership.report.address) from None
        raise
    except grpc.aio.AioRpcError as error:
        raise lost(error, ownership.report.address) from None
