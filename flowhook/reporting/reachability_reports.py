"""Reports of an edge or a runner to the routers: which of them it can call at the addresses that they advertise.

Anyone who can't reach the owner of the shard tells the other routers, and the owner learns it from them. All reachable
routers get every report, because each may be the next owner, and has to know then who reaches it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, Final

import attrs
import grpc
import grpc.aio

from flowhook.client.following_channel import FollowingChannel
from flowhook.client.owner_watch import KnownRouter
from flowhook.process import logs
from flowhook.process.process_state import ProcessState
from flowhook.reporting import reachability
from flowhook.v1.shard_service_pb2 import ReportReachabilityRequest
from flowhook.v1.shard_service_pb2_grpc import ShardServiceStub

log = logs.get_logger(__name__)

FIRST_SECONDS: Final = 0.5  # pause before routers are looked for again, as long as none is known


@attrs.define(eq=False, repr=False)
class ReachabilityReporter:
    """Checks the routers that a channel of an edge or a runner knows of, and reports what it found."""

    _channel: grpc.aio.Channel
    _process_state: ProcessState
    _interval: float = attrs.field(default=reachability.INTERVAL, kw_only=True)  # seconds between two reports
    # seconds within which a router must answer a check
    _timeout: float = attrs.field(default=reachability.TIMEOUT, kw_only=True)
    _channels: dict[str, grpc.aio.Channel] = attrs.field(init=False, factory=dict)
    _warned: set[tuple[str, str]] = attrs.field(init=False, factory=set)

    async def run(self) -> None:
        """Check and report until cancelled; return at once if there is a single router."""
        if not isinstance(self._channel, FollowingChannel):
            return
        try:
            while True:
                known = self._channel.watch.routers()
                if known:
                    causes = await self._check_all(self._channel, known)
                    await self._report(self._channel, known, causes)
                await asyncio.sleep(self._interval if known else min(self._interval, FIRST_SECONDS))
        finally:
            await asyncio.gather(*(channel.close(None) for channel in self._channels.values()))

    async def _check_all(self, channel: FollowingChannel, known: Mapping[str, KnownRouter]) -> Mapping[str, str]:
        """Return why routers can't be called, by name; empty: they can."""
        for address in self._channels.keys() - {router.address for router in known.values()}:
            await self._channels.pop(address).close(None)
        for router in known.values():
            if router.address not in self._channels:
                self._channels[router.address] = channel.open_plain(router.address)
        checks = [
            reachability.check(self._channels[router.address], router.instances, timeout=self._timeout)
            for router in known.values()
        ]
        causes = dict(zip(known, await asyncio.gather(*checks), strict=True))
        failing = {(name, cause) for name, cause in causes.items() if cause}
        for name, cause in sorted(failing - self._warned):  # once for as long as it lasts
            log.warning("a router can't be reached", router=name, address=known[name].address, cause=cause)
        self._warned = failing
        return causes

    async def _report(
        self, channel: FollowingChannel, known: Mapping[str, KnownRouter], causes: Mapping[str, str]
    ) -> None:
        request = ReportReachabilityRequest(process=self._process_state.name, role=self._process_state.role)
        for name, cause in list(causes.items())[: reachability.MAX_ROUTERS]:
            request.routers.add(router=name, cause=cause)
        # where the token was shown before, and where a router has proved that it is the one meant
        reached = {known[name].address for name, cause in causes.items() if not cause}
        await asyncio.gather(*(self._send(each, request) for each in channel.watch.channels(reached)))

    async def _send(self, channel: grpc.aio.Channel, request: ReportReachabilityRequest) -> None:
        stub: Any = ShardServiceStub(channel)
        with contextlib.suppress(TimeoutError):
            try:
                async with asyncio.timeout(self._timeout + 1):
                    await stub.ReportReachability(request, timeout=self._timeout)
            except grpc.aio.AioRpcError as error:
                log.debug("report not delivered", code=error.code().name)
            except asyncio.CancelledError:  # also if the channel was closed, because its router is known no more
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
