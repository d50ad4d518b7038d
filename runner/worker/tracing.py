"""Observes a run for `flowhook exec --trace` and `--until`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import orjson

from flowhook import limits
from flowhook.document.definition import kind_of
from runner.interpreter import json_codec
from runner.interpreter.errors import TaskFault
from runner.interpreter.tracing import Observation, TaskStart


class ReachedError(Exception):
    """The task to stop after has ended; `output` is its output, as JSON."""

    def __init__(self, output: bytes) -> None:
        super().__init__()
        self.output = output


@attrs.define(eq=False, repr=False)
class Tracer:
    """An observer that reports tasks and stops the run after one of them."""

    _report: Callable[[bytes], None] | None  # called with the result of `describe` for each task; None: no tracing
    _until: str  # name or JSON Pointer of the task to stop after; empty: none

    def task_started(self, started: TaskStart) -> None:
        """Do nothing."""

    def task_cancelled(self, number: int) -> None:
        """Do nothing."""

    def task_ended(self, seen: Observation) -> None:
        """Report a task that has ended; `ReachedError` if it is the task to stop after, and did not fault."""
        if self._report is not None:
            self._report(describe(seen))
        if self._until in (seen.node.name, seen.node.pointer) and seen.error is None:
            raise ReachedError(json_codec.encode_result(seen.output, "the task's output"))


def describe(seen: Observation) -> bytes:
    """Return a JSON object that describes a task that has ended.

    `{task, name, kind, status, input}`; `iteration` within loops; `output` and `then` unless it faulted, else `error`;
    `context` when it exported one. `status` is completed, skipped or faulted. A value of more than
    `limits.MAX_RESULT_BYTES` is replaced by its size.
    """
    node = seen.node
    entry: dict[str, Any] = {"task": node.pointer, "name": node.name, "kind": kind_of(node.definition)}
    if seen.iterations:
        entry["iteration"] = seen.iterations
    entry["status"] = "faulted" if seen.error else "skipped" if seen.skipped else "completed"
    entry["input"] = _shown(seen.input)
    if seen.error is not None:
        entry["error"] = seen.error.as_dict()
        return orjson.dumps(entry)
    entry["output"] = _shown(seen.output)
    if node.export.transform is not None and not seen.skipped:
        entry["context"] = _shown(seen.context)
    entry["then"] = seen.then
    return orjson.dumps(entry)


def _shown(value: Any) -> Any:
    try:
        encoded = json_codec.encode(value)
    except TaskFault:
        return "(nested too deeply)"
    if len(encoded) > limits.MAX_RESULT_BYTES:
        return f"({len(encoded)} bytes)"
    return orjson.Fragment(encoded)
