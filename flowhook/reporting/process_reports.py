"""Periodic reports of a process to the router: health and metrics."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
import time
from collections.abc import Callable
from typing import Final

import attrs
import grpc

import flowhook
from flowhook import limits
from flowhook.asyncio_tasks import wait_at_most
from flowhook.errors import PermissionDeniedError, UnauthenticatedError
from flowhook.process import logs
from flowhook.process.process_state import ProcessState
from flowhook.process.ticks import next_tick
from flowhook.reporting.reachability import printable
from flowhook.v1 import cluster_service_pb2, cluster_service_pb2_grpc
from flowhook.wire import convert, status

# limits of the texts in a report, in characters
MAX_NAME: Final = 63
MAX_BUILD: Final = 64
MAX_HOST: Final = 255
MAX_DETAIL: Final = 512
MAX_URL: Final = 300
# limits of the warnings in a report: their number, and their bytes (UTF-8) in all
MAX_WARNINGS: Final = 8
MAX_WARNINGS_BYTES: Final = 1024
# limits of the metrics of one process in the Prometheus text format, in which each series is a line
MAX_METRICS_BYTES: Final = 2 * limits.MIB
MAX_METRICS_LINES: Final = 10_000

# Difference between two clocks above which operators are told. Nothing in a cluster compares two clocks, but senders'
# timestamps are judged by the edges', and people read the times of all of them.
MAX_CLOCK_SKEW_SECONDS: Final = 1.0
CLOCK: Final = "clock"  # kind of the warning of the process whose clock it is

INTERVAL: Final = 2.0  # seconds between reports, and the deadline of one
REST_INTERVALS: Final = 3  # the same at rest, in intervals
METRICS_INTERVALS: Final = 2.5  # between reports with metrics, at the least, in intervals: they cost the most
REST_SHARE: Final = 0.005  # of a processor that a process at rest uses at most, or 30 executions a second
LAST_REPORT_SECONDS: Final = 1.0  # deadline of the report that a process is about to end

log = logs.get_logger(__name__)


def clock_skew(asked: float, answered: float, router_ms: int) -> float:
    """Return by how much the own clock is ahead of the router's at the least, in seconds; negative: behind.

    `asked` and `answered` are Unix times in seconds by the own clock, before and after the router told `router_ms`.

    Source: RFC 5905, section 8: the answer is of the middle of the round trip, give or take half of it.
    """
    half = max(0.0, answered - asked) / 2
    skew = asked + half - router_ms / 1000
    return math.copysign(max(0.0, abs(skew) - half), skew)


def note_skew(process_state: ProcessState, seconds: float, whose: str) -> None:
    """Warn of a process whose clock is `seconds` ahead of others', `whose` they are; negative: behind. Log it once."""
    skewed = abs(seconds) > MAX_CLOCK_SKEW_SECONDS
    side = "ahead of" if seconds > 0 else "behind"
    known = process_state.warn(CLOCK, f"its clock is {abs(seconds):.0f} s {side} {whose}" if skewed else "")
    if skewed and not known:  # once, not every 2 s
        log.warning("the clock is wrong: synchronise it", ahead=round(seconds, 1), than=whose)
    elif known and not skewed:
        log.info("the clock is right again")


def within_limits(rendered: bytes) -> bool:
    return len(rendered) <= MAX_METRICS_BYTES and rendered.count(b"\n") <= MAX_METRICS_LINES


def build_report(process_state: ProcessState, rendered: bytes) -> cluster_service_pb2.Process:
    """Return the report of a process, within the limits of a report.

    Metrics that exceed the limits are left out, so that the report of its health still gets through.
    """
    lack = process_state.lack()
    return cluster_service_pb2.Process(
        name=process_state.name,
        role=process_state.role,
        build=flowhook.__version__[:MAX_BUILD],
        pid=os.getpid(),
        host=socket.gethostname()[:MAX_HOST],
        ready=not lack,
        detail=printable(lack, MAX_DETAIL),
        url=process_state.url if len(process_state.url) <= MAX_URL and process_state.url.isprintable() else "",
        start_time=convert.timestamp(process_state.start_time_ms),
        connections=process_state.connections(),
        metrics=rendered if within_limits(rendered) else b"",
        stopping=process_state.stop.is_set(),
        warnings=_warnings(process_state),
        clock_skew=None if process_state.clock_skew is None else convert.duration(process_state.clock_skew),
    )


def _warnings(process_state: ProcessState) -> list[str]:
    found, room = [], MAX_WARNINGS_BYTES
    for warning in list(process_state.warnings.values())[:MAX_WARNINGS]:
        text = printable(warning, MAX_DETAIL).encode()[:room].decode(errors="ignore")
        room -= len(text.encode())
        found.append(text)
    return list(filter(None, found))


@attrs.define(eq=False, repr=False)
class ProcessReporter:
    """Reports the health and metrics of this process to the router; tolerates an unavailable router."""

    _channel: grpc.aio.Channel  # which the caller closes
    _process_state: ProcessState
    _interval: float = attrs.field(default=INTERVAL, kw_only=True)
    # Unix time in seconds by the clock whose skew is measured
    _now: Callable[[], float] = attrs.field(default=time.time, kw_only=True)
    _metrics_due: float = attrs.field(init=False, default=0.0)  # monotonic time
    _told: tuple[object, ...] = attrs.field(init=False, default=())  # the health in the last report
    _complete: bool = attrs.field(init=False, default=True)

    async def run(self) -> None:
        """Report until cancelled: at once, as soon as the process is ready, then every `interval` seconds.

        Once more at once if its health has changed while the report was on its way; otherwise after the interval in
        which it did. At rest, when it does little and has nothing new to say but metrics, every third of those.

        A process that is to stop says so at the end, or it would be taken for one that died.
        """
        try:
            while True:
                delivered = await self._try_to_report()
                if delivered and self._health() != self._told:
                    delivered = await self._try_to_report()  # not again: each report may change what a warning says
                if not self._process_state.ready.is_set():
                    await wait_at_most(self._interval, self._process_state.ready.wait())
                elif delivered:
                    await self._until_due()
                else:
                    await next_tick(self._interval)
        finally:
            if self._process_state.stop.is_set():
                with contextlib.suppress(grpc.aio.AioRpcError, TimeoutError):
                    async with asyncio.timeout(LAST_REPORT_SECONDS):
                        await self._report()

    async def _until_due(self) -> None:
        for _ in range(REST_INTERVALS):
            connections, used = self._process_state.connections(), time.process_time()
            await next_tick(self._interval)
            changed = self._health() != self._told or self._process_state.connections() != connections
            if changed or time.process_time() - used > REST_SHARE * self._interval:
                return

    def _health(self) -> tuple[object, ...]:
        return self._process_state.lack(), self._process_state.url, tuple(self._process_state.warnings.values())

    async def _try_to_report(self) -> bool:
        """Report; return whether the router has the report."""
        try:
            await self._report()
            self._note_refusal("")
        except grpc.aio.AioRpcError as error:
            problem = status.from_rpc_error(error)
            log.debug("report not delivered", reason=problem.reason)
            if isinstance(problem, UnauthenticatedError | PermissionDeniedError):
                self._note_refusal(problem.message)
            return False
        return True

    async def _report(self) -> None:
        keeps = time.monotonic() < self._metrics_due and not self._process_state.stop.is_set()
        rendered = b""
        if not keeps:
            with contextlib.suppress(TimeoutError):
                rendered = await self._process_state.metrics()
        self._told = self._health()
        process = build_report(self._process_state, rendered)
        request = cluster_service_pb2.ReportProcessRequest(process=process, keeps_metrics=keeps)
        asked = self._now()
        stub = cluster_service_pb2_grpc.ClusterServiceStub(self._channel)
        response = await stub.ReportProcess(request, timeout=self._interval)
        if response.router_time_ms:
            skew = clock_skew(asked, self._now(), response.router_time_ms)
            self._process_state.clock_skew = skew
            # where the router's clock is the wrong one, only the router warns
            of_router = convert.seconds(response.router_clock_skew)
            note_skew(self._process_state, skew + of_router, "most others'" if of_router else "the router's")
        if keeps:
            return
        self._metrics_due = time.monotonic() + METRICS_INTERVALS * self._interval
        complete = within_limits(rendered) and not response.metrics_dropped
        if self._complete and not complete:  # once, not every 2 s
            log.warning("metrics omitted: too many", bytes=len(rendered), series=rendered.count(b"\n"))
        self._complete = complete

    def _note_refusal(self, problem: str) -> None:
        """Record why the router refuses this process's token: streams that were opened before it was revoked go on."""
        known = self._process_state.refusal
        self._process_state.refusal = problem and f"the router refuses the token: {problem}"
        if problem and self._process_state.refusal != known:
            log.error("the router refuses the token", detail=problem)
        elif known and not problem:
            log.info("the router accepts the token again")
