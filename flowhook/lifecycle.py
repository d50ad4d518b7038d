"""Lifecycle events: what is told of executions as they start, are suspended and resumed, and end, and of their tasks.

The router knows what happens to executions; of what happens within them it is told by runners, as `LifecycleEvent`.

Source: https://github.com/serverlessworkflow/specification, dsl.md, "Lifecycle Events", and dsl-reference.md, "Workflow
Lifecycle Events", "Task Lifecycle Events".
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final, NamedTuple

import orjson

from flowhook import limits
from flowhook.cloud_events import SPEC_VERSION
from flowhook.event_input import rfc3339
from flowhook.model import Status, WorkflowError

PREFIX: Final = "io.serverlessworkflow."
WORKFLOW_PREFIX: Final = f"{PREFIX}workflow."
TASK_PREFIX: Final = f"{PREFIX}task."
_PREFIXES: Final = (WORKFLOW_PREFIX, TASK_PREFIX)


class Lifecycle(StrEnum):
    """The types of events that tell what happened to an execution."""

    STARTED = "io.serverlessworkflow.workflow.started.v1"
    SUSPENDED = "io.serverlessworkflow.workflow.suspended.v1"
    RESUMED = "io.serverlessworkflow.workflow.resumed.v1"
    CANCELLED = "io.serverlessworkflow.workflow.cancelled.v1"
    FAULTED = "io.serverlessworkflow.workflow.faulted.v1"
    COMPLETED = "io.serverlessworkflow.workflow.completed.v1"


class TaskLifecycle(StrEnum):
    """The types of events that tell what happened to a task."""

    CREATED = "io.serverlessworkflow.task.created.v1"
    STARTED = "io.serverlessworkflow.task.started.v1"
    RETRIED = "io.serverlessworkflow.task.retried.v1"
    CANCELLED = "io.serverlessworkflow.task.cancelled.v1"
    FAULTED = "io.serverlessworkflow.task.faulted.v1"
    COMPLETED = "io.serverlessworkflow.task.completed.v1"


class CorrelationLifecycle(StrEnum):
    """The types of events that tell of an execution that waits for events."""

    STARTED = "io.serverlessworkflow.workflow.correlation-started.v1"
    COMPLETED = "io.serverlessworkflow.workflow.correlation-completed.v1"


TASK_TYPES: Final[frozenset[str]] = frozenset(each.value for each in TaskLifecycle)
FROM_RUNNERS: Final[frozenset[str]] = TASK_TYPES | {each.value for each in CorrelationLifecycle}
"""What only runners know of."""

TYPES: Final[frozenset[str]] = FROM_RUNNERS | {each.value for each in Lifecycle}
"""All types of events that are told."""

MAX_OUTPUT_BYTES: Final = 64 * limits.KIB
"""JSON of a task's output that is told: there are many tasks."""

MAX_DATA_BYTES: Final = 2 * MAX_OUTPUT_BYTES
"""What a runner tells of a task: its output or error, and where it is."""

OF_END: Final = {
    Status.CANCELLED: Lifecycle.CANCELLED,
    Status.FAULTED: Lifecycle.FAULTED,
    Status.COMPLETED: Lifecycle.COMPLETED,
}
"""What is told of an execution that ended with a status."""

_TIMES: Final[dict[str, str]] = {
    Lifecycle.STARTED: "startedAt",
    Lifecycle.SUSPENDED: "suspendedAt",
    Lifecycle.RESUMED: "resumedAt",
    Lifecycle.CANCELLED: "cancelledAt",
    Lifecycle.FAULTED: "faultedAt",
    Lifecycle.COMPLETED: "completedAt",
    TaskLifecycle.CREATED: "createdAt",
    TaskLifecycle.STARTED: "startedAt",
    TaskLifecycle.RETRIED: "retriedAt",
    TaskLifecycle.CANCELLED: "cancelledAt",
    TaskLifecycle.FAULTED: "faultedAt",
    TaskLifecycle.COMPLETED: "completedAt",
    CorrelationLifecycle.STARTED: "startedAt",
    CorrelationLifecycle.COMPLETED: "completedAt",
}


class LifecycleEvent(NamedTuple):
    """Something that happened within an execution, as a runner tells it.

    Attributes:
        type: one of `FROM_RUNNERS`.
        key: tells it from all others of its type and execution; the same however often it is told. ASCII.
        time_ms: when it happened, Unix time.
        data: what the event's data has of it, a JSON object of at most `MAX_DATA_BYTES`.
    """

    type: str
    key: str
    time_ms: int
    data: bytes


class Definition(NamedTuple):
    """What a flow's document says of itself."""

    namespace: str
    name: str
    version: str


def is_lifecycle(type_: str) -> bool:
    """Whether a type of events is kept for what the router tells of executions: no flow can emit such an event."""
    return type_.startswith(_PREFIXES)


def is_event_data(data: bytes) -> bool:
    """Whether bytes are what `LifecycleEvent.data` may be."""
    try:
        return len(data) <= MAX_DATA_BYTES and isinstance(orjson.loads(data), dict)
    except orjson.JSONDecodeError:
        return False


def error_data(error: WorkflowError) -> dict[str, Any]:
    """Return what is told of an error: not what was answered, for any flow may listen."""
    return {key: value for key, value in error.without_response().as_dict().items() if value != ""}


def lifecycle_event(
    kind: str,
    *,
    event_id: str,
    flow_id: str,
    execution_id: str,
    definition: Definition,
    time_ms: int,
    error: WorkflowError | None = None,
    output: bytes | None = None,
    within: bytes = b"",
) -> bytes:
    """Return what is told of an execution, a CloudEvent as JSON of at most `limits.MAX_RESULT_BYTES`.

    Args:
        kind: what happened, one of `TYPES`.
        event_id: the event's own.
        flow_id: of the execution.
        execution_id: its ID.
        definition: the flow that it runs.
        time_ms: when it happened, Unix time.
        error: why it faulted.
        output: JSON of what it completed with; left out where the event would be too large with it.
        within: what a runner says of it (`LifecycleEvent.data`), where that tells.
    """
    namespace, name, version = definition
    moment = rfc3339(time_ms)
    data: dict[str, Any] = {
        "workflow" if kind in TASK_TYPES else "name": f"{name}-{execution_id}.{namespace}",
        "definition": {"namespace": namespace, "name": name, "version": version},
        _TIMES[kind]: moment,
    }
    if within:
        data |= orjson.loads(within)
    if error is not None:
        data["error"] = error_data(error)
    event = {
        "specversion": SPEC_VERSION,
        "id": event_id,
        "source": f"/flows/{flow_id}",
        "type": str(kind),
        "subject": execution_id,
        "time": moment,
        "datacontenttype": "application/json",
        "data": data,
    }
    if output is not None:
        whole = orjson.dumps(event | {"data": data | {"output": orjson.Fragment(output)}})
        if len(whole) <= limits.MAX_RESULT_BYTES:
            return whole
    return orjson.dumps(event)
