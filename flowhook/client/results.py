"""Results and errors that only clients have; those of all parts are in `flowhook.model` and `flowhook.errors`."""

from __future__ import annotations

from dataclasses import dataclass

from flowhook.errors import FlowhookError, UnavailableError
from flowhook.model import Change, Execution, Flow, WorkflowError


@dataclass(frozen=True, slots=True)
class AppliedFlow:
    """Result of applying one document, with warnings for its author, for example that a secret is not set."""

    flow: Flow
    change: Change
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ExecutionChange:
    """Change of an execution's status. `missed` counts the changes that were dropped before it for a slow watcher."""

    execution: Execution
    missed: int


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """A process of the cluster. `last_seen`: seconds since its last report. `metrics`: Prometheus text format."""

    name: str
    role: str
    build: str
    pid: int
    host: str
    ready: bool
    detail: str
    metrics: bytes
    last_seen: float


class ReplyPendingError(UnavailableError):
    """The flow has not replied in time; its execution, `execution_id`, continues."""

    default_reason = "REPLY_PENDING"

    def __init__(self, execution_id: str) -> None:
        super().__init__(f"execution {execution_id} has not replied in time, and continues")
        self.execution_id = execution_id


class ExecutionFailedError(FlowhookError):
    """The execution faulted or was cancelled; `error` is the cause as a DSL error."""

    default_reason = "EXECUTION_FAILED"

    def __init__(self, execution_id: str, error: WorkflowError) -> None:
        super().__init__(f"execution {execution_id} failed: {error.title}: {error.detail}".rstrip(": "))
        self.execution_id = execution_id
        self.error = error
