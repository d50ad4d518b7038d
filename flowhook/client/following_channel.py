"""A gRPC channel over several routers that starts each call on the one that owns the shard.

Calls are not repeated here. One that can't be finished ends with UNAVAILABLE and one of the reasons in `router_errors`,
and callers repeat what may be repeated, as they do after a restart of a single router. What is added is when that
happens: at once when another owner is known, even if the former one is paused and its connection open.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from typing import Any, Final, Self, TypeVar

import grpc
import grpc.aio

from flowhook.client.owner_watch import OwnerChannel, OwnerWatch
from flowhook.client.router_errors import ANSWER_SECONDS, ANY_ROUTER, is_unanswered, lost, replaced, unserved

T = TypeVar("T")

_EOF: Final = grpc.aio.EOF  # type: ignore[attr-defined] # the stubs of gRPC lack it

OWNER_SECONDS: Final = 1.0
"""Time that a call waits for an owner that serves, unless it is made with `wait_for_ready`: then until its timeout."""


def _streaming(kind: str) -> Callable[..., Any]:
    def make(self: FollowingChannel, method: str, *_: Any, **options: Any) -> Callable[..., FollowingStream]:
        def call(
            requests: Any = None, *, timeout: float | None = None, wait_for_ready: bool | None = None, **more: Any
        ) -> FollowingStream:
            async def begin() -> tuple[OwnerChannel, Any]:
                ownership, left = await _owner(self.watch, timeout, wait=bool(wait_for_ready))
                stub = ownership.method(kind, method, options)
                return ownership, stub(requests, timeout=left, wait_for_ready=wait_for_ready, **more)

            return FollowingStream(begin)

        return call

    return make


class FollowingChannel(grpc.aio.Channel):
    """A channel that follows the owner that some routers report. Unary calls are coroutines, others `FollowingStream`s.

    `open_channel` opens a channel to a single router, `open_plain` one that presents no token.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        open_channel: Callable[[str], grpc.aio.Channel],
        open_plain: Callable[[str], grpc.aio.Channel],
    ) -> None:
        self.watch = OwnerWatch(addresses, open_channel)
        self.open_plain = open_plain

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close(None)

    async def close(self, grace: float | None = None) -> None:
        """Close the channels to all routers; calls in progress have `grace` seconds to finish."""
        await self.watch.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: FBT001, FBT002 - the base class's signature
        """Not supported: the state of the connection is a different one for each router."""
        raise NotImplementedError("a channel over several routers has no single state")

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:  # noqa: ARG002 - as above
        """Not supported, see `get_state`."""
        self.get_state()

    async def channel_ready(self) -> None:
        """Wait until an owner serves."""
        await self.watch.owner(float("inf"))

    def unary_unary(self, method: Any, *_: Any, **options: Any) -> Any:
        """Return the method; a call is a coroutine."""

        async def call(
            request: Any,
            *,
            timeout: float | None = None,  # noqa: ASYNC109 - the deadline of a call
            wait_for_ready: bool | None = None,
            **more: Any,
        ) -> Any:
            if method.startswith(ANY_ROUTER):
                deadline = time.monotonic() + (float("inf") if timeout is None else timeout)
                problems: dict[str, grpc.RpcError | None] = {}
                for address, channel in self.watch.seeds().items():
                    seconds = min(max(deadline - time.monotonic(), 0.001), ANSWER_SECONDS)
                    stub: Any = channel.unary_unary(method, **options)
                    try:
                        return await stub(request, timeout=seconds, **more)
                    except grpc.aio.AioRpcError as error:
                        if not is_unanswered(error):
                            raise
                        problems[address] = error
                raise unserved(problems)
            ownership, left = await _owner(self.watch, timeout, wait=bool(wait_for_ready))
            make = ownership.method("unary_unary", method, options)
            pending = make(request, timeout=left, wait_for_ready=wait_for_ready, **more)
            ownership.track(pending)
            return await _result(pending, pending, ownership)

        return call

    unary_stream = _streaming("unary_stream")
    stream_unary = _streaming("stream_unary")
    stream_stream = _streaming("stream_stream")


class FollowingStream:
    """A streaming call, which begins with its first operation. Its methods are those of the calls of `grpc.aio`."""

    def __init__(self, begin: Callable[[], Awaitable[tuple[OwnerChannel, Any]]]) -> None:
        self._begin = begin
        self._beginning = asyncio.Lock()
        self._begun: tuple[OwnerChannel, Any] | None = None
        self._failure: grpc.RpcError | None = None
        self._cancelled = asyncio.Event()
        self._callbacks: list[Callable[[Any], None]] = []

    def cancel(self) -> bool:
        if self._begun is not None:
            return bool(self._begun[1].cancel())
        first = not self._cancelled.is_set()
        self._cancelled.set()
        return first

    def done(self) -> bool:
        if self._begun is not None:
            return bool(self._begun[1].done())
        return self._cancelled.is_set() or self._failure is not None

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
                for callback in self._callbacks:
                    call.add_done_callback(callback)
                ownership.track(call)
                await self._connect(call, ownership)
            except grpc.RpcError as error:
                self._failure = error
                raise
            self._begun = begun
            if self._cancelled.is_set():  # meanwhile
                call.cancel()
            return begun

    async def _connect(self, call: Any, ownership: OwnerChannel) -> None:
        """Wait until a call is connected; fail when it is cancelled, or the ownership ends.

        gRPC never wakes the writer of a call that is cancelled before it is connected, as one to an owner that died is.
        """
        reasons = (call.wait_for_connection(), ownership.ended.wait(), self._cancelled.wait())
        connecting, *others = map(asyncio.ensure_future, reasons)
        connected = False
        try:
            await asyncio.wait((connecting, *others), return_when=asyncio.FIRST_COMPLETED)
            connected = connecting.done()
        finally:
            if not connected:
                call.cancel()
            for each in (connecting, *others):
                each.cancel()
        if connected:
            await _result(connecting, call, ownership)
        elif self._cancelled.is_set():
            raise asyncio.CancelledError
        else:
            raise replaced(ownership.report.address)


async def _owner(watch: OwnerWatch, seconds: float | None, *, wait: bool) -> tuple[OwnerChannel, float | None]:
    """Return the owner for a call with a timeout of `seconds`, and what is left of them."""
    if seconds is None:
        return await watch.owner(float("inf") if wait else OWNER_SECONDS), None
    start = time.monotonic()
    ownership = await watch.owner(seconds if wait else min(seconds, OWNER_SECONDS))
    return ownership, max(seconds - (time.monotonic() - start), 0.001)


async def _result(operation: Awaitable[T], call: Any, ownership: OwnerChannel) -> T:
    """Wait for an operation on a call; it fails if the ownership ends."""
    try:
        return await operation
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if ownership.ended.is_set() and call.cancelled() and task is not None and not task.cancelling():
            raise replaced(ownership.report.address) from None
        raise
    except grpc.aio.AioRpcError as error:
        raise lost(error, ownership.report.address) from None
