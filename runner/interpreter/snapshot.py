"""Compaction: between two tasks of the outermost block, what an execution has come to replaces its journal."""

from __future__ import annotations

from typing import Any

import orjson

from flowhook import limits
from runner.interpreter import data as json
from runner.interpreter.errors import TaskFault
from runner.interpreter.nodes import Node
from runner.interpreter.state import Shared


def take(shared: Shared, node: Node, position: int, data: Any) -> None:
    """Compact before `node` runs, if that is worth while: the journal is long, or `node` is going to wait.

    What does not fit into an entry is not compacted.
    """
    journal = shared.journal
    if journal.replaying or not (journal.long or node.waits):
        return
    content = {
        "position": position,
        "data": data,
        "context": shared.context,
        "tasks": shared.tasks,
        "visits": shared.visits,
        "until": None if shared.limit is None else shared.limit.until_ms,
        "execution": shared.workflow.id,
    }
    try:
        text = json.encode(content)
    except TaskFault:
        return
    if len(text) <= limits.MAX_RESULT_BYTES:
        journal.compact(text)


def restore(shared: Shared) -> tuple[int, Any] | None:
    """Put back what the journal's snapshot holds; the position and the data to go on with, None without one.

    In a replay, which took it over from another execution, the time that the workflow may take begins anew.
    """
    if shared.journal.snapshot is None:
        return None
    content = orjson.loads(shared.journal.snapshot)
    shared.context = content["context"]
    shared.tasks = content["tasks"]
    shared.visits = content["visits"]
    if content.get("execution", shared.workflow.id) == shared.workflow.id:
        shared.until_ms = content["until"]
    return content["position"], content["data"]
