"""Prepares the attempts of an execution for the timeline: for how long it was queued, and a bar for each attempt."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from admin.console.timeline import Bar
from flowhook.model import Status
from flowhook.model.executions import Attempt, AttemptEnd
from operations.executions import ExecutionDetailView

Interval = tuple[int, int | None]  # begin and end in Unix milliseconds; None: it goes on
# texts for the last attempt at an execution that has not ended
_TEXTS: Final = {Status.RUNNING: "under way", Status.WAITING: "waits", Status.PENDING: "was woken"}


@dataclass(slots=True)
class AttemptBars:
    """What the timeline shows of attempts."""

    queued: list[Interval] = field(default_factory=list)  # times in the queue, in order
    bars: list[Bar] = field(default_factory=list)  # a bar for each attempt whose beginning is known, in order

    def queued_ms(self, now_ms: int) -> int:
        """Return the time in the queue, in all."""
        return _total(self.queued, now_ms)

    def ran_ms(self, now_ms: int) -> int:
        """Return the time of all attempts, in all."""
        return _total([(bar.begin_ms, bar.end_ms) for bar in self.bars], now_ms)

    @property
    def rows(self) -> Iterator[Bar]:
        """The rows of the timeline: the queue, then the attempts."""
        if self.queued:
            (begin, end), *others = self.queued
            yield Bar("in the queue", "queued", begin, end, waits=True, others=tuple(others))
        yield from self.bars


def attempt_bars(detail: ExecutionDetailView) -> AttemptBars:
    """Return the bars of all attempts.

    An attempt that waits gives its runner up, and goes on under its number: that is one bar, which begins with the
    first task, since only the last assignment is known. So does an attempt of which no assignment is known: one that
    waits now, or that outlived its router.
    """
    shown = AttemptBars()
    last_one = detail.attempt_history[-1] if detail.attempt_history else None
    if last_one is not None and _ended_it(last_one) and last_one.assigned_at is None:
        detail = replace(detail, attempt_history=detail.attempt_history[:-1])
    begins = sorted(to_ms(task.began_at) for task in detail.tasks if task.began_at is not None)
    # since when it was in the queue; None: unknown, or it was not
    free = None if detail.attempts_left_out else to_ms(detail.received_at)
    last = 0
    for attempt in detail.attempt_history:
        ended = None if attempt.ended_at is None else to_ms(attempt.ended_at)
        begin = _begin(attempt, begins, last, ended)
        if begin is not None:
            _add_queued(shown, free, begin)
            status = str(detail.status)
            text, state = (status, status) if _ended_it(attempt) else (_short_reason(attempt), _state(attempt))
            shown.bars.append(_bar(attempt.number, text, begin, ended, state=state))
        last = ended or last
        free = None if attempt.end is AttemptEnd.SUSPENDED else ended
    last_one = detail.attempt_history[-1] if detail.attempt_history else None
    if last_one is None or not (last_one.ended_at is None or _ended_it(last_one)):
        _add_last(shown, detail, begins, free, last)
    return shown


def _ended_it(attempt: Attempt) -> bool:
    """Whether an attempt ended its execution."""
    return attempt.end is AttemptEnd.EXECUTION_ENDED


def _begin(attempt: Attempt, begins: list[int], since: int, ended: int | None) -> int | None:
    """Return when an attempt began: it was assigned, or the first task of this number began, before a wait."""
    known = [] if attempt.assigned_at is None else [to_ms(attempt.assigned_at)]
    task = _first(begins, since)
    if task is not None and (ended is None or task < ended):
        known.append(task)
    return min(known, default=None)


def _add_last(bars: AttemptBars, detail: ExecutionDetailView, begins: list[int], free: int | None, last: int) -> None:
    """Add what came after the attempts that are stored: the last attempt, or the time in the queue."""
    ended = None if detail.ended_at is None else to_ms(detail.ended_at)
    begin = _first(begins, last)
    if detail.attempt_history and (_is_continued(detail, last) or (begin is None and _has_last(detail))):
        begin = last  # at the earliest: its tasks had begun before
    if begin is not None:
        _add_queued(bars, free, begin)
        state, waits = str(detail.status), detail.status is Status.WAITING
        text = _TEXTS.get(detail.status, state)
        bars.bars.append(_bar(max(1, detail.attempts), text, begin, ended, state=state, waits=waits))
    elif detail.status is not Status.SUSPENDED and not _is_given_up(detail):
        _add_queued(bars, free, ended)


def _is_continued(detail: ExecutionDetailView, last: int) -> bool:
    """Whether a task that was in progress at a time ended later: an attempt went on with it, perhaps at once."""
    return any(
        task.began_at is not None and task.ended_at is not None and to_ms(task.began_at) < last < to_ms(task.ended_at)
        for task in detail.tasks
    )


def _has_last(detail: ExecutionDetailView) -> bool:
    """Whether an execution had an attempt after those that are stored."""
    if detail.status in (Status.RUNNING, Status.WAITING, Status.COMPLETED):
        return True
    charged = detail.attempts_left_out + sum(attempt.charged for attempt in detail.attempt_history)
    return detail.status.ended and not _is_given_up(detail) and detail.attempts > charged


def _is_given_up(detail: ExecutionDetailView) -> bool:
    """Whether an execution ended because its last attempt was interrupted."""
    return bool(detail.attempt_history) and detail.attempt_history[-1].ended_at == detail.ended_at


def _add_queued(bars: AttemptBars, begin: int | None, end: int | None) -> None:
    if begin is not None and (end is None or end > begin):
        bars.queued.append((begin, end))


def _bar(number: int, text: str, begin: int, end: int | None, *, state: str, waits: bool = False) -> Bar:
    return Bar(f"runner attempt {number}: {text}", state, begin, end, waits=waits, is_attempt=True)


def _short_reason(attempt: Attempt) -> str:
    """Return why an attempt ended, in so few words that a label has room for them."""
    if attempt.end is None:
        return attempt.reason
    text = attempt.end.replace("_", " ")
    return f"{text} ({attempt.detail})" if attempt.detail else text


def _state(attempt: Attempt) -> str:
    if attempt.ended_at is None:
        return "running"
    return "faulted" if attempt.charged else "cancelled"


def _first(begins: list[int], since: int) -> int | None:
    place = bisect_left(begins, since)
    return begins[place] if place < len(begins) else None


def _total(intervals: Sequence[Interval], now_ms: int) -> int:
    return sum(max(0, (now_ms if end is None else end) - begin) for begin, end in intervals)


def to_ms(time: datetime) -> int:
    """Return a time in Unix milliseconds."""
    return round(time.timestamp() * 1000)
