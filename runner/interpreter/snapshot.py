"""Compaction: between two tasks, what an execution has come to replaces its journal.

That is possible where the tasks that are under way enclose one another: each of them says how far it has come, and all
go on from there. Where branches run beside one another it is not.
"""

from __future__ import annotations

from typing import Any

import orjson

from flowhook import limits
from flowhook.model import JournalEntry
from runner.interpreter import data as json
from runner.interpreter.errors import TaskFault
from runner.interpreter.nodes import Node
from runner.interpreter.state import Frame, Shared


def take(shared: Shared, frame: Frame, node: Node | None = None) -> None:
    """Compact, if that is worth while: the journal is long, or in the outermost list a task comes that is to wait.

    What does not fit into an entry is not compacted, and not tried again soon.

    Args:
        shared: by all that runs.
        frame: of the innermost list of tasks that is under way.
        node: the task that comes next; None: one is under way.
    """
    journal = shared.journal
    if journal.replaying or not journal.size:
        return
    if not journal.long and (node is None or frame.parent is not None or not node.waits):
        return
    content = {
        "execution": shared.workflow.id,
        "context": _packed(shared, shared.context),
        "tasks": shared.tasks,
        "visits": shared.visits,
        "used_urls": None if shared.workflow.one_time is None else shared.workflow.one_time.used,
        "limit": None if shared.limit is None else shared.limit.saved(),
        "frames": _frames(shared, frame),
        "held": [[entry.key, (entry.output or b"").decode()] for entry in journal.held.values()],
    }
    try:
        text = json.encode(content)
    except TaskFault:
        text = b""
    if text and len(text) <= limits.MAX_RESULT_BYTES:
        journal.compact(text)
    else:
        journal.put_off()


def restore(shared: Shared) -> dict[str, Any] | None:
    """Put back what the journal's snapshot holds, and return the workflow's limit; None without a snapshot.

    Limits of time that another execution began, which this one replays, begin anew.
    """
    if shared.journal.snapshot is None:
        return None
    content = orjson.loads(shared.journal.snapshot)
    if content["execution"] != shared.workflow.id:
        _renew(content)
    shared.context = _unpacked(shared, content["context"])
    shared.tasks = content["tasks"]
    shared.visits = content["visits"]
    if shared.workflow.one_time is not None:
        shared.workflow.one_time.used = content["used_urls"] or {}
    shared.resuming.extend(content["frames"])
    held = content.get("held", ())  # an earlier version kept none
    shared.journal.hold(JournalEntry(key, output.encode()) for key, output in held)
    return {"limit": content["limit"]}


def resume(shared: Shared, data: Any) -> tuple[int, Any, dict[str, Any] | None]:
    """Return where a list of tasks goes on: position, data, and what there is of a task that is under way (`Inside`).

    At its beginning, with `data`, unless a snapshot has just been put back.
    """
    if not shared.resuming:
        return 0, data, None
    kept = shared.resuming.popleft()
    inside = kept.get("inside")
    if inside is not None:
        inside["input"] = _unpacked(shared, inside["input"])
        shared.tasks -= 1  # it was counted when it began
    return kept["position"], _unpacked(shared, kept["data"]), inside


def _packed(shared: Shared, value: Any) -> list[Any]:
    """Return a value in a list; for the workflow's raw input, the one thing that may be large, an empty list."""
    return [] if value is shared.workflow.raw_input else [value]


def _unpacked(shared: Shared, packed: list[Any]) -> Any:
    return packed[0] if packed else shared.workflow.raw_input


def _frames(shared: Shared, frame: Frame | None) -> list[dict[str, Any]]:
    """Return what there is to keep of a list of tasks and those around it, the outermost first."""
    frames: list[dict[str, Any]] = []
    while frame is not None:
        kept: dict[str, Any] = {"position": frame.position, "data": _packed(shared, frame.data)}
        inside = frame.inside
        if inside is not None:
            kept["inside"] = {
                "input": _packed(shared, inside.input),
                "began_ms": inside.began_ms,
                "limit": None if inside.limit is None else inside.limit.saved(),
                "progress": None if inside.progress is None else inside.progress(),
                "extended": frame.extended,
                "number": frame.number,
            }
        frames.append(kept)
        frame = frame.parent
    return frames[::-1]


def _renew(content: dict[str, Any]) -> None:
    limited = [content]
    for frame in content["frames"]:
        inside = frame.get("inside") or {}
        limited += [inside, inside.get("progress") or {}]
    for each in limited:
        if each.get("limit"):
            each["limit"]["until_ms"] = None
