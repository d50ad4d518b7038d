"""Follows the owner of the shard: watches several routers, and holds a channel to each router that is needed.

A watch of each known router is open as long as the channel is in use, because any of them may be the first to know the
next owner, and any may be dead, paused or cut off. When a higher epoch is known, calls that are in progress on the
former owner are cancelled: it may be paused, with its connections open, and would never answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc
import grpc.aio

from flowhook.client.owner_reports import OwnerReport, OwnerReports
from flowhook.client.router_errors import REFUSED, unserved
from flowhook.errors import UnavailableError
from flowhook.retrying import BackoffPolicy
from flowhook.v1.shard_service_pb2 import RouterAddress, WatchShardsRequest, WatchShardsResponse
from flowhook.v1.shard_service_pb2_grpc import ShardServiceStub
from flowhook.wire import status

WATCHES: Final = BackoffPolicy(0.1, 0.25)
"""Between two watches of a router.

Attempts fail at once while the channel itself is in backoff, for up to a second. Together with the backoff of a runner
they are shorter than the time in which a router waits for runners after a takeover.
"""

REFUSED_WATCHES: Final = BackoffPolicy(1.0, 1.0)
"""The same after a router has refused a watch: the token, or one watch too many."""

FIRST_SECONDS: Final = 2.0  # time within which a router must report the owner after a watch has begun

SILENCE_SECONDS: Final = 10.0
"""Time without a report after which a watch is begun anew. A router reports only changes, so silence alone is no
failure, but a watch that is cut off is as silent."""

MAX_ROUTERS: Final = 64  # most routers that are remembered of those that one router names


@dataclass(frozen=True, slots=True)
class KnownRouter:
    """A router that others name."""

    address: str  # as it advertises it, `host:port`
    instances: frozenset[str]  # of its process; several while routers disagree, because it was started again


class OwnerChannel:
    """One ownership of the shard.

    Attributes:
        report: epoch and address of the owner.
        ended: set once another owner is known.
    """

    def __init__(self, report: OwnerReport, channel: grpc.aio.Channel) -> None:
        self.report = report
        self.ended = asyncio.Event()
        self._channel = channel
        self._methods: dict[tuple[str, str], Any] = {}
        self._calls: set[grpc.aio.Call] = set()

    def method(self, kind: str, name: str, options: Mapping[str, Any]) -> Any:
        """Return a method of the owner; `kind` is the method of `grpc.aio.Channel` that makes it, with `options`."""
        found = self._methods.get((kind, name))
        if found is None:
            found = self._methods[kind, name] = getattr(self._channel, kind)(name, **options)
        return found

    def track(self, call: grpc.aio.Call) -> None:
        """Cancel `call` with the ownership."""
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    def end(self) -> None:
        """Cancel all calls in progress."""
        self.ended.set()
        for call in tuple(self._calls):
            call.cancel()


class OwnerWatch:
    """Watches routers and knows the current ownership. Watching begins with the first call of `owner`."""

    def __init__(
        self,
        addresses: Sequence[str],
        open_channel: Callable[[str], grpc.aio.Channel],
        *,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        """Watch the routers at `addresses`; `open_channel` opens a channel to one of them, or to another owner."""
        self._addresses = addresses
        self._open_channel = open_channel
        self._silence_seconds = silence_seconds
        self._reports = OwnerReports()
        self._routers: dict[str, list[RouterAddress]] = {}
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._problems: dict[str, grpc.aio.AioRpcError | None] = {}
        self._watches: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()
        self._ownership: OwnerChannel | None = None
        self._serving = False
        self._closed = False

    async def owner(self, seconds: float) -> OwnerChannel:
        """Return the current ownership, as soon as its owner serves; RpcError: none does within `seconds`."""
        if self._serving and self._ownership is not None:
            return self._ownership
        if not self._watches and not self._closed:
            self._watches = [
                asyncio.create_task(self._watch(address), name=f"watch shards at {address}")
                for address in self._addresses
            ]
        deadline = time.monotonic() + seconds
        while not (self._serving and self._ownership is not None):
            left = deadline - time.monotonic()
            if left <= 0 or self._closed or (self._ownership is None and self._is_refused()):
                raise unserved({address: self._problems.get(address) for address in self._addresses})
            try:
                async with asyncio.timeout(left):
                    await self._changed.wait()
            except TimeoutError:
                continue
        return self._ownership

    def routers(self) -> dict[str, KnownRouter]:
        """Return the routers that were named by those that are watched, by name."""
        found: dict[str, KnownRouter] = {}
        for each in (each for routers in self._routers.values() for each in routers):
            instances = found[each.router].instances if each.router in found else frozenset[str]()
            found[each.router] = KnownRouter(each.address, instances | {each.instance})
        return found

    def seeds(self) -> dict[str, grpc.aio.Channel]:
        """Return channels to the routers that are watched, by address: those that answer come first."""
        ordered = sorted(self._addresses, key=lambda address: address not in self._routers)
        return {} if self._closed else {address: self._channel(address) for address in ordered}

    def channels(self, addresses: Collection[str]) -> list[grpc.aio.Channel]:
        """Return channels to the routers that are watched and answer, and to those at `addresses`."""
        if self._closed:
            return []
        watched = {address for address in self._addresses if address in self._routers}
        return [self._channel(address) for address in watched.union(addresses)]

    async def close(self, grace: float | None) -> None:
        """End the watches and close all channels; calls in progress have `grace` seconds to finish."""
        self._closed, self._serving = True, False
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        self._notify()
        channels = list(self._channels.values())
        self._channels.clear()
        await asyncio.gather(*(channel.close(grace) for channel in channels))

    def _is_refused(self) -> bool:
        return any(problem is not None and problem.code() in REFUSED for problem in self._problems.values())

    def _channel(self, address: str) -> grpc.aio.Channel:
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = self._open_channel(address)
        return channel

    async def _watch(self, address: str) -> None:
        pauses = WATCHES.pauses()
        while True:
            refused = False
            try:
                async with contextlib.aclosing(self._reported(address)) as responses:
                    async for response in responses:
                        pauses = WATCHES.pauses()
                        self._problems[address] = None
                        self._apply(address, response)
                        await self._close_unused()
            except grpc.aio.AioRpcError as error:
                self._problems[address] = error
                self._notify()
                refused = error.code() is not grpc.StatusCode.UNAVAILABLE
            self._reports.end(address)
            self._routers.pop(address, None)  # others may know better
            await asyncio.sleep(next(REFUSED_WATCHES.pauses() if refused else pauses))

    async def _reported(self, address: str) -> AsyncGenerator[WatchShardsResponse, None]:
        """Yield what a router reports, until it ends the stream or is silent for too long; fail without a first one."""
        stub: Any = ShardServiceStub(self._channel(address))
        call = stub.WatchShards(WatchShardsRequest())
        seconds = FIRST_SECONDS
        try:
            while True:
                async with asyncio.timeout(seconds):
                    response = await call.read()
                if not isinstance(response, WatchShardsResponse):
                    return
                yield response
                seconds = self._silence_seconds
        except TimeoutError:
            if seconds is FIRST_SECONDS:
                raise status.to_rpc_error(UnavailableError("it does not answer")) from None
        finally:
            call.cancel()

    def _apply(self, address: str, response: WatchShardsResponse) -> None:
        self._routers[address] = list(response.routers)[:MAX_ROUTERS]
        for owner in response.owners:
            if owner.shard == 0:
                self._reports.record(address, OwnerReport(owner.epoch, owner.address, owner.serving))
        latest = self._reports.latest()
        before = self._ownership
        if latest is None:
            return
        if before is None or (before.report.epoch, before.report.address) != (latest.epoch, latest.address):
            self._ownership = OwnerChannel(latest, self._channel(latest.address))
            if before is not None:
                before.end()
        self._serving = latest.serving
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _close_unused(self) -> None:
        """Close channels to former owners that are none of the known routers."""
        needed = {*self._addresses, *(router.address for router in self.routers().values())}
        if self._ownership is not None:
            needed.add(self._ownership.report.address)
        for address in self._channels.keys() - needed:
            channel = self._channels.pop(address, None)
            if channel is not None:  # else another watch closes it
                await channel.close(None)
