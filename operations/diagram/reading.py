"""Reads what pictures show of a validated definition: triggers, inner tasks, labels, branches, and the flow as text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice, pairwise
from typing import Any, Final, NamedTuple

from flowhook.document.definition import DIRECTIVES, PlacedTask, filters_of, flow_id, literal_type, tasks_of, walk
from flowhook.expressions.syntax import is_expression, strip_markers

# path of the inner tasks that a task executes first, by kind
_INNER: Final[Mapping[str, tuple[str, ...]]] = {
    "do": ("do",),
    "for": ("do",),
    "fork": ("fork", "branches"),
    "listen": ("foreach", "do"),
    "try": ("try",),
}

STOPS: Final = ("end", "exit")  # values of `then` that end a list of tasks

_SCHEME: Final = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#@]*@)?")


def triggers(definition: Mapping[str, Any]) -> Iterator[str]:
    for key, value in definition.get("schedule", {}).items():
        yield f"{key} {', '.join(_event_types(value)) if key == 'on' else _duration(value)}"


def webhook_trigger(definition: Mapping[str, Any]) -> str:
    """Return a label for the URL of the flow, with the kinds of credentials; empty if it has none."""
    webhook = definition.get("webhook")
    if not isinstance(webhook, Mapping):
        return ""
    auth = webhook.get("auth")
    listed = auth if isinstance(auth, list) else [auth]
    kinds = [next(iter(each), "") if isinstance(each, Mapping) else each for each in listed]
    return f"webhook, auth: {' or '.join(map(str, kinds))}"


def inner(placed: PlacedTask) -> list[PlacedTask]:
    keys = _INNER.get(placed.kind)
    return [] if keys is None else _tasks_at(placed, *keys)


def handler(placed: PlacedTask) -> list[PlacedTask]:
    return _tasks_at(placed, "catch", "do")


def cases(placed: PlacedTask) -> list[tuple[str, Mapping[str, Any]]]:
    if placed.kind != "switch":
        return []
    return [next(iter(item.items())) for item in placed.task["switch"]]


def leads_on(placed: PlacedTask) -> bool:
    """Whether the next task may follow because of no directive: not after a `raise`, nor a `switch` with a default."""
    return placed.kind != "raise" and all("when" in case for _, case in cases(placed))


def summary(placed: PlacedTask) -> str:
    read = _SUMMARIES.get(placed.kind)
    return "" if read is None else read(placed.task)


def caught(placed: PlacedTask) -> str:
    catch = placed.task.get("catch")
    wanted = _dig(catch, "errors", "with")
    texts = [", ".join(_last_segment(value) for value in wanted.values())] if isinstance(wanted, Mapping) else []
    texts += [f"{word} {bare(when)}" for key, word in _CONDITIONS.items() if (when := _dig(catch, key)) is not None]
    if (retry := _dig(catch, "retry")) is not None:
        count = _dig(retry, "limit", "attempt", "count")
        texts.append(f"retry {retry}" if isinstance(retry, str) else f"{count} retries" if count else "retry")
    if (then := _dig(catch, "then")) is not None:
        texts.append(f"then {then}")
    return "; ".join(texts) or "any error"


_CONDITIONS: Final = {"when": "when", "exceptWhen": "except when"}


def timeout_text(value: object) -> str:
    """Return the timeout of a task or a workflow, a duration or the name of one, as text; empty if it is None."""
    after = _dig(value, "after")
    return _duration(value if after is None else after) if value is not None else ""


def bare(value: object) -> str:
    """Return an expression without its markers and on one line; other values as text."""
    return " ".join((strip_markers(value) if isinstance(value, str) else str(value)).split())


# milliseconds of a unit, and its name
_UNITS: Final = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s"), (1, "ms"))
_MANY: Final = 999.5  # from here on three digits would need an exponent


def milliseconds_text(milliseconds: float) -> str:
    """Return a duration in one unit, with three digits at most: `1.25 s`."""
    for size, name in _UNITS:
        if milliseconds >= size:
            count = milliseconds / size
            return f"{count:.3g} {name}" if count < _MANY else f"{count:.0f} {name}"
    return f"{milliseconds:.0f} ms"


def outline(definition: Mapping[str, Any], limit: int) -> Iterator[tuple[int, PlacedTask, str]]:
    """Yield the flow as text: the depth of each task, from 0, the task, and a line about it; at most `limit`."""
    for placed in islice(walk(definition), limit):
        text = f"{placed.name}: {' '.join(filter(None, (placed.kind, summary(placed))))}"
        if "if" in placed.task:
            text += f", if {bare(placed.task['if'])}"
        for name, case in cases(placed):
            when = f" when {bare(case['when'])}" if "when" in case else ""
            text += f"; {name}{when}: then {case.get('then', 'continue')}"
        if placed.kind == "try":
            text += f"; catches {caught(placed)}"
        if (then := placed.task.get("then", "continue")) != "continue":
            text += f", then {then}"
        yield sum(isinstance(step, int) for step in placed.path) - 1, placed, text


def _call(task: Mapping[str, Any]) -> str:
    function, arguments = str(task["call"]), task.get("with")
    match function:
        case "http":
            subject = f"{bare(_dig(arguments, 'method') or '').upper()} {_address(_dig(arguments, 'endpoint'))}"
        case "grpc":
            subject = f"{bare(_dig(arguments, 'service', 'name') or '')}/{bare(_dig(arguments, 'method') or '')}"
        case "asyncapi":
            subject = str(_dig(arguments, "operation") or _dig(arguments, "channel") or "")
        case "mcp":
            named = _dig(arguments, "parameters", "name") or _dig(arguments, "parameters", "uri")
            subject = f"{_dig(arguments, 'method') or ''} {bare(named or '')}"
        case "openapi":
            subject = str(_dig(arguments, "operationId") or "")
        case "reply":
            subject = bare(_dig(arguments, "status") or "")
        case _:
            subject = _address(_dig(arguments, "url") or "")
    return f"{function} {subject}".strip()


def _address(endpoint: object) -> str:
    """Return host and path of an endpoint, or its expression."""
    uri = _dig(endpoint, "uri") or endpoint or ""
    if is_expression(uri):
        return bare(uri)
    return re.split(r"[?#]", _SCHEME.sub("", str(uri)), maxsplit=1)[0]


def _for(task: Mapping[str, Any]) -> str:
    while_ = f" while {bare(task['while'])}" if "while" in task else ""
    items = _dig(task, "for", "in")
    return f"{f'{len(items)} items' if isinstance(items, list) else bare(items or '')}{while_}"


def _run(task: Mapping[str, Any]) -> str:
    run = task["run"]
    if "workflow" in run:
        return flow_id(run["workflow"]["namespace"], run["workflow"]["name"])
    return f"{run['script']['language']} script" if "script" in run else "shell"


def _set(task: Mapping[str, Any]) -> str:
    return ", ".join(task["set"]) if isinstance(task["set"], Mapping) else bare(task["set"])


def _raise(task: Mapping[str, Any]) -> str:
    error = _dig(task, "raise", "error")
    if not isinstance(error, Mapping):
        return bare(error or "")
    return f"{error.get('status', '')} {bare(error.get('title') or _last_segment(error.get('type', '')))}".strip()


_SUMMARIES: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "call": _call,
    "emit": lambda task: bare(_dig(task, "emit", "event", "with", "type") or ""),
    "for": _for,
    "fork": lambda task: "first to end" if _dig(task, "fork", "compete") else "",
    "listen": lambda task: ", ".join(_event_types(_dig(task, "listen", "to"))),
    "raise": _raise,
    "run": _run,
    "set": _set,
    "wait": lambda task: _duration(task["wait"]),
}


def _event_types(strategy: object) -> list[str]:
    return [kind for _, each in filters_of(strategy) if (kind := literal_type(each))]


def _duration(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{count} {unit}" for unit, count in value.items())
    return bare(value)


def _last_segment(uri: object) -> str:
    """Return the end of an error's type, which is a long URI in the DSL; other values as text."""
    return bare(uri).rstrip("/").rpartition("/")[2]


def _tasks_at(placed: PlacedTask, *keys: str) -> list[PlacedTask]:
    return list(tasks_of(_dig(placed.task, *keys), (*placed.path, *keys)))


def _dig(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


SHORT: Final = 2  # tasks behind branches that all end, which are a branch, too; of more the picture goes straight on
FAR: Final = 200  # tasks of branches that are looked at
END: Final = "end"  # in place of a task: the flow, or a list of tasks, ended
ELSE: Final = "else"  # label of what follows if no case is met


class Branch(NamedTuple):
    """Neighbouring tasks of a list, from index `begin` to before `end`; none: it leads to what follows all branches."""

    label: str
    begin: int
    end: int


class TaskList:
    """A list of tasks, in which the length of the list stands for what follows it."""

    def __init__(self, tasks: Sequence[PlacedTask]) -> None:
        self.tasks = tasks
        self._places = {placed.name: index for index, placed in enumerate(tasks)}

    def pointer(self, place: int) -> str:
        """Return the JSON Pointer of the task at an index, or `END`."""
        return self.tasks[place].pointer if place < len(self.tasks) else END

    def name(self, place: int) -> str:
        return self.tasks[place].name if place < len(self.tasks) else END

    def place(self, index: int, then: str) -> int | None:
        """Return the index to which `then` of the task at an index leads; None: it ends the list or the flow."""
        return index + 1 if then == "continue" else None if then in DIRECTIVES else self._places.get(then)

    def exits(self, index: int) -> list[tuple[str, int]]:
        """Return where control may go from the task at an index: the case of a `switch`, or empty, and an index."""
        placed = self.tasks[index]
        thens = [(name, case.get("then") or "continue") for name, case in cases(placed)]
        if leads_on(placed):
            thens.append((ELSE if thens else "", placed.task.get("then") or "continue"))
        return [(name, place) for name, then in thens if (place := self.place(index, then)) is not None]

    def branches(self, index: int, end: int, after: int, most: int) -> tuple[list[Branch], int] | None:
        """Return the branches of the `switch` at an index, and the index at which they come together.

        Only tasks before `end` are looked at; what follows them is at `after`, for which `end` stands here. Returns
        None if there are fewer than two branches or more than `most`, tasks that no case leads to before the first, or
        more than `FAR` before the last.
        """

        def near(place: int) -> int:
            return end if place == after else place if index < place < end else -1

        placed = self.tasks[index]
        labels: dict[int, list[str]] = {}
        for name, place in self.exits(index):
            labels.setdefault(near(place), []).append(name)
        if ELSE in labels.pop(-1, ()) or placed.task.get("then") in STOPS:
            return None
        begins = sorted(labels)
        if not 1 < len(begins) <= most or begins[0] != index + 1 or begins[-1] - index > FAR:
            return None
        joins = [
            place
            for begin, stop in pairwise(begins)
            for inner in range(begin, stop)
            for place in (near(place) for _, place in self.exits(inner))
            if place >= begins[-1]
        ]
        rest = end if end - begins[-1] <= SHORT else begins[-1]
        stops = [
            *begins[1:],
            min((place for place in joins if place > begins[-1]), default=begins[-1] if joins else rest),
        ]
        found = zip(begins, stops, strict=True)
        return [Branch(", ".join(labels[begin]), begin, stop) for begin, stop in found], stops[-1]
