"""Domain types that cross module boundaries: immutable, without I/O.

Times are Unix milliseconds (UTC) in `int`s; properties `*_at` return them as datetimes. Headers are ordered pairs,
never a dict, because fields repeat. JSON that is only passed on stays `bytes`.
"""

from flowhook.model.error_types import ERROR_TYPE_BASE
from flowhook.model.events import (
    Blob,
    Correlation,
    Event,
    EventFilter,
    Headers,
    Origin,
    Part,
    Principal,
    Reply,
    Subscription,
)
from flowhook.model.executions import (
    SNAPSHOT_KEY,
    BlockedBy,
    Execution,
    ExecutionDetail,
    FailedResponse,
    JournalEntry,
    RaiseOrigin,
    Resolution,
    Retry,
    ShapedBy,
    Status,
    TaskRun,
    TaskState,
    Turn,
    WorkflowError,
)
from flowhook.model.flows import Change, Flow, FlowRevision
from flowhook.model.times import to_datetime

__all__ = [
    "ERROR_TYPE_BASE",
    "SNAPSHOT_KEY",
    "Blob",
    "BlockedBy",
    "Change",
    "Correlation",
    "Event",
    "EventFilter",
    "Execution",
    "ExecutionDetail",
    "FailedResponse",
    "Flow",
    "FlowRevision",
    "Headers",
    "JournalEntry",
    "Origin",
    "Part",
    "Principal",
    "RaiseOrigin",
    "Reply",
    "Resolution",
    "Retry",
    "ShapedBy",
    "Status",
    "Subscription",
    "TaskRun",
    "TaskState",
    "Turn",
    "WorkflowError",
    "to_datetime",
]
