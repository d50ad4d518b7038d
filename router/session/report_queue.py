"""Checkpoints, outcomes and subscriptions of a runner that wait to be stored, in order and in batches."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Final

from flowhook import limits
from flowhook.attach.messages import Checkpoint, CheckpointBatch, Outcome, OutcomeBatch, SubscriptionBatch
from router.session.effects import ReportEffect, StoreReports, Subscribe
from router.session.validation import check_subscriptions, checked_checkpoint, checked_outcome

MAX_UNSTORED_BYTES: Final = limits.MAX_MESSAGE_BYTES
"""Bytes of messages that may wait to be stored before reading stops."""

MAX_STORE_BYTES: Final = 8 * limits.MIB
"""Bytes of messages stored in one batch, or one larger message: other runners need to write, too."""

Report = CheckpointBatch | OutcomeBatch | SubscriptionBatch


class ReportQueue:
    """The reports of one runner that are not stored yet."""

    def __init__(self) -> None:
        self._reports: deque[tuple[Report, int]] = deque()
        self._bytes = 0
        self._storing = 0

    def __bool__(self) -> bool:
        """Whether there is something to take."""
        return bool(self._reports)

    @property
    def full(self) -> bool:
        """Whether so much waits that nothing more should be read (back-pressure)."""
        return self._bytes > MAX_UNSTORED_BYTES

    def add(self, report: Report, size: int) -> None:
        """Add a message of `size` bytes.

        Raises:
            InvalidError: a protocol violation.
        """
        match report:
            case CheckpointBatch():
                report = CheckpointBatch(tuple(map(checked_checkpoint, report.checkpoints)))
            case OutcomeBatch():
                report = OutcomeBatch(tuple(map(checked_outcome, report.outcomes)))
            case SubscriptionBatch():
                for update in report.updates:
                    check_subscriptions(update.subscriptions)
        self._reports.append((report, size))
        self._bytes += size

    def take(self) -> list[ReportEffect]:
        """Remove the next batch, and return what to do with it; call `stored` when that is done."""
        effects: list[ReportEffect] = []
        checkpoints: list[Checkpoint] = []
        outcomes: list[Outcome] = []
        while self._reports and self._storing < MAX_STORE_BYTES:
            report, size = self._reports.popleft()
            self._storing += size
            match report:
                case CheckpointBatch():
                    checkpoints += report.checkpoints
                case OutcomeBatch():
                    outcomes += report.outcomes
                case SubscriptionBatch():
                    # it withdraws deliveries that no earlier checkpoint has accepted
                    effects += _store(checkpoints, outcomes)
                    checkpoints, outcomes = [], []
                    effects += map(Subscribe, report.updates)
        return effects + _store(checkpoints, outcomes)

    def stored(self) -> None:
        """Record that what was taken is stored."""
        self._bytes -= self._storing
        self._storing = 0


def _store(checkpoints: Sequence[Checkpoint], outcomes: Sequence[Outcome]) -> list[ReportEffect]:
    """Return the effect that stores reports: each outcome together with the checkpoints of its execution, or after.

    It is stored after a checkpoint that consumes an event: it must first be checked whether the execution may do that.
    """
    if not checkpoints and not outcomes:
        return []
    journals: dict[bytes, list[Checkpoint]] = defaultdict(list)
    for checkpoint in checkpoints:
        journals[checkpoint.lease].append(checkpoint)
    at_once: list[Outcome] = []
    later: list[Outcome] = []
    for outcome in outcomes:
        journal = journals.get(outcome.lease)
        if journal is None:
            at_once.append(outcome)
        elif any(checkpoint.arrival for checkpoint in journal):
            later.append(outcome)
        else:
            del journals[outcome.lease]
            at_once.append(outcome._replace(checkpoints=(*journal, *outcome.checkpoints)))
    rest = tuple(checkpoint for journal in journals.values() for checkpoint in journal)
    return [StoreReports(rest, tuple(at_once), tuple(later))]
