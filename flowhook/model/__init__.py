"""Domain types that cross module boundaries: immutable, without I/O.

Times are Unix milliseconds (UTC) in `int`s; properties `*_at` return them as datetimes. Headers are ordered pairs,
never a dict, because fields repeat. JSON that is only passed on stays `bytes`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from typing import Any, Final, NamedTuple

from flowhook.model.attempts import Attempt
from flowhook.model.execution_links import NO_LINKS, ExecutionLinks
from flowhook.model.replays import ReplayOrigin

Headers = tuple[tuple[str, bytes], ...]
"""Header fields in wire order: lower-case name, value without surrounding whitespace."""


def to_datetime(milliseconds: int) -> datetime:
    """Convert Unix milliseconds to a datetime in UTC."""
    return datetime.fromtimestamp(milliseconds // 1000, UTC).replace(microsecond=milliseconds % 1000 * 1000)


class Principal(NamedTuple):
    """An authenticated sender: kind of the credential, and name (never the value) of the secret that matched."""

    scheme: str
    secret: str


class Blob(NamedTuple):
    """A body that is stored separately from its event: opaque ID, size in bytes, SHA-256."""

    id: str
    size: int
    sha256: bytes


class Part(NamedTuple):
    """An attachment: a slice of a body. See `flowhook.v1.Part`."""

    offset: int
    size: int
    type: str
    name: str
    field: str
    sha256: bytes


class Origin(IntEnum):
    """Origin of an event; see `flowhook.v1.Event.Origin`."""

    REQUEST = 0
    WORKFLOW = 1
    SCHEDULE = 2
    EVENTS = 3


class Event(NamedTuple):
    """An authenticated request, as persisted and as delivered to runners. See `flowhook.v1.Event`.

    A named tuple rather than a dataclass, because it is faster to create and every request creates one.
    """

    id: str
    flow_id: str
    receive_time_ms: int
    principal: Principal | None
    dedupe_key: str
    method: str
    path: str
    query: str
    content_type: str
    headers: Headers
    body: bytes
    traceparent: str = ""
    order_key: str = ""
    origin: Origin = Origin.REQUEST
    callback: str = ""
    callback_token: str = ""
    depth: int = 0
    body_blob: Blob | None = None
    parts: tuple[Part, ...] = ()
    form: bytes = b""
    rejection_id: str = ""
    replay: ReplayOrigin | None = None
    parent: str = ""

    @property
    def received_at(self) -> datetime:
        """Time at which the request was complete."""
        return to_datetime(self.receive_time_ms)


class Status(StrEnum):
    """The status phases of the Serverless Workflow DSL (dsl.md, "Status Phases")."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    SUSPENDED = "suspended"
    CANCELLED = "cancelled"
    FAULTED = "faulted"
    COMPLETED = "completed"

    @property
    def ended(self) -> bool:
        """Whether an execution in this status will never change again."""
        return self in (Status.CANCELLED, Status.FAULTED, Status.COMPLETED)


ERROR_TYPE_BASE = "https://serverlessworkflow.io/spec/1.0.0/errors/"


class FailedResponse(NamedTuple):
    """Response to an outbound call that failed.

    Attributes:
        status: HTTP status, in [100, 599].
        url: requested URL, without credentials, query and fragment; only the origin if the flow has secrets.
        body: first 4 KiB of the body as text, without the values of secrets; bytes that are not UTF-8 are replaced.
        size: bytes of the whole body.
    """

    status: int
    url: str
    body: str
    size: int


class RaiseOrigin(NamedTuple):
    """The `raise` task that raised an error, and the failure that led to it.

    Attributes:
        task: JSON Pointer of the task.
        cause: key of the journal entry of the failure that a `catch` around the task handled; empty: there is no such
            `catch`, or the failure has no entry.
    """

    task: str
    cause: str


@dataclass(frozen=True, slots=True)
class WorkflowError:
    """A workflow error as the DSL defines it (dsl-reference.md, "Error"): a problem detail of RFC 9457.

    Attributes:
        type: URI, one of the standard ones (`ERROR_TYPE_BASE` and configuration, validation, expression,
            authentication, authorization, timeout, communication, runtime) or the author's own.
        status: HTTP status, in [100, 599]: that of the response (3xx for a redirect that is not followed) or of the
            `raise` task, else the default of the type, which is 400 or more.
        title: short summary of the type.
        instance: JSON Pointer to the task in the document, for example `/do/0/announce`.
        detail: description of this occurrence; contains no secrets; at most 4 KiB.
        response: the response that was the error, if any; an extension member of the problem detail.
        raising: the `raise` task that raised the error, if one did and the error ended an execution; hidden from flows.
    """

    type: str
    status: int
    title: str
    instance: str = ""
    detail: str = ""
    response: FailedResponse | None = None
    raising: RaiseOrigin | None = field(default=None, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """Return the error as the object that flows and people see."""
        members = {
            "type": self.type,
            "status": self.status,
            "title": self.title,
            "instance": self.instance,
            "detail": self.detail,
        }
        return members if self.response is None else {**members, "response": self.response._asdict()}

    @classmethod
    def from_dict(cls, members: Mapping[str, Any]) -> WorkflowError:
        """Return the error for the result of `as_dict`."""
        response = members.get("response")
        return cls(**{**members, "response": None if response is None else FailedResponse(**response)})

    def without_response(self) -> WorkflowError:
        """Return the error without its response, for recipients that must not see responses of other systems."""
        return self if self.response is None else replace(self, response=None)

    @property
    def size(self) -> int:
        """Approximate size in bytes."""
        texts = (self.type, self.title, self.instance, self.detail)
        return sum(map(len, texts)) + (0 if self.response is None else len(self.response.url) + len(self.response.body))


@dataclass(frozen=True, slots=True)
class Reply:
    """HTTP response that a flow returned. `status` is in [200, 599]; `body` has at most 1 MiB."""

    status: int
    headers: Headers
    body: bytes

    def json(self) -> Any:
        """Parse the body as JSON.

        Raises:
            ValueError: the body is not JSON.
        """
        return json.loads(self.body)


SNAPSHOT_KEY: Final = "@"
"""Key of snapshots: entries that replace all earlier ones of a journal, in a format private to the interpreter."""


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """Durable result of one task that had an effect: exactly one of `output` (JSON) and `error` is set.

    `key` identifies the effect within its execution: JSON Pointer of the task with iteration indexes, `#`, and how
    often the flow has reached the task before (from 0).
    """

    key: str
    output: bytes | None
    error: WorkflowError | None = None


class Correlation(NamedTuple):
    """A value that an event must have: `path` is an expression without `${ }`, `expected` is JSON."""

    path: str
    expected: bytes


class EventFilter(NamedTuple):
    """Condition on events; see `flowhook.v1.EventFilter`. `attributes` are sorted by name."""

    callback: bool
    type: str
    attributes: tuple[tuple[str, str], ...] = ()
    correlations: tuple[Correlation, ...] = ()


class Subscription(NamedTuple):
    """Awaited by an execution: events that pass one of `filters`, or the end of execution `execution_id`.

    `key` is the key of the journal entry that records what was received.
    """

    key: str
    filters: tuple[EventFilter, ...] = ()
    execution_id: str = ""

    @property
    def size(self) -> int:
        """Approximate size in bytes."""
        return (
            len(self.key)
            + len(self.execution_id)
            + sum(
                len(each.type)
                + sum(len(name) + len(value) for name, value in each.attributes)
                + sum(len(path) + len(expected) for path, expected in each.correlations)
                for each in self.filters
            )
        )


class Resolution(NamedTuple):
    """An operator's decision that a failed execution needs no further action: the reason, and the time in Unix ms."""

    reason: str
    time_ms: int


class Retry(NamedTuple):
    """What failed in an execution that waits, and is tried again when the wait is over: the one that is next.

    Attributes:
        error: how it failed last; `instance` is the task.
        tries: how often it was tried so far, from 1.
        next_time_ms: Unix time of the next try.
        others: number of other calls and `try` tasks of the execution that wait for a later try.
        keys: keys of the journal entries that end these waits, the next one first; only between runner and router.
    """

    error: WorkflowError
    tries: int
    next_time_ms: int
    others: int = 0
    keys: tuple[str, ...] = ()

    @property
    def next_at(self) -> datetime:
        """Time of the next try."""
        return to_datetime(self.next_time_ms)


@dataclass(frozen=True, slots=True)
class Execution:
    """One run of one flow for one event. `id` is the event's.

    Attributes:
        replay_of: ID of the execution that this one replays, or empty.
        replayed_by: ID of the replay that supersedes it; else of its latest replay, which failed; else empty.
        replayed: whether a later replay of its event is unfinished or completed: that replay supersedes this execution.
        resolution: the operator's decision to leave it failed, if any.
        retry: what failed and is tried again, if it waits for that.
    """

    id: str
    flow_id: str
    flow_revision: int
    status: Status
    attempts: int
    receive_time_ms: int
    end_time_ms: int | None = None
    error: WorkflowError | None = None
    replay_of: str = ""
    replayed_by: str = ""
    replayed: bool = False
    resolution: Resolution | None = None
    retry: Retry | None = None

    @property
    def received_at(self) -> datetime:
        """Time at which its event was received."""
        return to_datetime(self.receive_time_ms)

    @property
    def ended_at(self) -> datetime | None:
        """Time at which it ended; None while it has not."""
        return None if self.end_time_ms is None else to_datetime(self.end_time_ms)


class TaskState(StrEnum):
    """State of one run of a task."""

    RUNNING = "running"
    COMPLETED = "completed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    FAULTED = "faulted"


class TaskRun(NamedTuple):
    """One run of one task of an execution.

    Attributes:
        number: ordinal among all task runs of the execution, from 1.
        task: JSON Pointer, with the indexes of the loops around it; within a function, after the key of its call.
        begin_time_ms: time at which it began; None: unknown.
        end_time_ms: time at which it ended; None: it has not ended, or unknown.
        tries: how often its operation was tried, from 1.
        state: its present state.
        detail: the error, or the task that a `switch` chose; at most 200 characters, without values of secrets.
    """

    number: int
    task: str
    begin_time_ms: int | None
    end_time_ms: int | None
    tries: int
    state: TaskState
    detail: str


@dataclass(frozen=True, slots=True)
class ExecutionDetail:
    """An execution with everything that is stored of it.

    Attributes:
        journal: results of its calls since the journal was last compacted.
        output: JSON, None unless it completed.
        history: its task runs, in the order in which they began.
        attributes: its search attributes: names and values, by name.
        links: executions that caused it, and those that it caused.
        attempts: interrupted ones, and the one that ended it or is under way; `attempts_left_out` earlier ones are not
            stored.
        latest_revision: of its flow; 0: the flow was deleted.
        cut_body_size: bytes of the whole body if `event` has only the beginning of it, as requested; None: it has all.
    """

    execution: Execution
    event: Event
    journal: tuple[JournalEntry, ...]
    output: bytes | None
    reply: Reply | None = None
    history: tuple[TaskRun, ...] = ()
    attributes: tuple[tuple[str, str], ...] = ()
    links: ExecutionLinks = NO_LINKS
    attempts: tuple[Attempt, ...] = ()
    attempts_left_out: int = 0
    cut_body_size: int | None = None
    latest_revision: int = 0

    @property
    def body_size(self) -> int:
        """Bytes of the whole body: in the event, cut there, or stored separately."""
        if self.cut_body_size is not None:
            return self.cut_body_size
        return len(self.event.body) if self.event.body_blob is None else self.event.body_blob.size


@dataclass(frozen=True, slots=True)
class FlowRevision:
    """A stored revision of a flow, without its document.

    Attributes:
        revision: its number, from 1.
        version: `document.version` of its document.
    """

    revision: int
    version: str
    update_time_ms: int

    @property
    def updated_at(self) -> datetime:
        """Time at which it was applied."""
        return to_datetime(self.update_time_ms)


@dataclass(frozen=True, slots=True)
class Flow:
    """A flow as stored.

    Attributes:
        id: `name`, or `namespace.name` outside the namespace `default`.
        document: the author's flow file, UTF-8 YAML; empty where it was not requested.
        definition: the document as canonical JSON; empty where it was not requested.
        revision: number of this revision of the flow, from 1.
        next_time_ms: next time that its schedule starts it; None: no time is known.
    """

    id: str
    document: bytes
    definition: bytes
    revision: int
    paused: bool
    has_webhook: bool
    create_time_ms: int
    update_time_ms: int
    next_time_ms: int | None = None

    @property
    def created_at(self) -> datetime:
        """Time at which it was first applied."""
        return to_datetime(self.create_time_ms)

    @property
    def updated_at(self) -> datetime:
        """Time at which this revision was created."""
        return to_datetime(self.update_time_ms)

    @property
    def next_at(self) -> datetime | None:
        """Next time that its schedule starts it; None: no time is known."""
        return None if self.next_time_ms is None else to_datetime(self.next_time_ms)


class Change(StrEnum):
    """Effect that applying a document had, or would have in a dry run."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
