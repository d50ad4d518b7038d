"""Journal compaction: a snapshot of the execution between two tasks replaces the journal.

It is possible while all running tasks are nested in one another: each of them reports its progress and resumes from it.
It is not possible while branches run concurrently.
"""

from __future__ import annotations

from typing import Any

import orjson

from flowhook import limits
from flowhook.model import JournalEntry
from runner.interpreter import json_codec
from runner.interpreter.errors import TaskFault
from runner.interpreter.nodes import Node
from runner.interpreter.state import BlockFrame, SharedState


def compact(shared: SharedState, frame: BlockFrame, node: Node | None = None, *, resumes: bool = False) -> None:
    """Compact the journal if that is worthwhile: it is long, or the next task of the outermost block waits.

    A snapshot that does not fit into one entry is discarded, and the next attempt is postponed. `frame` is that of the
    innermost running block; `node` the next task, None while a task is running. If that task `resumes` from a snapshot,
    its progress is not restored yet, so none is taken.
    """
    journal = shared.journal
    if resumes or journal.replaying or not journal.size:
        return
    if not journal.needs_compaction and (node is None or frame.parent is not None or not node.waits):
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
        text = json_codec.encode(content)
    except TaskFault:
        text = b""
    if text and len(text) <= limits.MAX_RESULT_BYTES:
        journal.compact(text)
    else:
        journal.postpone_compaction()


def restore(shared: SharedState) -> dict[str, Any] | None:
    """Restore the journal's snapshot (a replay restarts timeouts); return the workflow's timeout, None without one."""
    if shared.journal.snapshot is None:
        return None
    content = orjson.loads(shared.journal.snapshot)
    if content["execution"] != shared.workflow.id:
        limited = [content]
        for frame in content["frames"]:
            running = frame.get("inside") or {}
            limited += [running, running.get("progress") or {}]
        for each in limited:
            if each.get("limit"):
                each["limit"]["until_ms"] = None
    shared.context = _unpacked(shared, content["context"])
    shared.tasks = content["tasks"]
    shared.visits = content["visits"]
    if shared.workflow.one_time is not None:
        shared.workflow.one_time.used = content["used_urls"] or {}
    shared.resuming.extend(content["frames"])
    shared.journal.hold(JournalEntry(key, output.encode()) for key, output in content["held"])
    shared.update_observed()
    return {"limit": content["limit"]}


def resume(shared: SharedState, data: Any) -> tuple[int, Any, dict[str, Any] | None]:
    """Return where a block resumes: position, data, `TaskProgress`; its beginning unless one was just restored."""
    if not shared.resuming:
        return 0, data, None
    saved = shared.resuming.pop(0)
    running = saved.get("inside")
    if running is not None:
        running["input"] = _unpacked(shared, running["input"])
        shared.tasks -= 1  # it was counted when it started
    return saved["position"], _unpacked(shared, saved["data"]), running


def _packed(shared: SharedState, value: Any) -> list[Any]:
    """Return a value in a list; for the workflow's raw input, the one value that may be large, an empty list."""
    return [] if value is shared.workflow.raw_input else [value]


def _unpacked(shared: SharedState, packed: list[Any]) -> Any:
    return packed[0] if packed else shared.workflow.raw_input


def _frames(shared: SharedState, frame: BlockFrame | None) -> list[dict[str, Any]]:
    frames: list[dict[str, Any]] = []
    while frame is not None:
        saved: dict[str, Any] = {"position": frame.position, "data": _packed(shared, frame.data)}
        running = frame.running
        if running is not None:
            saved["inside"] = {
                "input": _packed(shared, running.input),
                "began_ms": running.began_ms,
                "limit": None if running.limit is None else running.limit.saved(),
                "progress": None if running.progress is None else running.progress(),
                "extended": frame.extended,
                "number": frame.number,
            }
        frames.append(saved)
        frame = frame.parent
    return frames[::-1]
