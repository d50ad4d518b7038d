"""Concludes from the reports of several routers which one owns the shard. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class OwnerReport:
    """What one router reports of the owner of the shard."""

    epoch: int  # number of the ownership, from 1; 0: the router knows no owner
    address: str  # `host:port` of the owner
    serving: bool  # whether the owner serves; false while it recovers or hands over


class OwnerReports:
    """The latest report of each source. The highest epoch among them is right: other routers may lag behind it.

    Whether the owner of that epoch serves is reported by itself first, by others with a delay. It counts as serving if
    any source says so: a call that it refuses is repeated, while one that is never started would wait without end.
    """

    def __init__(self) -> None:
        self._latest: dict[str, OwnerReport] = {}
        self._ended: set[str] = set()

    def record(self, source: str, report: OwnerReport) -> None:
        """Replace the report of `source`, unless it has reported a higher epoch since `end` was last called for it.

        A source that knows no owner any more reports thereby that the one it knew does not serve.
        """
        before = self._latest.get(source)
        if before is not None and not report.epoch:
            self._latest[source] = replace(before, serving=False)
            return
        if before is None or source in self._ended or report.epoch >= before.epoch:
            self._latest[source] = report
        self._ended.discard(source)

    def end(self, source: str) -> None:
        """Note that the stream of `source` has ended. Its report remains valid until its next one, whatever the epoch.

        Else the highest epoch would outlive a log that was restored or replaced while its routers were stopped.
        """
        self._ended.add(source)

    def latest(self) -> OwnerReport | None:
        """Return the ownership with the highest epoch; None: no source knows one."""
        known = [report for report in self._latest.values() if report.epoch and report.address]
        return max(known, key=lambda report: (report.epoch, report.serving), default=None)
