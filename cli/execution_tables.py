"""Tables of executions, of their tasks and of their attempts, for people: made of what `--json` prints.

And the end of an execution: waiting for it, and printing its outcome.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from cli.output import print_fields, print_json, print_table, to_json
from flowhook.errors import UnavailableError
from flowhook.model import Status
from flowhook.retrying import POLL

if TYPE_CHECKING:
    from flowhook.client import Client
    from flowhook.model import ExecutionDetail

COLUMNS: Final = ("EXECUTION", "FLOW", "STATUS", "RECEIVED", "ENDED", "RUNNER ATTEMPTS", "REPLAY", "ERROR")
TASK_COLUMNS: Final = ("BEGAN", "TASK", "TRIES", "DURATION", "RESULT")
ATTEMPT_COLUMNS: Final = ("ASSIGNED", "RUNNER ATTEMPT", "RUNNER", "DURATION", "ENDED BECAUSE")
MAX_SHOWN: Final = 120  # maximum number of characters of a call's result in the table
NOT_ENDED: Final = "EXECUTION_NOT_ENDED"  # reason of the error of an execution that has not ended in time
_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
# key of the journal entry of a call
_EFFECT: Final = re.compile(r"(?P<task>.*)#(?P<visit>\d+)", re.DOTALL)
_IN_TABLES: Final = frozenset({"tasks", "journal", "attempt_history", "attempts_left_out", "links"})
Shown = Mapping[str, Any]  # what `--json` prints of something


def row(execution: Shown) -> tuple[object, ...]:
    names = ("id", "flow", "status", "received_at", "ended_at", "attempts")
    return *(execution[name] for name in names), _replay_of(execution), failure(execution)


def failure(execution: Shown) -> str:
    """Return the error of an execution, or what is tried again and when, or what it waits for."""
    error, retry, turn = execution["error"], execution["retry"], execution["turn"]
    if turn is not None:
        return turn_text(turn)
    if execution["blocked_by"] is not None:
        return blocked_text(execution["blocked_by"])
    if execution["destinations"]:
        return f"waits for {', '.join(execution['destinations'])}, which is down"
    if retry is not None:
        tried = "once" if retry["tries"] == 1 else f"{retry['tries']} times"
        return f"tried {tried}, next at {retry['next_at']}: {error_text(retry['error'])}"
    if error is not None:
        return error_text(error)
    return batch_text(execution) if execution["batch"] else ""


def batch_text(execution: Shown) -> str:
    if execution["status"] == "completed" and not execution["attempts"]:  # another one ran
        return f"in the batch of {execution['batch']}"
    return f"for a batch of {execution['batch_events']:,} events"


def turn_text(turn: Shown) -> str:
    if turn["by"] == "debounce":
        return f"waits for debounce until {turn['expect_at']}"
    if turn["by"] == "batch":
        return f"waits for its batch, {turn['events']:,} of {turn['size']:,}, until {turn['expect_at']}"
    place = f"position {turn['position']:,}" if turn["position"] else "far back"
    until = f" until {turn['expect_at']}" if turn["expect_at"] else ""
    return f"waits for {turn['by']}{until}, {place}"


def blocked_text(blocked_by: Shown) -> str:
    since = "" if blocked_by["faulted_at"] is None else f", which faulted at {blocked_by['faulted_at']}"
    return f"blocked by {blocked_by['execution']}{since}"


def error_text(error: Shown) -> str:
    return f"{error['status']} {error['title']}: {error['detail']}"


def _replay_of(execution: Shown) -> str:
    """Return the replays of an execution, and its resolution."""
    said = [f"{word} {execution[key]}" for word, key in (("of", "replay_of"), ("by", "replayed_by")) if execution[key]]
    if (resolution := execution["resolution"]) is not None:
        said.append(f"resolved: {resolution['reason']}" if resolution["reason"] else "resolved")
    return ", ".join(said)


def print_detail(detail: Shown) -> None:
    hidden = _IN_TABLES | {name for name in ("attributes", "replayed", "destinations") if not detail[name]}
    fields = ((name, value) for name, value in detail.items() if name not in hidden)
    print_fields([*fields, *link_rows(detail["links"])])
    print()
    if detail["attempt_history"]:
        print_table(ATTEMPT_COLUMNS, attempt_rows(detail), empty="")
        print()
    print_table(TASK_COLUMNS, task_rows(detail), empty="no task has started, or none is stored")


def link_rows(links: Shown) -> Iterator[tuple[str, str]]:
    for name, more in (("causes", ""), ("caused", ", ..." if links["more_caused"] else "")):
        if links[name]:
            yield name, ", ".join(f"{each['id']} ({' and '.join(each['kinds'])})" for each in links[name]) + more


def attempt_rows(detail: Shown) -> Iterator[tuple[object, ...]]:
    if detail["attempts_left_out"]:
        yield ("", "", f"… {detail['attempts_left_out']} that are not stored", "", "")
    for attempt in detail["attempt_history"]:
        reason = attempt["reason"]
        if not attempt["charged"] and attempt["ended_at"] is not None:
            reason = f"{reason}; not charged"
        took = duration(seconds_between(attempt["assigned_at"], attempt["ended_at"]))
        yield (attempt["assigned_at"], attempt["number"], attempt["runner"], took, reason)


def task_rows(detail: Shown) -> Iterator[tuple[object, ...]]:
    results = _results(detail["tasks"], detail["journal"])
    last = 0
    for run in detail["tasks"]:
        if run["number"] > last + 1:
            yield ("", f"… {run['number'] - last - 1} that are not stored", "", "", "")
        last = run["number"]
        took = duration(seconds_between(run["began_at"], run["ended_at"]))
        yield (run["began_at"], run["task"], run["tries"], took, _result(run, results.get(run["number"])))


def seconds_between(begin: str | None, end: str | None) -> float | None:
    """Return how long something took, at least 0; None: it has not ended, or it is not known when it began."""
    if begin is None or end is None:
        return None
    return max(0.0, (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds())


def duration(seconds: float | None) -> str:
    """Format a duration for people: `12 ms`, `3.2 s`, `2 min 5 s`, `26 h 3 min`."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{round(seconds * 1000)} ms"
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"


def _result(run: Shown, output: str | None) -> str:
    if run["state"] == "completed" and run["detail"]:
        return f"→ {run['detail']}"
    if run["state"] == "completed" and output is not None:
        return output if len(output) <= MAX_SHOWN else f"{output[: MAX_SHOWN - 1]}…"
    return f"{run['state']}: {run['detail']}" if run["detail"] else str(run["state"])


def _results(runs: Iterable[Shown], journal: Sequence[Shown]) -> dict[int, str]:
    """Return the results of calls by task number, for those tasks whose results are all in the journal."""
    outputs: defaultdict[str, dict[int, Any]] = defaultdict(dict)
    for entry in journal:
        match = _EFFECT.fullmatch(entry["key"])
        if match and entry["error"] is None:
            outputs[match["task"]][int(match["visit"])] = entry["output"]
    numbers: defaultdict[str, list[int]] = defaultdict(list)
    for run in runs:
        if run["task"] in outputs and run["state"] == "completed":
            numbers[run["task"]].append(run["number"])
    return {
        number: to_json(output).decode()
        for task, found in numbers.items()
        if len(found) == len(outputs[task])
        for number, (_, output) in zip(found, sorted(outputs[task].items()), strict=True)
    }


def wait_until_ended(client: Client, execution_id: str, timeout: float | None = None) -> ExecutionDetail:
    """Return an execution once it has ended, for which `timeout` seconds are waited; None: however long that takes."""
    deadline = None if timeout is None else time.monotonic() + timeout
    pauses = POLL.pauses()
    while not (status := client.executions.get(execution_id, max_body_bytes=0).execution.status).ended:
        left = POLL.limit if deadline is None else deadline - time.monotonic()
        if left <= 0:
            raise UnavailableError(
                f"{execution_id} has not ended within {timeout:g} s: it is {status}", reason=NOT_ENDED
            )
        time.sleep(min(next(pauses), left))
    return client.executions.get(execution_id)


def show_outcome(detail: ExecutionDetail, *, json: bool) -> None:
    """Print the status of an execution that has ended, with its output or its error."""
    from cli.operation_commands import shown
    from operations.executions import detail_view

    view = detail_view(detail, with_body=True)
    if json:
        print_json(view)
        return
    told = shown(view)
    print(f"{told['id']}: {told['status']}")
    if view.status is not Status.CANCELLED:
        print(to_json(told["output"] if told["error"] is None else told["error"], indent=True).decode())
