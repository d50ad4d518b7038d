"""Domain types that cross module boundaries. Frozen, plain, without I/O.

Times are Unix milliseconds (UTC) in `int`s, and properties `*_at` give them as datetimes. Headers are ordered pairs,
never a dict: fields repeat. JSON that is only carried stays `bytes`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from typing import Any, Final, NamedTuple

Headers = tuple[tuple[str, bytes], ...]
"""Header fields in wire order: lower-case name, value without surrounding whitespace."""


def moment(milliseconds: int) -> datetime:
    """Return a time, UTC."""
    return datetime.fromtimestamp(milliseconds // 1000, UTC).replace(microsecond=milliseconds % 1000 * 1000)


class Principal(NamedTuple):
    """Who was authenticated: the kind of credential and the name (never the value) of the secret that matched."""

    scheme: str
    secret: str


class Blob(NamedTuple):
    """A body that is stored apart from its event: opaque ID, bytes, SHA-256 of them."""

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
    """What made an event; see `flowhook.v1.Event.Origin`."""

    REQUEST = 0
    WORKFLOW = 1
    SCHEDULE = 2
    EVENTS = 3


class Event(NamedTuple):
    """One authenticated request, as persisted and as delivered to runners. See `flowhook.v1.Event`.

    A named tuple rather than a dataclass, because one is made for every request.
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

    @property
    def received_at(self) -> datetime:
        """When the request was complete."""
        return moment(self.receive_time_ms)


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
    """What was answered to a call that failed.

    Attributes:
        status: of HTTP, in [100, 599].
        url: that was asked, without credentials, query and fragment; of a flow that has secrets the origin alone.
        body: its first 4 KiB as text, without the values of secrets; what is no UTF-8 is replaced.
        size: bytes that the whole body had.
    """

    status: int
    url: str
    body: str
    size: int


class Raising(NamedTuple):
    """Which `raise` task raised an error, and because of what.

    Attributes:
        task: JSON Pointer of it.
        cause: key of the journal entry of the failure that a `catch` around it handled; empty: none did, or what failed
            there has no entry.
    """

    task: str
    cause: str


@dataclass(frozen=True, slots=True)
class WorkflowError:
    """An error in the terms of the DSL (dsl-reference.md, "Error"): a problem detail of RFC 9457.

    Attributes:
        type: URI, one of the standard ones (`ERROR_TYPE_BASE` and configuration, validation, expression,
            authentication, authorization, timeout, communication, runtime) or the author's own.
        status: of HTTP, in [100, 599]: what an answer had (3xx for a redirect that is not followed), what the author
            of a `raise` says, else the type's own, which is 400 or more.
        title: short summary of the type.
        instance: JSON Pointer to the task in the document, for example `/do/0/announce`.
        detail: what happened this time; holds no secrets; at most 4 KiB.
        response: what was answered, where that was the error; an extension member of the problem detail.
        raising: of an error that ended an execution, if a `raise` task raised it. It is no part of what flows see.
    """

    type: str
    status: int
    title: str
    instance: str = ""
    detail: str = ""
    response: FailedResponse | None = None
    raising: Raising | None = field(default=None, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """Return the error as the DSL shows it to flows and people."""
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
        """Return the error that `as_dict` made something of."""
        response = members.get("response")
        return cls(**{**members, "response": None if response is None else FailedResponse(**response)})

    def without_response(self) -> WorkflowError:
        """Return the error as it is for those whom the answers of other systems are none of their business."""
        return self if self.response is None else replace(self, response=None)

    @property
    def size(self) -> int:
        """About how many bytes it has."""
        texts = (self.type, self.title, self.instance, self.detail)
        return sum(map(len, texts)) + (0 if self.response is None else len(self.response.url) + len(self.response.body))


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP-shaped answer that a flow gave. `status` in [200, 599]; `body` at most 1 MiB."""

    status: int
    headers: Headers
    body: bytes

    def json(self) -> Any:
        """Return what the body says.

        Raises:
            ValueError: it is not JSON.
        """
        return json.loads(self.body)


SNAPSHOT_KEY: Final = "@"
"""Key of the entries that compact a journal: they stand for what was before, in the interpreter's own words."""


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """Durable result of one task that had an effect: exactly one of `output` (JSON) and `error` is set.

    `key` names the effect within its execution: JSON Pointer of the task with iteration indexes, `#`, and how often
    the flow has come there (from 0).
    """

    key: str
    output: bytes | None
    error: WorkflowError | None = None


class Correlation(NamedTuple):
    """A value that an event has to have: `path` is an expression without `${ }`, `expected` is JSON."""

    path: str
    expected: bytes


class EventFilter(NamedTuple):
    """What an event has to have to be taken; see `flowhook.v1.EventFilter`. `attributes` are sorted by name."""

    callback: bool
    type: str
    attributes: tuple[tuple[str, str], ...] = ()
    correlations: tuple[Correlation, ...] = ()


class Subscription(NamedTuple):
    """What an execution waits for: events that pass one of `filters`, or the end of `execution_id`.

    `key` is that of the journal entry that what comes is written under.
    """

    key: str
    filters: tuple[EventFilter, ...] = ()
    execution_id: str = ""

    @property
    def size(self) -> int:
        """About how many bytes it has."""
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
    """An operator's word that nothing is to be done any more about an execution that failed, and why."""

    reason: str
    time_ms: int


@dataclass(frozen=True, slots=True)
class Execution:
    """One run of one flow for one event. `id` is the event's.

    Attributes:
        replay_of: ID of the execution that it replays, or empty.
        replayed_by: ID of the execution that stands for it; else of the latest that replays it, and failed; else empty.
        replayed: whether a later replay of its event is unfinished or completed: that one stands for it.
        resolution: what an operator said of it, if anything.
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

    @property
    def received_at(self) -> datetime:
        """When its event was."""
        return moment(self.receive_time_ms)

    @property
    def ended_at(self) -> datetime | None:
        """When it ended; None while it has not."""
        return None if self.end_time_ms is None else moment(self.end_time_ms)


class TaskState(StrEnum):
    """What became of one run of a task."""

    RUNNING = "running"
    COMPLETED = "completed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    FAULTED = "faulted"


class TaskRun(NamedTuple):
    """One run of one task of an execution.

    Attributes:
        number: the how manieth it is of all tasks that the execution ran, from 1.
        task: JSON Pointer, with the indexes of the loops around it; within a function behind the key of its call.
        begin_time_ms: when it began; None: not known.
        end_time_ms: when it ended; None: not yet, or not known.
        tries: how often what it does was tried, from 1.
        state: what became of it.
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
    """An execution with everything that is kept of it.

    Attributes:
        journal: what calls came to, since it was compacted last.
        output: JSON, None unless it completed.
        history: its tasks, in the order in which they began.
    """

    execution: Execution
    event: Event
    journal: tuple[JournalEntry, ...]
    output: bytes | None
    reply: Reply | None = None
    history: tuple[TaskRun, ...] = ()


@dataclass(frozen=True, slots=True)
class Flow:
    """A flow as stored.

    Attributes:
        id: `name`, or `namespace.name` outside the namespace `default`.
        document: what its author wrote, UTF-8 YAML; empty where it was not asked for.
        definition: the same as canonical JSON; empty where it was not asked for.
        revision: of this flow, from 1.
        next_time_ms: when its schedule starts it next; None where no time is known.
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
        """When it was applied first."""
        return moment(self.create_time_ms)

    @property
    def updated_at(self) -> datetime:
        """When this revision was made."""
        return moment(self.update_time_ms)

    @property
    def next_at(self) -> datetime | None:
        """When its schedule starts it next; None where no time is known."""
        return None if self.next_time_ms is None else moment(self.next_time_ms)


class Change(StrEnum):
    """What applying a document did, or would do."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class SecretInfo:
    """What may be told about a secret."""

    name: str
    update_time_ms: int

    @property
    def updated_at(self) -> datetime:
        """When it was set."""
        return moment(self.update_time_ms)


@dataclass(frozen=True, slots=True)
class RejectedRequest:
    """A request that an edge refused; see `flowhook.v1.Rejection`. `headers` and `body` are empty in lists."""

    id: str
    flow_id: str
    callback: str
    time_ms: int
    status: int
    reason: str
    detail: str
    address: str
    method: str
    path: str
    query: str
    headers: Headers
    body_size: int
    body: bytes
    suppressed: int

    @property
    def refused_at(self) -> datetime:
        """When it was refused."""
        return moment(self.time_ms)
