"""Checks whether a router answers at the address that it advertises, and says in a sentence what is wrong with it.

A check is a call without a token: anyone who checks an address does not know yet who answers there. Edges and runners
report to the routers which of them they can call: anyone who can't reach the owner of the shard tells the other
routers, and the owner learns it from them. All reachable routers get every report, because each may be the next owner,
and has to know then who reaches it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Collection, Mapping
from typing import Any, Final

import attrs
import grpc
import grpc.aio

from flowhook.client.following_channel import FollowingChannel
from flowhook.client.owner_watch import KnownRouter
from flowhook.process import logs
from flowhook.process.process_state import ProcessState
from flowhook.v1.shard_service_pb2 import IdentifyRequest, ReportReachabilityRequest
from flowhook.v1.shard_service_pb2_grpc import ShardServiceStub
from flowhook.wire.status import probable_cause

INTERVAL: Final = 3.0  # seconds between two checks of an address
TIMEOUT: Final = 5.0  # seconds within which a router must answer a check: more than one needs whose machine is busy
FIRST_SECONDS: Final = 0.5  # pause before routers are looked for again, as long as none is known
RETRY_SECONDS: Final = 1.0  # pause after a check that failed at once
MAX_ROUTERS: Final = 64  # most routers that are checked, and that a report names
MAX_CAUSE: Final = 200  # most characters of a cause
SHOWN: Final = 5  # most processes that a sentence names

log = logs.get_logger(__name__)

# parts of gRPC's messages, with the cause of each
_CAUSES: Final = (
    ("Connection refused", "connection refused"),
    ("Connection reset", "connection reset"),
    ("No route to host", "no route to the host"),
    ("Network is unreachable", "the network is unreachable"),
    ("Domain name not found", "the host name is unknown"),
    ("DNS resolution failed", "the host name can't be resolved"),
    ("Timeout occurred", "no connection in time"),
    ("keepalive", "the connection is dead"),
    ("ping timeout", "the connection is dead"),
)


async def check(channel: grpc.aio.Channel, instances: Collection[str], *, timeout: float = TIMEOUT) -> str:  # noqa: ASYNC109 - the deadline of a call
    """Call the router behind `channel` without a token; return why that failed, empty if one of `instances` answered.

    What fails at once is tried again after a second: a router that becomes the owner has no port for a moment.
    """
    start = time.monotonic()
    cause = await _call(channel, instances, timeout)
    if cause and time.monotonic() - start < RETRY_SECONDS:
        await asyncio.sleep(RETRY_SECONDS)
        cause = await _call(channel, instances, timeout)
    return cause


async def _call(channel: grpc.aio.Channel, instances: Collection[str], timeout: float) -> str:  # noqa: ASYNC109 - the deadline of a call
    stub: Any = ShardServiceStub(channel)
    try:
        # the deadline of gRPC is one of the event loop, too, but a channel that is closed meanwhile has none
        async with asyncio.timeout(timeout + 1):
            answer = await stub.Identify(IdentifyRequest(), timeout=timeout)
    except TimeoutError:
        return f"no answer within {timeout:g} s"
    except grpc.aio.AioRpcError as error:
        return cause_of(error, timeout)
    return "" if answer.instance in instances else "another router answers there"


def cause_of(error: grpc.RpcError, seconds: float) -> str:
    """Return why a call with a deadline of `seconds` failed: printable, at most `MAX_CAUSE` characters."""
    code: Any = getattr(error, "code", lambda: None)()
    details = str(getattr(error, "details", str)() or "")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"no answer within {seconds:g} s"
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return "no router answers there"
    known = next((cause for part, cause in _CAUSES if part in details), "")
    return printable(known or probable_cause(details).removeprefix(": ") or details or "it can't be called", MAX_CAUSE)


def printable(text: str, size: int) -> str:
    """Return the first `size` characters, with a space for each that can't be printed."""
    return "".join(character if character.isprintable() else " " for character in text[:size])


def describe_unreachable(router: str, address: str, causes: Mapping[str, str]) -> str:
    """Return a sentence for operators about a router that cannot be called at the address that it advertises.

    `causes` says why, by name of the process that can't call it; the sentence is empty without any.
    """
    if not causes:
        return ""
    by_cause: dict[str, list[str]] = {}
    for process, cause in sorted(causes.items()):
        by_cause.setdefault(cause, []).append(process)
    parts = "; ".join(f"{_names(names)} can't connect: {cause}" for cause, names in by_cause.items())
    return f"{router} is not reachable at {address} ({parts}); check its FLOWHOOK_ADVERTISE and the network"


def _names(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


@attrs.define(eq=False, repr=False)
class ReachabilityReporter:
    """Checks the routers that a channel of an edge or a runner knows of, and reports what it found."""

    _channel: grpc.aio.Channel
    _process_state: ProcessState
    _interval: float = attrs.field(default=INTERVAL, kw_only=True)  # seconds between two reports
    # seconds within which a router must answer a check
    _timeout: float = attrs.field(default=TIMEOUT, kw_only=True)
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
            check(self._channels[router.address], router.instances, timeout=self._timeout) for router in known.values()
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
        for name, cause in list(causes.items())[:MAX_ROUTERS]:
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
