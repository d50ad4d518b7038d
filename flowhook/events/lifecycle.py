"""Lifecycle events of executions and their tasks, as CloudEvents.

The router publishes them. It records the events of executions itself; runners report those of tasks and of
correlations to it, as `LifecycleEvent`.

Source: https://github.com/open-workflow-specification/specification, dsl.md, "Lifecycle Events", and
dsl-reference.md, "Workflow Lifecycle Events", "Task Lifecycle Events".
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from functools import partial
from typing import Any, Final, NamedTuple

import orjson

from flowhook import limits
from flowhook.events.cloud_events import SPEC_VERSION
from flowhook.events.workflow_input import rfc3339
from flowhook.json import object_of
from flowhook.model import Status, WorkflowError
from flowhook.model.error_types import Spelling

PREFIX: Final = "io.serverlessworkflow."
WORKFLOW_PREFIX: Final = f"{PREFIX}workflow."
TASK_PREFIX: Final = f"{PREFIX}task."
INCIDENT_PREFIX: Final = "flowhook.incident."
SILENCE_PREFIX: Final = "flowhook.silence."


class WorkflowEventType(StrEnum):
    """Types of the lifecycle events of an execution."""

    STARTED = "io.serverlessworkflow.workflow.started.v1"
    SUSPENDED = "io.serverlessworkflow.workflow.suspended.v1"
    RESUMED = "io.serverlessworkflow.workflow.resumed.v1"
    CANCELLED = "io.serverlessworkflow.workflow.cancelled.v1"
    FAULTED = "io.serverlessworkflow.workflow.faulted.v1"
    COMPLETED = "io.serverlessworkflow.workflow.completed.v1"


class TaskEventType(StrEnum):
    """Types of the lifecycle events of a task."""

    CREATED = "io.serverlessworkflow.task.created.v1"
    STARTED = "io.serverlessworkflow.task.started.v1"
    RETRIED = "io.serverlessworkflow.task.retried.v1"
    CANCELLED = "io.serverlessworkflow.task.cancelled.v1"
    FAULTED = "io.serverlessworkflow.task.faulted.v1"
    COMPLETED = "io.serverlessworkflow.task.completed.v1"


class CorrelationEventType(StrEnum):
    """Types of the lifecycle events of an execution that waits for events."""

    STARTED = "io.serverlessworkflow.workflow.correlation-started.v1"
    COMPLETED = "io.serverlessworkflow.workflow.correlation-completed.v1"


class IncidentEventType(StrEnum):
    """Types of the lifecycle events of an incident: a destination of calls is down, or up again."""

    OPENED = "flowhook.incident.opened"
    CLOSED = "flowhook.incident.closed"


class SilenceEventType(StrEnum):
    """Types of the lifecycle events of a silence: a flow got no event for longer than it expects, or got one again."""

    BEGAN = "flowhook.silence.began"
    ENDED = "flowhook.silence.ended"


TASK_TYPES: Final[frozenset[str]] = frozenset(each.value for each in TaskEventType)
FROM_RUNNERS: Final[frozenset[str]] = TASK_TYPES | {each.value for each in CorrelationEventType}
"""Types of the events that only runners can report."""

TYPES: Final[frozenset[str]] = FROM_RUNNERS | {each.value for each in WorkflowEventType}

PUBLISHED: Final[frozenset[str]] = TYPES | {each.value for each in (*IncidentEventType, *SilenceEventType)}
"""All types of events that the router publishes: about executions, incidents and silences."""

MAX_OUTPUT_BYTES: Final = 64 * limits.KIB
"""Bytes of JSON: a larger output of a task is left out of its lifecycle event, since there are many tasks."""

MAX_DATA_BYTES: Final = 2 * MAX_OUTPUT_BYTES
"""Bytes of JSON that a runner reports of a task: its output or error, and its position."""

OF_END: Final = {status: WorkflowEventType[status.name] for status in Status if status.ended}
"""Type of the event for an execution that ended, by its status."""


class LifecycleEvent(NamedTuple):
    """A lifecycle event within an execution, as a runner reports it."""

    type: str  # one of `FROM_RUNNERS`
    key: str  # distinguishes it from all others of its type and execution; the same each time it is reported. ASCII
    time_ms: int  # Unix time at which it happened
    data: bytes  # members for the event's `data`, a JSON object of at most `MAX_DATA_BYTES`


class WorkflowIdentity(NamedTuple):
    """Identity of a workflow definition, from the `document` section of the flow file."""

    namespace: str
    name: str
    version: str


def is_reserved_type(type_: str) -> bool:
    """Whether an event type is reserved for lifecycle events: no flow can emit such an event."""
    return type_.startswith((WORKFLOW_PREFIX, TASK_PREFIX, INCIDENT_PREFIX, SILENCE_PREFIX))


def is_valid_data(data: bytes) -> bool:
    return len(data) <= MAX_DATA_BYTES and object_of(data) is not None


def error_data(error: WorkflowError, spelling: Spelling) -> dict[str, Any]:
    """Return the members of an error to publish, without the response that caused it: any flow may listen."""
    return {key: value for key, value in error.without_response().as_dict(spelling).items() if value != ""}


def fingerprint(flow_id: str, error: WorkflowError) -> str:
    """Return what faults have in common that are alike: those of one flow, at one task, with one status and title."""
    alike = orjson.dumps([flow_id, error.instance, error.status, error.title])
    return hashlib.blake2b(alike, digest_size=8).hexdigest()


def encode_event(
    kind: str, data: Mapping[str, Any], *, event_id: str, source: str, subject: str, time_ms: int
) -> bytes:
    """Return a CloudEvent of the router, as JSON."""
    event = {
        "specversion": SPEC_VERSION,
        "id": event_id,
        "source": source,
        "type": str(kind),
        "subject": subject,
        "time": rfc3339(time_ms),
        "datacontenttype": "application/json",
        "data": data,
    }
    return orjson.dumps(event)


def encode_lifecycle_event(
    kind: str,
    *,
    event_id: str,
    flow_id: str,
    execution_id: str,
    definition: WorkflowIdentity,
    time_ms: int,
    error: WorkflowError | None = None,
    error_types: Spelling = "open-workflow",
    output: bytes | None = None,
    within: bytes = b"",
) -> bytes:
    """Return a lifecycle event: a CloudEvent as JSON of at most `limits.MAX_RESULT_BYTES`.

    `kind` is one of `TYPES`. `output` is left out if the event would be too large with it; `outputUri`
    says where the admin process has it. `within` is the data that a
    runner reported (`LifecycleEvent.data`); empty for events that the router records itself.
    """
    happened = kind.removesuffix(".v1").rpartition(".")[2].removeprefix("correlation-")
    data: dict[str, Any] = {
        "workflow" if kind in TASK_TYPES else "name": f"{definition.name}-{execution_id}.{definition.namespace}",
        "definition": definition._asdict(),
        f"{happened}At": rfc3339(time_ms),
    }
    if within:
        data |= orjson.loads(within)
    if output is not None:
        data["outputUri"] = f"/api/executions/{execution_id}#/output"
    elif kind == TaskEventType.COMPLETED:
        data["outputUri"] = f"/api/executions/{execution_id}/trace"
    if error is not None:
        data["error"] = error_data(error, error_types)
        data["fingerprint"] = fingerprint(flow_id, error)
    encode = partial(
        encode_event, kind, event_id=event_id, source=f"/flows/{flow_id}", subject=execution_id, time_ms=time_ms
    )
    if output is not None:
        whole = encode(data | {"output": orjson.Fragment(output)})
        if len(whole) <= limits.MAX_RESULT_BYTES:
            return whole
    return encode(data)
