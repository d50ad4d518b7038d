"""A blocking gRPC channel over several routers that starts each call on the one that owns the shard.

It has no threads of its own: the owner is looked up, at all known routers at once, before the first call, after a call
that could not be finished, and from time to time while a unary call is in progress, because its router may be paused.

If a single address is given, it is taken for the owner's until a router there says that another owns the shard. The
address that a router advertises need not lead to it from here: a port may be forwarded.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import grpc

from flowhook.client import router_errors
from flowhook.client.owner_reports import OwnerReport, OwnerReports
from flowhook.v1.shard_service_pb2 import WatchShardsRequest
from flowhook.v1.shard_service_pb2_grpc import ShardServiceStub
from flowhook.wire import status

LOOKUP_SECONDS: Final = 0.5  # time within which routers must report the owner; a paused one takes all of it
CHECK_SECONDS: Final = 0.5  # seconds without an answer after which the owner of a unary call is looked up again

Metadata = Sequence[tuple[str, str | bytes]]


def _unsupported(*_: Any, **__: Any) -> Any:
    raise NotImplementedError("the blocking channel over several routers streams no requests, and has no single state")


class BlockingFollowingChannel(grpc.Channel):
    """A channel that follows the owner, for unary calls and for calls that stream responses. Thread-safe.

    It asks routers at `addresses`; `open_channel` opens a channel to one of them, or to another owner. Each call has
    `authorization` in its metadata, too.
    """

    def __init__(
        self, addresses: Sequence[str], open_channel: Callable[[str], grpc.Channel], authorization: tuple[str, str]
    ) -> None:
        self._addresses = addresses
        self._open_channel = open_channel
        self._authorization = authorization
        self._channels: dict[str, grpc.Channel] = {}
        self._lock = threading.Lock()
        self._assumed = OwnerReport(0, addresses[0], serving=True) if len(addresses) == 1 else None
        self._owner = self._assumed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self, _grace: None = None) -> None:
        """Close the channels to all routers; calls in progress fail."""
        with self._lock:
            channels = list(self._channels.values())
            self._channels.clear()
        for channel in channels:
            channel.close()

    def unary_unary(self, method: Any, *_: Any, **options: Any) -> Any:
        """Return a function that calls a method at the owner of the log, or at any router if the method allows that."""
        if method.startswith(router_errors.ANY_ROUTER):
            return self._unary_anywhere(method, options)

        def call(request: Any, *, timeout: float, metadata: Metadata = ()) -> Any:
            start = time.monotonic()
            owner = self._current(timeout)
            stub: Any = self._channel(owner.address).unary_unary(method, **options)
            left = max(timeout - (time.monotonic() - start), 0.001)
            pending = stub.future(request, timeout=left, metadata=(*metadata, self._authorization))
            try:
                return self._result(pending, owner)
            except grpc.RpcError as error:
                raise self._after(error, owner) from None
            finally:
                pending.cancel()

        return call

    def _unary_anywhere(self, method: str, options: Mapping[str, Any]) -> Any:
        def call(request: Any, *, timeout: float, metadata: Metadata = ()) -> Any:
            deadline = time.monotonic() + timeout
            problems: dict[str, grpc.RpcError | None] = {}
            for address in self._addresses:
                left = max(deadline - time.monotonic(), 0.001)
                seconds = left if self._assumed is not None else min(left, router_errors.ANSWER_SECONDS)
                stub: Any = self._channel(address).unary_unary(method, **options)
                try:
                    return stub(request, timeout=seconds, metadata=(*metadata, self._authorization))
                except grpc.RpcError as error:
                    if self._assumed is not None or not router_errors.is_unanswered(error):
                        raise
                    problems[address] = error
            raise router_errors.unserved(problems)

        return call

    def unary_stream(self, method: Any, *_: Any, **options: Any) -> Any:
        """Return the method as gRPC does; its calls are not cancelled when another owner is known."""

        def call(request: Any) -> Any:
            owner = self._current(LOOKUP_SECONDS)
            stub: Any = self._channel(owner.address).unary_stream(method, **options)
            pending = stub(request, metadata=(self._authorization,))
            return _Stream(pending, lambda error: self._after(error, owner))

        return call

    def stream_unary(self, *_: Any, **__: Any) -> Any:
        """Return a method that is not supported: no blocking client streams requests."""
        return _unsupported

    stream_stream = stream_unary
    subscribe = unsubscribe = _unsupported

    def _channel(self, address: str) -> grpc.Channel:
        with self._lock:
            channel = self._channels.get(address)
            if channel is None:
                channel = self._channels[address] = self._open_channel(address)
            return channel

    def _result(self, pending: Any, owner: OwnerReport) -> Any:
        """Wait for a call; look from time to time whether its router still is the owner."""
        if owner is self._assumed:
            return pending.result()
        while True:
            try:
                return pending.result(timeout=CHECK_SECONDS)
            except grpc.FutureTimeoutError:
                latest, _ = self._look_up(LOOKUP_SECONDS)
                if latest is not None and latest.epoch > owner.epoch:
                    self._owner = latest if latest.serving else None
                    raise router_errors.replaced(owner.address) from None

    def _after(self, error: grpc.RpcError, owner: OwnerReport) -> grpc.RpcError:
        """Return the error of a call; look the owner up before the next one, if this one may be gone."""
        if owner is self._assumed:
            failure = error
        elif self._assumed is not None and router_errors.is_unanswered(error):
            failure = router_errors.unreachable_owner(error, self._assumed.address, owner.address)
        else:
            failure = router_errors.lost(error, owner.address)
        if router_errors.call_code(failure) is grpc.StatusCode.UNAVAILABLE and self._owner is owner:
            stays = owner is self._assumed and status.from_rpc_error(failure).reason != router_errors.SHARD_MOVED
            self._owner = owner if stays else None
        return failure

    def _current(self, seconds: float) -> OwnerReport:
        owner = self._owner
        if owner is None:
            owner, problems = self._look_up(min(seconds, LOOKUP_SECONDS))
            if owner is None or not owner.serving:
                raise router_errors.unserved(problems)
            self._owner = owner
        return owner

    def _look_up(self, seconds: float) -> tuple[OwnerReport | None, dict[str, grpc.RpcError | None]]:
        """Return the owner with the highest epoch that a router reports; for each why it did not answer, or None."""
        reports, problems = OwnerReports(), dict[str, grpc.RpcError | None]()
        calls: dict[str, Any] = {}
        for address in self._addresses:
            stub: Any = ShardServiceStub(self._channel(address))
            calls[address] = stub.WatchShards(WatchShardsRequest(), timeout=seconds, metadata=(self._authorization,))
        for address, call in calls.items():
            problems[address] = None
            try:
                response = next(call, None)
            except grpc.RpcError as error:
                problems[address] = error
                continue
            finally:
                call.cancel()
            for owner in () if response is None else response.owners:
                if owner.shard == 0:
                    reports.record(address, OwnerReport(owner.epoch, owner.address, owner.serving))
        return reports.latest(), problems


@dataclass(frozen=True, slots=True)
class _Stream:
    """A call that streams responses; `explain` returns the error to raise in place of one that ends it."""

    call: Any
    explain: Callable[[grpc.RpcError], grpc.RpcError]

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        try:
            return next(self.call)
        except grpc.RpcError as error:
            raise self.explain(error) from None

    def cancel(self) -> None:
        self.call.cancel()
