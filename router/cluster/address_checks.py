"""Checks that the other routers answer at the addresses that they advertise."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

import grpc.aio

from flowhook import reachability
from router.cluster.reachability import Unreachable
from router.cluster.records import RouterRecord

OpenChannel = Callable[[str], grpc.aio.Channel]


class AddressChecks:
    """Calls each router at its address from time to time.

    Args:
        name: of this router.
        open_channel: opens a channel to an address, without a token; None: this router can't verify certificates of
            the others, and checks nothing.
        peers: returns the other routers that live.
        interval: seconds between two checks.
        timeout: seconds within which a router must answer.
    """

    def __init__(
        self,
        name: str,
        open_channel: OpenChannel | None,
        peers: Callable[[], Iterable[RouterRecord]],
        *,
        interval: float = reachability.INTERVAL,
        timeout: float = reachability.TIMEOUT,
    ) -> None:
        self._name = name
        self._open_channel = open_channel
        self._peers = peers
        self._interval = interval
        self._timeout = timeout
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._causes: Mapping[tuple[str, str], str] = {}

    def unreachable(self) -> list[Unreachable]:
        """Return the routers that live and did not answer the last check."""
        found = ((record.router, self._causes.get((record.router, record.instance), "")) for record in self._peers())
        return [Unreachable(router, self._name, cause) for router, cause in found if cause]

    async def run(self) -> None:
        """Check until cancelled."""
        if self._open_channel is None:
            return
        try:
            while True:
                await self._check_all(self._open_channel)
                await asyncio.sleep(self._interval)
        finally:
            await asyncio.gather(*(channel.close(None) for channel in self._channels.values()))

    async def _check_all(self, open_channel: OpenChannel) -> None:
        # a router of an earlier version has no instance
        peers = [record for record in self._peers() if record.address and record.instance][: reachability.MAX_ROUTERS]
        for address in self._channels.keys() - {record.address for record in peers}:
            await self._channels.pop(address).close(None)
        for record in peers:
            if record.address not in self._channels:
                self._channels[record.address] = open_channel(record.address)
        causes = await asyncio.gather(*map(self._check, peers))
        checked = ((record.router, record.instance) for record in peers)
        self._causes = dict(zip(checked, causes, strict=True))

    async def _check(self, record: RouterRecord) -> str:
        return await reachability.check(self._channels[record.address], [record.instance], timeout=self._timeout)
