"""In-memory store of process reports, bounded per field, per report and per role.

Roles have separate limits: a caller that fills up the share of one role does not affect the reports of others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from statistics import median_low
from typing import Final, NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp

from flowhook import limits
from flowhook.errors import (
    ConflictError,
    ExhaustedError,
    FlowhookError,
    InvalidError,
    NotFoundError,
    PermissionDeniedError,
)
from flowhook.reporting import reported_metrics
from flowhook.reporting.process_reports import (
    MAX_BUILD,
    MAX_CLOCK_SKEW_SECONDS,
    MAX_DETAIL,
    MAX_HOST,
    MAX_NAME,
    MAX_URL,
    MAX_WARNINGS,
    MAX_WARNINGS_BYTES,
    within_limits,
)
from flowhook.reporting.reported_metrics import NONE, ReportedMetrics
from flowhook.security.tokens import TokenScope
from flowhook.sharing import Limit, Seat, SharedLimit, current_principal
from flowhook.sharing.table import RouterLimits
from flowhook.v1 import cluster_service_pb2 as pb
from flowhook.wire import convert

FORGET_SECONDS: Final = 60.0  # age of the last report after which a process is forgotten that was about to end in order
# age of the last report up to which a process can't be dismissed: it would be back with the next one
ALIVE_SECONDS: Final = 10.0
NANOS: Final = 1_000_000_000

MAX_SKEW_SECONDS: Final = 100 * 366 * 86_400

MAX_PROCESSES: Final = 500  # most processes of one role; one that is silent for `FORGET_SECONDS` gives way to another
# bytes of metrics of all processes of one role; those of all roles fit into one response
MAX_METRICS_BYTES: Final = 5 * limits.MIB

# roles, and the scopes of which a token needs one to report for a process of the role
REPORTERS: Final[Mapping[str, frozenset[TokenScope]]] = {
    "edge": frozenset({TokenScope.VERIFY, TokenScope.ADMIN}),
    "runner": frozenset({TokenScope.RUN, TokenScope.ADMIN}),
    "admin": frozenset({TokenScope.VIEW, TokenScope.ADMIN}),
    "router": frozenset({TokenScope.ADMIN}),
}

_REPORTED: Final = (
    *("name", "role", "build", "pid", "host", "ready", "detail", "url"),
    *("connections", "warnings", "stopping"),
)
_invalid: Final = partial(InvalidError, reason="PROCESS_INVALID")


class ProcessReport(NamedTuple):
    """A process's report: its fields without the metrics, its metrics, its time (s), and the seat of the metrics."""

    process: pb.Process
    metrics: bytes
    seen: float
    series: Seat


class ProcessReports:
    """The processes that reported and were not dismissed; those that ended in order, for `FORGET_SECONDS`.

    Each role may have `max_processes`, and tokens share the `series`.
    """

    def __init__(
        self, clock: Callable[[], float], *, max_processes: int = MAX_PROCESSES, series: Limit | None = None
    ) -> None:
        self._clock = clock
        self._series = SharedLimit(series or RouterLimits().report_series)
        self._max_processes = max_processes
        self._by_role: dict[str, dict[str, ProcessReport]] = {role: {} for role in REPORTERS}

    def store(
        self,
        process: pb.Process,
        scopes: Collection[TokenScope],
        metrics: ReportedMetrics | None = None,
        *,
        keeps_metrics: bool = False,
    ) -> bool:
        """Store the report of a process in place of its previous one, with its `metrics` if they are checked already.

        `keeps_metrics`: with those of the previous one.

        Returns false when its metrics are not stored: there is no room for them, or they are not valid.

        Raises:
            InvalidError, PermissionDeniedError: see `checked_report`.
            ExhaustedError: too many processes of the role report already (`TOO_MANY_PROCESSES`).
        """
        checked = checked_report(process, scopes)
        now = self._clock()
        self._forget(now)
        others = self._by_role[checked.role]
        previous = others.pop(checked.name, None)
        if previous is not None and keeps_metrics:
            others[checked.name] = previous._replace(process=checked, seen=now)
            return True
        if previous is not None:
            previous.series.release()
        if len(others) >= self._max_processes:
            oldest = min(others, key=lambda name: others[name].seen)
            if others[oldest].seen <= now - FORGET_SECONDS:
                others.pop(oldest).series.release()
        if len(others) >= self._max_processes:
            raise ExhaustedError("too many processes of this role", reason="TOO_MANY_PROCESSES")
        if metrics is None:
            metrics = reported_metrics.check(process.metrics, checked.name, checked.role)
        stored = sum(len(report.metrics) for report in others.values())
        seat = self._series.acquire(current_principal.get(), 0)
        try:
            seat.resize(metrics.series)
        except FlowhookError:
            metrics = NONE
        if stored + len(metrics.text) > MAX_METRICS_BYTES:
            metrics = NONE
            seat.release()
        others[checked.name] = ProcessReport(checked, metrics.text, now, seat)
        return bool(metrics.text) or not process.metrics

    def router_skew(self) -> float:
        """Return by how much the router's clock is ahead of most others', in seconds; negative: behind.

        0: it differs from no majority of them. Of two clocks that differ nobody knows which one is wrong.
        """
        alive = self._clock() - ALIVE_SECONDS
        skews = [
            -convert.seconds(report.process.clock_skew)
            for reports in self._by_role.values()
            for report in reports.values()
            if report.seen > alive and report.process.HasField("clock_skew")
        ]
        middle = median_low(skews) if len(skews) > 1 else 0.0
        agreeing = sum(abs(skew - middle) <= MAX_CLOCK_SKEW_SECONDS for skew in skews)
        return middle if abs(middle) > MAX_CLOCK_SKEW_SECONDS and 2 * agreeing > len(skews) + 1 else 0.0

    def all(self) -> list[ProcessReport]:
        self._forget(self._clock())
        return [report for reports in self._by_role.values() for report in reports.values()]

    def dismiss(self, name: str) -> None:
        """Forget a process that has ended.

        Raises:
            NotFoundError: there is no process of this name (`PROCESS_NOT_FOUND`).
            ConflictError: it has reported just now (`PROCESS_ALIVE`).
        """
        now = self._clock()
        self._forget(now)
        found = [reports for reports in self._by_role.values() if name in reports]
        if not found:
            raise NotFoundError(f"there is no process {name}", reason="PROCESS_NOT_FOUND")
        if any(reports[name].seen > now - ALIVE_SECONDS for reports in found):
            raise process_alive(name)
        for reports in found:
            reports.pop(name).series.release()

    def _forget(self, now: float) -> None:
        """Forget processes that ended in order, and the metrics of those that fell silent."""
        for reports in self._by_role.values():
            for name, report in list(reports.items()):
                if report.seen <= now - FORGET_SECONDS:
                    report.series.release()
                    if report.process.stopping:
                        del reports[name]
                    else:
                        reports[name] = report._replace(metrics=b"")


def checked_report(process: pb.Process, scopes: Collection[TokenScope]) -> pb.Process:
    """Return the checked fields of a report, without the metrics.

    Raises:
        InvalidError: a field is not within its bounds (`PROCESS_INVALID`).
        PermissionDeniedError: these scopes do not allow reports for the role (`SCOPE_MISSING`).
    """
    checked = _checked(process)
    check_may_report(checked.role, scopes)
    return checked


def check_may_report(role: str, scopes: Collection[TokenScope]) -> None:
    if not REPORTERS[role].intersection(scopes):
        raise PermissionDeniedError(
            f"the token does not permit reports of a process with role {role}", reason="SCOPE_MISSING"
        )


def _checked(process: pb.Process) -> pb.Process:
    """Return a copy of the checked fields only, without the metrics: unknown fields can have any length."""
    texts = (
        (process.name, MAX_NAME),
        (process.build, MAX_BUILD),
        (process.host, MAX_HOST),
        (process.detail, MAX_DETAIL),
        (process.url, MAX_URL),
        *((warning, MAX_DETAIL) for warning in process.warnings),
    )
    if not process.name or any(len(text) > limit or not text.isprintable() for text, limit in texts):
        raise _invalid("a process must have a name, and its texts must be printable and within the lengths of the API")
    warning_bytes = sum(len(warning.encode()) for warning in process.warnings)
    if len(process.warnings) > MAX_WARNINGS or warning_bytes > MAX_WARNINGS_BYTES:
        raise _invalid(f"`warnings` must be at most {MAX_WARNINGS}, and {MAX_WARNINGS_BYTES} bytes")
    if process.role not in REPORTERS or process.pid < 0:
        raise _invalid("`role` must be edge, router, runner or admin, and `pid` positive")
    if not within_limits(process.metrics):
        raise _invalid("`metrics` must have at most 2 MiB and 10,000 lines")
    if abs(convert.seconds(process.clock_skew)) > MAX_SKEW_SECONDS:
        raise _invalid("`clock_skew` must be at most 100 years")
    start = Timestamp(seconds=process.start_time.seconds, nanos=process.start_time.nanos)  # without unknown fields
    if not 0 <= start.seconds <= convert.MAX_SECONDS or not 0 <= start.nanos < NANOS or process.connections < 0:
        raise _invalid("`start_time` must be in the years 1970 to 9999, and `connections` not negative")
    return pb.Process(
        **{name: getattr(process, name) for name in _REPORTED},
        start_time=start if process.HasField("start_time") else None,
        clock_skew=convert.duration(convert.seconds(process.clock_skew)) if process.HasField("clock_skew") else None,
    )


def process_alive(name: str) -> ConflictError:
    return ConflictError(f"the process {name} runs: stop it first", reason="PROCESS_ALIVE")
