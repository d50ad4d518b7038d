"""Timeline of an execution for the console: its trace joined with the stored history of tasks, drawn as SVG.

The timeline is SVG: how long the execution was queued, and a bar for each attempt and each task. Attributes hold
positions and sizes, classes hold colours: the policy of the console permits no inline style.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, NamedTuple

from markupsafe import Markup

from admin.console.body_view import indent_json
from flowhook.json import object_of
from flowhook.model import Status, TaskRun, TaskState
from flowhook.model.execution_trace import ExecutionTrace, TracedRequest, TracedTask
from flowhook.model.executions import Attempt, AttemptEnd
from operations import comparison
from operations.comparison import DiffLine
from operations.diagram.reading import milliseconds_text
from operations.executions import ExecutionDetailView

MAX_BARS: Final = 200  # bars of a timeline; the table beside it has all tasks
WIDTH: Final = 1000  # width of the picture in its own units, which the page scales
LABELS: Final = 260  # width of the column with the names of tasks
ROW: Final = 24  # height of a row
_BAR: Final = 14
_AXIS: Final = 28
_GAP: Final = 3
_CHARACTER: Final = 9  # widest that a character of the axis is
_MIN_WIDTH: Final = 2
_MAX_LABEL: Final = 34
_MAX_INDENT: Final = 8
_INDENT: Final = 8
_TICKS: Final = 5
_DAY: Final = 86_400_000
# distances of ticks in milliseconds; longer ones are whole days
_STEPS: Final = (
    *(1, 2, 5, 10, 20, 50, 100, 200, 500),
    *(1000 * seconds for seconds in (1, 2, 5, 10, 20, 30)),
    *(60_000 * minutes for minutes in (1, 2, 5, 10, 20, 30)),
    *(3_600_000 * hours for hours in (1, 2, 3, 6, 12)),
    _DAY,
)


@dataclass(frozen=True, slots=True)
class Bar:
    """A row of the timeline."""

    label: str  # name of the task, for people
    state: str  # class of its colour: `queued`, or the state of a task or of an attempt
    begin_ms: int  # time at which it began, in Unix milliseconds
    end_ms: int | None  # time at which it ended; None: it has not
    waits: bool = False  # whether it waits for something, rather than works
    tries_ms: tuple[int, ...] = ()  # times at which its operation was tried again
    depth: int = 0  # number of tasks around it
    link: str = ""  # URL of what the row leads to; empty: nothing
    others: tuple[tuple[int, int | None], ...] = ()  # later intervals of the same row, as `begin_ms` and `end_ms`
    is_attempt: bool = False  # whether it is an attempt, whose label says its state

    @property
    def intervals(self) -> tuple[tuple[int, int | None], ...]:
        return ((self.begin_ms, self.end_ms), *self.others)


def draw_timeline(bars: Sequence[Bar], now_ms: int) -> Markup:
    """Return the picture of the first `MAX_BARS` bars; those without an end go on until now. Empty without bars."""
    shown = bars[:MAX_BARS]
    if not shown:
        return Markup("")
    first = min(bar.begin_ms for bar in shown)
    last = max(_end(interval, now_ms) for bar in shown for interval in bar.intervals)
    scale = _Scale(first, max(last - first, 1))
    height = _AXIS + ROW * len(shown)
    parts = [
        Markup('<svg class="timeline" viewBox="0 0 {} {}" width="{}" height="{}" role="group" aria-label="{}">').format(
            WIDTH, height, WIDTH, height, f"Timeline of {len(shown)} rows over {milliseconds_text(last - first)}"
        ),
        *_axis(scale, height),
        *(_row(bar, _AXIS + ROW * index, scale, now_ms) for index, bar in enumerate(shown)),
        Markup("</svg>"),
    ]
    return Markup("").join(parts)


@dataclass(frozen=True, slots=True)
class _Scale:
    first_ms: int
    length_ms: int

    def x(self, moment_ms: float) -> float:
        share = min(max((moment_ms - self.first_ms) / self.length_ms, 0.0), 1.0)
        return round(LABELS + share * (WIDTH - LABELS - _MIN_WIDTH), 1)


def _end(interval: tuple[int, int | None], now_ms: int) -> int:
    begin, end = interval
    return max(begin, now_ms if end is None else end)


def _axis(scale: _Scale, height: int) -> list[Markup]:
    step = tick_step(scale.length_ms)
    line = Markup('<line class="tick" x1="{}" y1="{}" x2="{}" y2="{}"/>')
    text = Markup('<text class="axis" x="{}" y="14" text-anchor="{}">{}</text>')
    ticks = []
    for number in range(int(scale.length_ms // step) + 1):
        x = scale.x(scale.first_ms + number * step)
        label = milliseconds_text(number * step)
        fits = x + _GAP + _CHARACTER * len(label) <= WIDTH
        ticks.append(line.format(x, _AXIS - 8, x, height))
        ticks.append(text.format(x + _GAP if fits else x - _GAP, "start" if fits else "end", label))
    return ticks


def tick_step(length_ms: int) -> int:
    """Return the distance of the ticks of an axis in milliseconds, so that there are at most `_TICKS` of them."""
    wanted = max(1, -(-length_ms // _TICKS))
    return next((step for step in _STEPS if step >= wanted), -(-wanted // _DAY) * _DAY)


def _row(bar: Bar, y: int, scale: _Scale, now_ms: int) -> Markup:
    taken = milliseconds_text(sum(_end(interval, now_ms) - interval[0] for interval in bar.intervals))
    label = bar.label if len(bar.label) <= _MAX_LABEL else bar.label[: _MAX_LABEL - 1] + "…"
    what = f"{bar.label}{', ' if bar.is_attempt else f': {bar.state}, '}{'waits, ' if bar.waits else ''}{taken}"
    what += " so far" if any(end is None for _, end in bar.intervals) else ""
    mark = Markup('<line class="try" x1="{}" y1="{}" x2="{}" y2="{}"/>')
    row = Markup('<g><title>{}</title><text class="label" x="{}" y="{}">{}</text>{}{}</g>').format(
        what,
        min(bar.depth, _MAX_INDENT) * _INDENT,
        y + _BAR,
        label,
        Markup("").join(
            _rectangle(bar, y, scale.x(interval[0]), scale.x(_end(interval, now_ms))) for interval in bar.intervals
        ),
        Markup("").join(mark.format(scale.x(each), y + 1, scale.x(each), y + ROW - 3) for each in bar.tries_ms),
    )
    return Markup('<a href="{}">{}</a>').format(bar.link, row) if bar.link else row


def _rectangle(bar: Bar, y: int, begin: float, end: float) -> Markup:
    return Markup('<rect class="bar {}{}{}" x="{}" y="{}" width="{}" height="{}"/>').format(
        bar.state,
        " attempt" if bar.is_attempt else "",
        " waits" if bar.waits else "",
        begin,
        y + (ROW - _BAR) // 2 - 1,
        max(round(end - begin, 1), _MIN_WIDTH),
        _BAR,
    )


WAITING_KINDS: Final = frozenset({"wait", "listen"})  # kinds of tasks that wait rather than work
UNKNOWN: Final = "unknown"  # state of a task whose end neither the history nor the trace has
MAX_LINES: Final = 500  # lines of a text that are compared: the time grows with the square
Interval = tuple[int, int | None]  # begin and end in Unix milliseconds; None: it goes on
# texts for the last attempt at an execution that has not ended
_TEXTS: Final = {Status.RUNNING: "under way", Status.WAITING: "waits", Status.PENDING: "was woken"}


@dataclass(frozen=True, slots=True)
class ShownTask:
    """A task that ran: what is stored of it, what the trace has of it, or both."""

    number: int  # ordinal among all task runs of the execution, from 1
    task: str  # JSON Pointer with iterations
    name: str  # last part of the pointer
    run: TaskRun | None  # stored times and state; None: not stored
    traced: TracedTask | None  # its data; None: not traced
    is_open: bool = False  # whether it may be running if the trace does not have its end

    @property
    def state(self) -> str:
        if self.run is not None:
            return self.run.state
        if self.traced is None:
            return ""
        if self.traced.outcome == "unfinished":
            return "running" if self.is_open else UNKNOWN
        return self.traced.outcome

    @property
    def failed(self) -> bool:
        return TaskState.FAULTED in (self.state, None if self.traced is None else self.traced.outcome)

    @property
    def waits(self) -> bool:
        if self.traced is None:
            return False
        return self.traced.kind in WAITING_KINDS or any(each.kind == "completion" for each in self.traced.requests)


def shown_tasks(detail: ExecutionDetailView, trace: ExecutionTrace | None) -> list[ShownTask]:
    runs = {run.number: run for run in detail.tasks}
    traced = {} if trace is None else {task.number: task for task in trace.tasks}
    # a trace that is limited, or begins after a compaction, leaves the end of tasks out
    is_whole = trace is not None and trace.outcome == "unfinished" and not trace.compacted
    is_open = is_whole and not detail.status.ended
    names = {number: task.task for number, task in traced.items()} | {number: run.task for number, run in runs.items()}
    return [
        ShownTask(number, task, name_of(task), runs.get(number), traced.get(number), is_open)
        for number, task in sorted(names.items())
    ]


def name_of(task: str) -> str:
    name = task.rpartition("/")[2].replace("~1", "/").replace("~0", "~")
    return name or task


def depth_of(task: str) -> int:
    return max(0, sum(part.isdecimal() for part in task.split("/")) - 1)


def timeline_bars(detail: ExecutionDetailView, tasks: Sequence[ShownTask], link: str) -> list[Bar]:
    """Return the rows of the timeline: the time in the queue, the attempts, and the tasks whose beginning is stored.

    `link`: prefix of the URL of a task, to which its number is appended.
    """
    bars = list(attempt_bars(detail).rows)
    for task in tasks:
        run = task.run
        if run is None or run.begin_time_ms is None:
            continue
        requests = () if task.traced is None else task.traced.requests
        bars.append(
            Bar(
                label=task.name,
                state=run.state,
                begin_ms=run.begin_time_ms,
                end_ms=detail.end_time_ms if run.end_time_ms is None else run.end_time_ms,
                waits=task.waits,
                tries_ms=tuple(each.answered_ms for each in requests if each.kind == "retry" and each.answered_ms),
                depth=depth_of(task.task),
                link=f"{link}{task.number}",
            )
        )
    return bars


class Durations(NamedTuple):
    """Durations of an execution in seconds, in the queue and of all attempts; None: not known, or not yet."""

    queued: float | None
    ran: float | None


def durations(detail: ExecutionDetailView, now: datetime) -> Durations:
    shown, now_ms = attempt_bars(detail), to_ms(now)
    if not shown.bars:
        return Durations(None, None)
    ran = [(bar.begin_ms, bar.end_ms) for bar in shown.bars]
    return Durations(_total(shown.queued, now_ms) / 1000, _total(ran, now_ms) / 1000)


def waited_seconds(tasks: Sequence[ShownTask], now: datetime) -> float:
    runs = [task.run for task in tasks if task.waits and task.run is not None]
    total, reached = 0, 0
    for begin, end in sorted(
        (run.begin_time_ms, run.end_time_ms or to_ms(now)) for run in runs if run.begin_time_ms is not None
    ):
        total += max(0, end - max(begin, reached))
        reached = max(end, reached)
    return total / 1000


class TraceValues:
    """Texts of the values of a trace, for templates."""

    def __init__(self, trace: ExecutionTrace) -> None:
        self._values = trace.values

    def text(self, index: int | None, limit: int) -> str:
        if index is None:
            return ""
        value = self._values[index]
        if not value.cut and len(value.text) <= limit:
            return indent_json(value.text) or value.text
        shown = value.text[:limit]
        return (
            f"{shown}\n… of {value.size} bytes" if shown else f"… {value.size} bytes, which are more than a trace holds"
        )

    def differences(self, before: int | None, after: int | None) -> list[DiffLine]:
        if before is None or after is None or before == after:
            return []
        old, new = self._values[before], self._values[after]
        return diff_lines(indent_json(old.text) or old.text, indent_json(new.text) or new.text)

    def request_line(self, request: TracedRequest) -> str:
        if request.arguments is None or request.function != "http":
            return ""
        value = self._values[request.arguments]
        arguments = None if value.cut else object_of(value.text)
        if arguments is None:
            return ""
        endpoint = arguments.get("endpoint")
        url = endpoint.get("uri") if isinstance(endpoint, dict) else endpoint
        return f"{str(arguments.get('method', '')).upper()} {url}"


def diff_lines(before: str, after: str) -> list[DiffLine]:
    """Return the lines of a unified diff of two texts without the first head; none if the texts are equal.

    Only the first `MAX_LINES` of each are compared.
    """
    old, new = before.split("\n")[:MAX_LINES], after.split("\n")[:MAX_LINES]
    return list(comparison.diff_lines(old, new))[1:]


@dataclass(slots=True)
class AttemptBars:
    """What the timeline shows of attempts."""

    queued: list[Interval] = field(default_factory=list)  # times in the queue, in order
    bars: list[Bar] = field(default_factory=list)  # a bar for each attempt whose beginning is known, in order

    @property
    def rows(self) -> Iterator[Bar]:
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
    if last_one is not None and _ended_it(last_one) and last_one.assign_time_ms is None:
        detail = replace(detail, attempt_history=detail.attempt_history[:-1])
    begins = sorted(task.begin_time_ms for task in detail.tasks if task.begin_time_ms is not None)
    # since when it was in the queue; None: unknown, or it was not
    free = None if detail.attempts_left_out else detail.receive_time_ms
    last = 0
    for attempt in detail.attempt_history:
        ended = attempt.end_time_ms
        begin = _begin(attempt, begins, last)
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
    return attempt.end is AttemptEnd.EXECUTION_ENDED


def _begin(attempt: Attempt, begins: list[int], since: int) -> int | None:
    """Return when an attempt began: it was assigned, or the first task of this number began, before a wait."""
    task = _first(begins, since)
    if task is not None and attempt.end_time_ms is not None and task >= attempt.end_time_ms:
        task = None
    return min((each for each in (attempt.assign_time_ms, task) if each is not None), default=None)


def _add_last(bars: AttemptBars, detail: ExecutionDetailView, begins: list[int], free: int | None, last: int) -> None:
    """Add what came after the attempts that are stored: the last attempt, or the time in the queue."""
    ended, begin = detail.end_time_ms, _first(begins, last)
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
        task.begin_time_ms is not None and task.end_time_ms is not None and task.begin_time_ms < last < task.end_time_ms
        for task in detail.tasks
    )


def _has_last(detail: ExecutionDetailView) -> bool:
    if detail.status in (Status.RUNNING, Status.WAITING, Status.COMPLETED):
        return True
    charged = detail.attempts_left_out + sum(attempt.charged for attempt in detail.attempt_history)
    return detail.status.ended and not _is_given_up(detail) and detail.attempts > charged


def _is_given_up(detail: ExecutionDetailView) -> bool:
    """Whether an execution ended because its last attempt was interrupted."""
    return bool(detail.attempt_history) and detail.attempt_history[-1].end_time_ms == detail.end_time_ms


def _add_queued(bars: AttemptBars, begin: int | None, end: int | None) -> None:
    if begin is not None and (end is None or end > begin):
        bars.queued.append((begin, end))


def _bar(number: int, text: str, begin: int, end: int | None, *, state: str, waits: bool = False) -> Bar:
    return Bar(f"runner attempt {number}: {text}", state, begin, end, waits=waits, is_attempt=True)


def _short_reason(attempt: Attempt) -> str:
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
    return round(time.timestamp() * 1000)
