"""Collects results and failures, and reports them."""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

SHOWN: Final = 10
"""Failures that are printed in full; those that differ only in numbers count as one."""

SAVED: Final = 200
"""Failures whose requests are saved."""


@dataclass
class Findings:
    """Results so far.

    Attributes:
        seed: of the random numbers.
        folder: where requests that led to failures are saved.
        statuses: final answers.
        reasons: of answers of 5xx.
        made: requests sent; some were not read, because an earlier one ended the connection.
        connections: by the name of the edge.
        resets: connections that the edge reset, as it may while a refused request is still being sent.
        cut: connections that the sender reset.
        uploads: large bodies.
        failures: descriptions.
        started: `time.monotonic()` when sending began.
    """

    seed: int
    folder: Path
    statuses: Counter[int] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    made: int = 0
    connections: Counter[str] = field(default_factory=Counter)
    resets: int = 0
    cut: int = 0
    uploads: int = 0
    failures: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    @property
    def answered(self) -> int:
        """Number of answered requests."""
        return sum(self.statuses.values())

    def fail(self, what: str, sent: bytes = b"", received: bytes = b"") -> None:
        """Record a failure, and save the bytes that led to it."""
        if sent and len(self.failures) < SAVED:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / f"{self.seed}-{len(self.failures)}"
            path.with_suffix(".sent").write_bytes(sent)
            path.with_suffix(".received").write_bytes(received)
            what += f"\n  sent {sent[:600]!r}\n  received {received[:600]!r}\n  saved as {path}.sent"
        self.failures.append(what)

    def progress(self, wanted: int, deadline: float) -> str:
        """Return one line of progress.

        Args:
            wanted: number of answers.
            deadline: `time.monotonic()` at which sending ends.
        """
        now = time.monotonic()
        rate = self.answered / max(now - self.started, 0.001)
        left = min((wanted - self.answered) / max(rate, 0.001), deadline - now)
        minutes, seconds = divmod(max(0, round(left)), 60)
        return (
            f"{self.answered:,} of {wanted:,} requests answered, {rate:,.0f}/s, "
            f"{minutes}:{seconds:02} left, {len(self.failures)} failures"
        )

    def report(self, seconds: float) -> str:
        """Return the summary.

        Args:
            seconds: how long requests were sent.
        """
        rate = self.answered / max(seconds, 0.001)
        each = ", ".join(f"{name} {count:,}" for name, count in sorted(self.connections.items()))
        lines = [
            f"{self.answered:,} requests answered of {self.made:,} made, in {seconds:.0f} s ({rate:,.0f}/s)",
            f"large bodies: {self.uploads:,}",
            f"connections: {each}; cut off {self.cut:,}, reset by the edge {self.resets:,}",
            *(f"  {status}  {count:>9,}" for status, count in sorted(self.statuses.items())),
        ]
        lines += [f"  {reason}  {count:,}" for reason, count in sorted(self.reasons.items())]
        alike: dict[str, str] = {}
        for failure in self.failures:
            alike.setdefault(re.sub(r"[0-9]+", "", failure[:300]), failure)
        lines += [f"FAILED: {failure}" for failure in list(alike.values())[:SHOWN]]
        lines.append(f"{len(self.failures)} failures, seed {self.seed}" if self.failures else "no failures")
        return "\n".join(lines)
