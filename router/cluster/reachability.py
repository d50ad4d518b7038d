"""Reachability of the addresses that routers advertise, as edges and runners report it and as routers try it.

An edge or a runner has one voice, its latest report, which counts only while it is fresh. A report is true of its
reporter alone: `ownership` decides by how many of them agree.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import attrs
import grpc.aio

from flowhook.client.channel import open_plain, tls_credentials
from flowhook.errors import ExhaustedError
from flowhook.process import logs
from flowhook.process.settings import RouterSettings
from flowhook.reporting.reachability import INTERVAL, MAX_ROUTERS, TIMEOUT, check
from router.cluster.records import RouterRecord, Unreachable

# age up to which a report counts: that of the one after the next, if the check takes its whole time
FRESH_SECONDS: Final = 2 * INTERVAL + TIMEOUT
MAX_PROCESSES: Final = 500  # most processes of one role whose reports are kept
MAX_SHOWN: Final = 16  # most processes that can't call a router, of those that are named

OpenChannel = Callable[[str], grpc.aio.Channel]
log = logs.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Voices:
    """How many edges and runners can call a router at the address that it advertises, and how many can't."""

    reach: int = 0
    cut_off: int = 0


@dataclass(frozen=True, slots=True)
class _Report:
    routers: Mapping[str, str]
    heard: float


@attrs.define(eq=False, repr=False)
class ReachabilityReports:
    """The fresh reports of edges and runners; `clock`: monotonic, in seconds."""

    _clock: Callable[[], float]
    _max_processes: int = attrs.field(default=MAX_PROCESSES, kw_only=True)
    _by_role: dict[str, dict[str, _Report]] = attrs.field(init=False, factory=dict)

    def store(self, role: str, process: str, routers: Mapping[str, str]) -> None:
        """Replace the report of a process: why it could not call each router that it tried; empty: it could.

        Raises:
            ExhaustedError: too many processes of the role report already (`TOO_MANY_PROCESSES`).
        """
        reports = self._fresh(role)
        if process not in reports and len(reports) >= self._max_processes:
            raise ExhaustedError("too many processes of this role", reason="TOO_MANY_PROCESSES")
        reports[process] = _Report(routers, self._clock())

    def voices(self, router: str) -> Voices:
        causes = [cause for _, cause in self._causes(router)]
        cut_off = sum(map(bool, causes))
        return Voices(len(causes) - cut_off, cut_off)

    def unreachable(self, router: str) -> list[Unreachable]:
        found = [Unreachable(router, process, cause) for process, cause in self._causes(router) if cause]
        return found[:MAX_SHOWN]

    def _causes(self, router: str) -> Iterable[tuple[str, str]]:
        for role in tuple(self._by_role):
            for process, report in self._fresh(role).items():
                cause = report.routers.get(router)
                if cause is not None:
                    yield process, cause

    def _fresh(self, role: str) -> dict[str, _Report]:
        oldest = self._clock() - FRESH_SECONDS
        fresh = {name: each for name, each in self._by_role.get(role, {}).items() if each.heard >= oldest}
        self._by_role[role] = fresh
        return fresh


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
    _timeout: float = attrs.field(default=TIMEOUT, kw_only=True)  # seconds within which a router must answer
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
                await asyncio.sleep(INTERVAL)
        finally:
            await asyncio.gather(*(channel.close(None) for channel in self._channels.values()))

    async def _check_all(self, open_channel: OpenChannel) -> None:
        # a router of an earlier version has no instance
        peers = [record for record in self._peers() if record.address and record.instance][:MAX_ROUTERS]
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
        return await check(self._channels[record.address], [record.instance], timeout=self._timeout)
