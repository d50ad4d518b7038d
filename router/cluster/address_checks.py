"""Checks that the other routers answer at the addresses that they advertise."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from functools import partial

import attrs
import grpc.aio

from flowhook.client.channel import open_plain, tls_credentials
from flowhook.process import logs
from flowhook.process.settings import RouterSettings
from flowhook.reporting import reachability
from router.cluster.reachability import Unreachable
from router.cluster.records import RouterRecord

log = logs.get_logger(__name__)

OpenChannel = Callable[[str], grpc.aio.Channel]


def channel_opener(settings: RouterSettings) -> OpenChannel | None:
    """Return what opens a channel to another router as clients do, but without a token.

    None if this router can't: routers have TLS, and it has no certificates to verify theirs, or none to show. Then
    edges and runners alone report which routers they can't reach.

    Raises:
        InvalidError: a TLS file can't be read (`TLS_FILE_UNREADABLE`).
    """
    if settings.tls_cert_file is not None:
        unverifiable = settings.router_ca_file is None
        unidentified = settings.tls_client_ca_file is not None and settings.client_cert_file is None
        if unverifiable or unidentified:
            missing = "FLOWHOOK_ROUTER_CA_FILE" if unverifiable else "FLOWHOOK_CLIENT_CERT_FILE"
            log.info("the addresses of other routers are not checked from here", missing=missing)
            return None
    credentials = tls_credentials(
        ca_file=settings.router_ca_file if settings.tls_cert_file is not None else None,
        cert_file=settings.client_cert_file,
        key_file=settings.client_key_file,
    )
    return partial(open_plain, credentials=credentials)


@attrs.define(eq=False, repr=False)
class AddressChecks:
    """Calls each router at its address from time to time."""

    _name: str  # of this router
    # opens a channel to an address, without a token; None: this router can't verify certificates of the others, and
    # checks nothing
    _open_channel: OpenChannel | None
    _peers: Callable[[], Iterable[RouterRecord]]  # returns the other routers that live
    _interval: float = attrs.field(default=reachability.INTERVAL, kw_only=True)  # seconds between two checks
    # seconds within which a router must answer
    _timeout: float = attrs.field(default=reachability.TIMEOUT, kw_only=True)
    _channels: dict[str, grpc.aio.Channel] = attrs.field(init=False, factory=dict)
    _causes: Mapping[tuple[str, str], str] = attrs.field(init=False, factory=dict)
    checked: int = attrs.field(init=False, default=0)  # how often all routers were checked

    def unreachable(self) -> list[Unreachable]:
        found = ((record.router, self._causes.get((record.router, record.instance), "")) for record in self._peers())
        return [Unreachable(router, self._name, cause) for router, cause in found if cause]

    async def run(self) -> None:
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
        self.checked += 1

    async def _check(self, record: RouterRecord) -> str:
        return await reachability.check(self._channels[record.address], [record.instance], timeout=self._timeout)
