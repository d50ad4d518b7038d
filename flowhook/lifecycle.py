"""Lifecycle events: what is told of executions as they start, are suspended and resumed, and end.

Source: https://github.com/serverlessworkflow/specification, dsl.md, "Lifecycle Events", and dsl-reference.md, "Workflow
Lifecycle Events".
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
    """The types of events that are published, by what happened to an execution."""

    STARTED = "io.serverlessworkflow.workflow.started.v1"
    SUSPENDED = "io.serverlessworkflow.workflow.suspended.v1"
    RESUMED = "io.serverlessworkflow.workflow.resumed.v1"
    CANCELLED = "io.serverlessworkflow.workflow.cancelled.v1"
    FAULTED = "io.serverlessworkflow.workflow.faulted.v1"
    COMPLETED = "io.serverlessworkflow.workflow.completed.v1"


TYPES: Final[frozenset[str]] = frozenset(each.value for each in Lifecycle)
"""All of them."""

OF_END: Final = {
    Status.CANCELLED: Lifecycle.CANCELLED,
    Status.FAULTED: Lifecycle.FAULTED,
    Status.COMPLETED: Lifecycle.COMPLETED,
}
"""What is told of an execution that ended with a status."""

_TIMES: Final = {
    Lifecycle.STARTED: "startedAt",
    Lifecycle.SUSPENDED: "suspendedAt",
    Lifecycle.RESUMED: "resumedAt",
    Lifecycle.CANCELLED: "cancelledAt",
    Lifecycle.FAULTED: "faultedAt",
    Lifecycle.COMPLETED: "completedAt",
}


class Definition(NamedTuple):
    """What a flow's document says of itself."""

    namespace: str
    name: str
    version: str


def is_lifecycle(type_: str) -> bool:
    """Whether a type of events is kept for what the router tells of executions: no flow can emit such an event."""
    return type_.startswith(_PREFIXES)


def lifecycle_event(
    kind: Lifecycle,
    *,
    event_id: str,
    flow_id: str,
    execution_id: str,
    definition: Definition,
    time_ms: int,
    error: WorkflowError | None = None,
    output: bytes | None = None,
) -> bytes:
    """Return what is told of an execution, a CloudEvent as JSON of at most `limits.MAX_RESULT_BYTES`.

    Args:
        kind: what happened.
        event_id: the event's own.
        flow_id: of the execution.
        execution_id: its ID.
        definition: the flow that it runs.
        time_ms: when it happened, Unix time.
        error: why it faulted.
        output: JSON of what it completed with; left out where the event would be too large with it.
    """
    namespace, name, version = definition
    moment = rfc3339(time_ms)
    data: dict[str, Any] = {
        "name": f"{name}-{execution_id}.{namespace}",
        "definition": {"namespace": namespace, "name": name, "version": version},
        _TIMES[kind]: moment,
    }
    if error is not None:
        data["error"] = {key: value for key, value in error.as_dict().items() if value != ""}
    event = {
        "specversion": SPEC_VERSION,
        "id": event_id,
        "source": f"/flows/{flow_id}",
        "type": kind.value,
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
