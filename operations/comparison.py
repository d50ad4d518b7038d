"""Compares two texts, and two executions: their requests, their tasks and their results. Pure.

JSON is compared by path, in the order of the first value, and numbers as they were written; other contents by line or
by byte. Everything is bounded: what is not compared, or not listed, is said so. It blocks for up to a second with two
bodies of 1 MiB, so that processes with an event loop call it in a thread.

Source: RFC 6901, JSON Pointer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import StrEnum
from itertools import islice, zip_longest
from typing import Any, Final, Literal

from flowhook.errors import InvalidError
from flowhook.json import check_value_count, verbatim
from flowhook.json.verbatim import JsonNumber
from flowhook.model import Event, ExecutionDetail, TaskRun, TaskState, WorkflowError
from operations.encoding import header_texts

MAX_DEPTH: Final = 64  # levels that paths have; what differs below is reported as a difference of the value there
MAX_SHOWN: Final = 200  # characters of a value that are shown
MAX_PATH: Final = 500  # characters of a path that are shown
_ABSENT: Final = object()
_END: Final = object()

# the path of the value around, and the name or index in it: a list that all values of it share
_Path = tuple[Any, str] | None


class DifferenceKind(StrEnum):
    """What differs."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference at a path."""

    kind: DifferenceKind  # what differs
    path: str  # JSON Pointer; empty for the whole value
    first: str  # JSON of the first value, cut with `…`; empty if absent
    second: str  # the same of the second value


def find_differences(first: Any, second: Any) -> Iterator[Difference]:
    """Yield the differences of two values of `verbatim_json.loads`. Arrays are compared by index.

    Does not recurse, and takes no more memory than the values.
    """
    pending: list[tuple[_Path, int, Any, Any]] = [(None, 0, first, second)]
    while pending:
        path, depth, one, other = pending.pop()
        if depth < MAX_DEPTH or not isinstance(one, dict | list) or type(one) is not type(other):
            children = _children(one, other)
            if children is not None:
                pending += [((path, name), depth + 1, left, right) for name, left, right in reversed(children)]
            elif type(one) is not type(other) or one != other:
                yield _difference(path, one, other)
        elif _dump(one, None) != _dump(other, None):
            yield _difference(path, one, other)


def _children(one: Any, other: Any) -> list[tuple[str, Any, Any]] | None:
    if isinstance(one, dict) and isinstance(other, dict):
        names = [*one, *(name for name in other if name not in one)]
        return [(name, one.get(name, _ABSENT), other.get(name, _ABSENT)) for name in names]
    if isinstance(one, list) and isinstance(other, list):
        missing = len(one) - len(other)
        left, right = [*one, *[_ABSENT] * -missing], [*other, *[_ABSENT] * missing]
        return [(str(index), *pair) for index, pair in enumerate(zip(left, right, strict=True))]
    return None


def _difference(path: _Path, one: Any, other: Any) -> Difference:
    if one is _ABSENT:
        kind = DifferenceKind.ADDED
    else:
        kind = DifferenceKind.REMOVED if other is _ABSENT else DifferenceKind.CHANGED
    return Difference(kind, _pointer(path), _dump(one, MAX_SHOWN), _dump(other, MAX_SHOWN))


def _pointer(path: _Path) -> str:
    names = []
    while path is not None:
        path, name = path
        names.append(name.replace("~", "~0").replace("/", "~1"))
    text = "".join(f"/{name}" for name in reversed(names)).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= MAX_PATH else f"{text[:MAX_PATH]}…"


def _dump(value: Any, most: int | None) -> str:
    """Return a value as JSON, cut after `most` characters; it is not written any further than that."""
    parts: list[str] = []
    length = 0
    for part in _write(value):
        parts.append(part)
        length += len(part)
        if most is not None and length > most:
            break
    text = "".join(parts)
    return text if most is None or len(text) <= most else f"{text[:most]}…"


def _write(value: Any) -> Iterator[str]:
    pending: list[Any] = [iter((value,))]
    closing: list[str] = [""]
    empty = [True]
    while pending:
        item: Any = next(pending[-1], _END)
        if item is _END:
            pending.pop()
            empty.pop()
            yield closing.pop()
            continue
        if not empty[-1]:
            yield ","
        empty[-1] = False
        if closing[-1] == "}":
            yield f"{_string(item[0])}:"
            item = item[1]
        if isinstance(item, dict | list):
            pending.append(iter(item.items() if isinstance(item, dict) else item))
            closing.append("}" if isinstance(item, dict) else "]")
            empty.append(True)
            yield "{" if isinstance(item, dict) else "["
        else:
            yield _scalar(item)


def _scalar(value: Any) -> str:
    if value is _ABSENT:
        return ""
    if isinstance(value, JsonNumber):
        return value.text
    return _string(value) if isinstance(value, str) else json.dumps(value)


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()  # half a surrogate pair


MAX_COMPARED: Final = 1024 * 1024  # bytes of each side that are compared
MAX_VALUES: Final = 200_000  # values of a JSON text that is compared by path; one with more is compared by line
MAX_DIFFERENCES: Final = 500  # differences that are listed
MAX_LINE: Final = 500  # characters of a line that are shown
SHOWN_BYTES: Final = 32  # bytes shown from the first one that differs


class ContentFormat(StrEnum):
    """How two contents were compared."""

    EQUAL = "equal"
    """They are the same bytes."""
    JSON = "json"
    TEXT = "text"
    BINARY = "binary"
    TOO_LARGE = "too_large"
    """One of them has more than `MAX_COMPARED` bytes, so that only sizes are compared."""


@dataclass(frozen=True, slots=True)
class ContentDiff:
    """The difference of two contents."""

    format: ContentFormat  # how they were compared
    first_size: int  # bytes of the first one
    second_size: int  # bytes of the second one
    # of JSON; none if they differ in whitespace, or in the spelling of strings, only
    differences: tuple[Difference, ...] = ()
    lines: tuple[str, ...] = ()  # of text: a unified diff
    offset: int | None = None  # of bytes: of the first one that differs
    first_bytes: str = ""  # of bytes: those from there, in hexadecimal
    second_bytes: str = ""  # the same of the second one
    cut: bool = False  # whether there are more differences than are listed


def compare_content(first: bytes, second: bytes, *, sizes: tuple[int, int] | None = None) -> ContentDiff:
    """Return the difference of two contents. Blocking, for up to a second.

    Of each there are at least the first `MAX_COMPARED` + 1 bytes; `sizes` are those of the whole contents, unless they
    are whole.
    """
    first_size, second_size = sizes or (len(first), len(second))
    if max(first_size, second_size, len(first), len(second)) > MAX_COMPARED:
        return ContentDiff(ContentFormat.TOO_LARGE, first_size, second_size)
    if first == second:
        return ContentDiff(ContentFormat.EQUAL, first_size, second_size)
    one, other = _read_json(first), _read_json(second)
    if one is not None and other is not None:
        found = tuple(islice(find_differences(one[0], other[0]), MAX_DIFFERENCES + 1))
        return ContentDiff(
            ContentFormat.JSON,
            first_size,
            second_size,
            differences=found[:MAX_DIFFERENCES],
            cut=len(found) > MAX_DIFFERENCES,
        )
    try:
        before, after = (text.decode().split("\n") for text in (first, second))
    except UnicodeDecodeError:
        return _compare_bytes(first, second)
    changed = [str(each) for each in islice(diff_lines(before, after), MAX_DIFFERENCES + 1)]
    lines = tuple(each if len(each) <= MAX_LINE else f"{each[:MAX_LINE]}…" for each in changed[:MAX_DIFFERENCES])
    return ContentDiff(ContentFormat.TEXT, first_size, second_size, lines=lines, cut=len(changed) > MAX_DIFFERENCES)


def _read_json(text: bytes) -> tuple[Any] | None:
    try:
        check_value_count(text, MAX_VALUES)
        return (verbatim.loads(text),)
    except (InvalidError, ValueError):
        return None


def _compare_bytes(first: bytes, second: bytes) -> ContentDiff:
    offset = next(
        (index for index, (one, other) in enumerate(zip(first, second, strict=False)) if one != other),
        min(len(first), len(second)),
    )
    shown = slice(offset, offset + SHOWN_BYTES)
    return ContentDiff(
        ContentFormat.BINARY,
        len(first),
        len(second),
        offset=offset,
        first_bytes=first[shown].hex(" "),
        second_bytes=second[shown].hex(" "),
    )


MAX_TASKS: Final = 500  # task runs that are listed side by side


@dataclass(frozen=True, slots=True)
class FieldDifference:
    """A field with different values; None where it is missing. Values of one name are joined by commas."""

    name: str
    first: str | None
    second: str | None


@dataclass(frozen=True, slots=True)
class TaskSide:
    """One run of a task. `duration`: in seconds; None: it has not ended, or unknown."""

    task: str
    state: TaskState
    detail: str
    tries: int
    duration: float | None


@dataclass(frozen=True, slots=True)
class TaskPair:
    """The task runs with the same index; None where an execution has no more. `same`: task, state and detail."""

    index: int
    same: bool
    first: TaskSide | None
    second: TaskSide | None


@dataclass(frozen=True, slots=True)
class ExecutionDiff:
    """The difference of two executions."""

    # flow, revision, status, attempts and duration in seconds, as far as they differ
    summary: tuple[FieldDifference, ...]
    request: tuple[FieldDifference, ...]  # method, path, content type and so on
    query: tuple[FieldDifference, ...]  # parameters of the query string
    # header fields; those that differ for every request by their nature are included
    headers: tuple[FieldDifference, ...]
    body: ContentDiff  # bodies of the requests
    output: ContentDiff  # outputs, as JSON
    error: tuple[FieldDifference, ...]  # members of the errors
    tasks: tuple[TaskPair, ...]  # task runs side by side
    diverges_at: int | None  # index of the first pair of task runs that is not the same; None if absent
    tasks_cut: bool  # whether there are more task runs than are listed


def compare_executions(
    first: ExecutionDetail, second: ExecutionDetail, first_body: bytes, second_body: bytes
) -> ExecutionDiff:
    """Return the difference of two executions, given also at least the first `MAX_COMPARED` + 1 bytes of their bodies.

    Blocking, for up to a second or two.
    """
    pairs = [
        TaskPair(index, _outcome(one) == _outcome(other), _side(one), _side(other))
        for index, (one, other) in enumerate(zip_longest(first.history, second.history))
    ]
    return ExecutionDiff(
        summary=_differences(_summary(first), _summary(second)),
        request=_differences(_request(first.event), _request(second.event)),
        query=_differences(_query(first.event.query), _query(second.event.query)),
        headers=_differences(header_texts(first.event.headers), header_texts(second.event.headers)),
        body=compare_content(first_body, second_body, sizes=(first.body_size, second.body_size)),
        output=compare_content(first.output or b"", second.output or b""),
        error=_differences(_error(first.execution.error), _error(second.execution.error)),
        tasks=tuple(pairs[:MAX_TASKS]),
        diverges_at=next((pair.index for pair in pairs if not pair.same), None),
        tasks_cut=len(pairs) > MAX_TASKS,
    )


def _differences(first: dict[str, str], second: dict[str, str]) -> tuple[FieldDifference, ...]:
    names = [*first, *(name for name in second if name not in first)]
    return tuple(
        FieldDifference(name, first.get(name), second.get(name))
        for name in names
        if first.get(name) != second.get(name)
    )


def _summary(detail: ExecutionDetail) -> dict[str, str]:
    execution = detail.execution
    fields = {
        "flow": execution.flow_id,
        "revision": str(execution.flow_revision),
        "status": str(execution.status),
        "attempts": str(execution.attempts),
    }
    if execution.end_time_ms is not None:
        fields["duration"] = f"{(execution.end_time_ms - execution.receive_time_ms) / 1000:.3f}"
    return fields


def _request(event: Event) -> dict[str, str]:
    fields = {
        "method": event.method,
        "path": event.path,
        "content type": event.content_type,
        "authenticated by": " ".join(filter(None, event.principal or ())),
        "delivery": event.dedupe_key,
    }
    return {name: value for name, value in fields.items() if value}


def _query(query: str) -> dict[str, str]:
    fields = (field.partition("=") for field in query.split("&") if field)
    joined: dict[str, list[str]] = {}
    for name, _, value in fields:
        joined.setdefault(name, []).append(value)
    return {name: ", ".join(values) for name, values in joined.items()}


def _error(error: WorkflowError | None) -> dict[str, str]:
    return {} if error is None else {name: str(value) for name, value in error.as_dict().items() if value}


def _outcome(run: TaskRun | None) -> tuple[str, TaskState, str] | None:
    return None if run is None else (run.task, run.state, run.detail)


def _side(run: TaskRun | None) -> TaskSide | None:
    if run is None:
        return None
    known = run.begin_time_ms is not None and run.end_time_ms is not None
    duration = (run.end_time_ms - run.begin_time_ms) / 1000 if known else None  # type: ignore[operator]
    return TaskSide(run.task, run.state, run.detail, run.tries, duration)


# lines of either text that are compared, apart from those with which both begin and end; with more, all of them count
# as replaced. difflib takes quadratic time on some texts: about a second for as many lines
MAX_COMPARED_LINES: Final = 2000
CONTEXT: Final = 3  # unchanged lines shown around a change


@dataclass(frozen=True, slots=True)
class DiffLine:
    """A line of a unified diff: `@` is the head of a group of changes, as in `-3,7 +3,9`; the text has no newline."""

    mark: Literal["@", " ", "-", "+"]
    text: str

    def __str__(self) -> str:
        return f"@@ {self.text} @@" if self.mark == "@" else f"{self.mark}{self.text}"


def diff(old: str, new: str) -> Iterator[DiffLine]:
    """Return the lines of a unified diff without its first two; none if the texts have the same lines.

    Source: POSIX.1-2024, diff, "Diff -u Output Format".
    """
    return diff_lines(*(text.removesuffix("\n").split("\n") if text else [] for text in (old, new)))


def diff_lines(before: Sequence[str], after: Sequence[str]) -> Iterator[DiffLine]:
    if before == after:
        return
    for group in _Matcher(before, after).get_grouped_opcodes(CONTEXT):
        (_, start, _, new_start, _), (_, _, end, _, new_end) = group[0], group[-1]
        yield DiffLine("@", f"-{_range(start, end)} +{_range(new_start, new_end)}")
        for tag, low, high, new_low, new_high in group:
            if tag == "equal":
                yield from (DiffLine(" ", line) for line in before[low:high])
            else:
                yield from (DiffLine("-", line) for line in before[low:high])
                yield from (DiffLine("+", line) for line in after[new_low:new_high])


class _Matcher(SequenceMatcher[str]):
    """Compares what lies between the lines with which both texts begin and end, in bounded time."""

    def __init__(self, before: Sequence[str], after: Sequence[str]) -> None:
        super().__init__()  # it would look at all lines at once, however many there are
        self._texts = (before, after)

    def get_opcodes(self) -> list[Any]:
        before, after = self._texts
        shorter = min(len(before), len(after))
        head = next((number for number in range(shorter) if before[number] != after[number]), shorter)
        tail = next(
            (number for number in range(shorter - head) if before[-1 - number] != after[-1 - number]), shorter - head
        )
        end, new_end = len(before) - tail, len(after) - tail
        inner: list[Any] = []
        if max(end, new_end) - head > MAX_COMPARED_LINES:
            inner = [("replace", 0, end - head, 0, new_end - head)]
        elif max(end, new_end) > head:
            inner = SequenceMatcher(None, before[head:end], after[head:new_end]).get_opcodes()
        moved = [(tag, *(number + head for number in numbers)) for tag, *numbers in inner]
        return [("equal", 0, head, 0, head), *moved, ("equal", end, len(before), new_end, len(after))]


def _range(low: int, high: int) -> str:
    """Return a range of lines as the head of a group has it: from 1, or the line before an empty one."""
    count = high - low
    return f"{low + 1 if count else low}" if count == 1 else f"{low + 1 if count else low},{count}"
