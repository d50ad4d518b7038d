"""Executions: their status, their errors and tasks, their attempts, and the links between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple

from flowhook.model.error_types import Spelling, spelled, standard_type
from flowhook.model.events import Event
from flowhook.model.times import time_if_any, time_of, to_datetime


class Status(StrEnum):
    """The status phases of the Open Workflow DSL (dsl.md, "Status Phases")."""

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


class FailedResponse(NamedTuple):
    """Response to an outbound call that failed."""

    status: int  # HTTP status, in [100, 599]
    url: str  # requested URL, without credentials, query and fragment; only the origin if the flow has secrets
    body: str  # first 4 KiB of the body as text, without the values of secrets; bytes that are not UTF-8 are replaced
    size: int  # bytes of the whole body


class RaiseOrigin(NamedTuple):
    """The `raise` task that raised an error, and the failure that led to it."""

    task: str  # JSON Pointer of the task
    # key of the journal entry of the failure that a `catch` around the task handled; empty: there is no such `catch`,
    # or the failure has no entry
    cause: str


@dataclass(frozen=True, slots=True)
class WorkflowError:
    """A workflow error as the DSL defines it (dsl-reference.md, "Error"): a problem detail of RFC 9457."""

    # URI: a standard one in its present spelling (`ERROR_TYPE_BASE` and a `Kind`), or the author's own
    type: str
    # HTTP status, in [100, 599]: that of the response (3xx for a redirect that is not followed) or of the `raise` task,
    # else the default of the type, which is 400 or more
    status: int
    title: str  # short summary of the type
    instance: str = ""  # JSON Pointer to the task in the document, for example `/do/0/announce`
    detail: str = ""  # description of this occurrence; contains no secrets; at most 4 KiB
    # the response that was the error, if any; an extension member of the problem detail
    response: FailedResponse | None = None
    # the `raise` task that raised the error, if one did and the error ended an execution; hidden from flows
    raising: RaiseOrigin | None = field(default=None, compare=False)
    # origin of the request that the failed call made; empty: it made none. Only runners and the router need it
    destination: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        # here pass flow files, stored executions and journals, and messages of processes of other versions
        object.__setattr__(self, "type", standard_type(self.type))

    def as_dict(self, spelling: Spelling = "open-workflow") -> dict[str, Any]:
        """Return the error as the object that flows and people see, a standard type in a spelling."""
        members = {
            "type": spelled(self.type, spelling),
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


class Resolution(NamedTuple):
    """An operator's decision that a failed execution needs no further action: the reason, and the time in Unix ms."""

    reason: str
    resolve_time_ms: int

    @property
    def resolved_at(self) -> datetime:
        return to_datetime(self.resolve_time_ms)


class Retry(NamedTuple):
    """What failed in an execution that waits, and is tried again when the wait is over: the one that is next."""

    error: WorkflowError  # how it failed last; `instance` is the task
    tries: int  # how often it was tried so far, from 1
    next_time_ms: int  # Unix time of the next try
    others: int = 0  # number of other calls and `try` tasks of the execution that wait for a later try
    # keys of the journal entries that end these waits, the next one first; only between runner and router
    keys: tuple[str, ...] = ()
    # whether the next try is made as soon as another call of the flow succeeds at `error.destination`: once a call, and
    # not if the destination asked for a pause; only between runner and router
    follows: bool = False

    @property
    def next_at(self) -> datetime:
        return to_datetime(self.next_time_ms)


class ShapedBy(StrEnum):
    """The limit of a flow by which a pending execution waits for its turn."""

    RATE = "rate"
    CONCURRENCY = "concurrency"  # that of its key
    DEBOUNCE = "debounce"
    BATCH = "batch"


class Turn(NamedTuple):
    """The turn that a pending execution waits for, by a limit of its flow."""

    by: ShapedBy
    position: int = 0  # its place among those that wait for the same, from 1; 0: too far back to be counted
    expect_time_ms: int | None = None  # Unix time when its turn is expected to come; None: unknown
    events: int = 0  # by `DEBOUNCE` and `BATCH`: events that wait with it, itself included
    size: int = 0  # by `BATCH`: events with which the batch is full

    @property
    def expect_at(self) -> datetime | None:
        return None if self.expect_time_ms is None else to_datetime(self.expect_time_ms)


class BlockedBy(NamedTuple):
    """The execution whose turn it is, of the order key of an execution that waits for its own turn."""

    execution_id: str
    # Unix time when it faulted, and kept the turn (`order_by.on_fault: hold`); None: it has not ended
    fault_time_ms: int | None = None

    @property
    def faulted_at(self) -> datetime | None:
        return None if self.fault_time_ms is None else to_datetime(self.fault_time_ms)


@dataclass(frozen=True, slots=True)
class Execution:
    """One run of one flow for one event. `id` is the event's."""

    id: str
    flow_id: str
    flow_revision: int
    status: Status
    attempts: int
    receive_time_ms: int
    end_time_ms: int | None = None
    error: WorkflowError | None = None
    replay_of: str = ""  # ID of the execution that this one replays, or empty
    replayed_by: str = ""  # ID of the replay that supersedes it; else of its latest replay, which failed; else empty
    # whether a later replay of its event is unfinished or completed: that replay supersedes this execution
    replayed: bool = False
    resolution: Resolution | None = None  # the operator's decision to leave it failed, if any
    retry: Retry | None = None  # what failed and is tried again, if it waits for that
    turn: Turn | None = None  # what it waits for, if a limit of its flow lets it wait
    blocked_by: BlockedBy | None = None  # the execution that it waits for, if that has the turn of its order key
    keeps_turn: bool = False  # whether it faulted and keeps the turn of its order key (`order_by.on_fault: hold`)
    destinations: tuple[str, ...] = ()  # origins of the calls before which it waits, as they are down
    batch: str = ""  # ID of the execution that ran first for the batch that its event is in; empty: it is in none
    batch_events: int = 0  # events of that batch; 0: there is none
    received_at = time_of("receive_time_ms")
    ended_at = time_if_any("end_time_ms")


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


class TaskState(StrEnum):
    """State of one run of a task."""

    RUNNING = "running"
    COMPLETED = "completed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    FAULTED = "faulted"


class TaskRun(NamedTuple):
    """One run of one task of an execution."""

    number: int  # ordinal among all task runs of the execution, from 1
    task: str  # JSON Pointer, with the indexes of the loops around it; within a function, after the key of its call
    begin_time_ms: int | None  # time at which it began; None: unknown
    end_time_ms: int | None  # time at which it ended; None: it has not ended, or unknown
    tries: int  # how often its operation was tried, from 1
    state: TaskState  # its present state
    detail: str  # the error, or the task that a `switch` chose; at most 200 characters, without values of secrets

    @property
    def began_at(self) -> datetime | None:
        return None if self.begin_time_ms is None else to_datetime(self.begin_time_ms)

    @property
    def ended_at(self) -> datetime | None:
        return None if self.end_time_ms is None else to_datetime(self.end_time_ms)


class AttemptEnd(StrEnum):
    """Why an attempt ended: with its execution, or interrupted, so that another was due.

    An attempt that parks its execution is neither: it goes on when the execution is woken.
    """

    RUNNER_LOST = "runner_lost"  # the runner's connection ended, and it did not reattach in time
    LEASE_EXPIRED = "lease_expired"  # the runner was connected, and sent nothing for the duration of a lease
    PROCESS_ENDED = "process_ended"  # the process that watches the runner reported that it was killed or crashed
    # the runner attached again without it: its process had been restarted, or it never received the assignment
    NOT_HELD = "not_held"
    RELEASED = "released"  # the runner gave the execution back
    # the router took the execution back, because an event that the runner had used went to another execution
    RETRACTED = "retracted"
    SUSPENDED = "suspended"  # an operator suspended the execution
    ROUTER_RESTARTED = "router_restarted"  # and no runner that worked on the execution reattached in time
    # the execution completed or faulted in it, or was cancelled meanwhile: no other attempt followed
    EXECUTION_ENDED = "execution_ended"


_TEXTS: Final = {
    AttemptEnd.RUNNER_LOST: "its runner was lost",
    AttemptEnd.LEASE_EXPIRED: "its lease expired",
    AttemptEnd.PROCESS_ENDED: "the runner's process ended",
    AttemptEnd.NOT_HELD: "the runner came back without it",
    AttemptEnd.RELEASED: "released by the runner",
    AttemptEnd.RETRACTED: "taken back by the router",
    AttemptEnd.SUSPENDED: "suspended by an operator",
    AttemptEnd.ROUTER_RESTARTED: "the router was restarted",
    AttemptEnd.EXECUTION_ENDED: "its execution ended",
}


class Attempt(NamedTuple):
    """An attempt that was interrupted, that ended its execution, or that is under way."""

    # ordinal among the attempts that are charged, from 1. An attempt that was not charged has the number of the next
    # one
    number: int
    runner: str = ""  # ID of the runner; empty: unknown
    assign_time_ms: int | None = None  # time at which it was assigned to the runner, Unix ms; None: unknown
    end_time_ms: int | None = None  # time at which its lease ended, Unix ms; None: it is under way
    end: AttemptEnd | None = None  # why it ended; None: it is under way, or a reason that this version does not know
    detail: str = ""  # the reason that the runner gave with the end, at most 64 characters; may be empty
    charged: bool = False  # whether it counts against the execution's limit of attempts; false while it is under way

    @property
    def assigned_at(self) -> datetime | None:
        return None if self.assign_time_ms is None else to_datetime(self.assign_time_ms)

    @property
    def ended_at(self) -> datetime | None:
        return None if self.end_time_ms is None else to_datetime(self.end_time_ms)

    @property
    def reason(self) -> str:
        """Why it ended, in words, with the detail; "under way" while it has not."""
        if self.end_time_ms is None:
            return "under way"
        text = "unknown reason" if self.end is None else _TEXTS[self.end]
        return f"{text} ({self.detail})" if self.detail else text


class AttemptHistory(NamedTuple):
    """Attempts of an execution in the order of their ends, and the number of earlier ones that are not stored.

    One by `EXECUTION_ENDED` is the last.
    """

    attempts: tuple[Attempt, ...] = ()
    left_out: int = 0


class LinkKind(StrEnum):
    """How one execution caused another.

    Events of an execution are those that it emitted, and its lifecycle events.
    """

    RUN = "run"  # its `run` task started the other one
    EVENT = "event"  # its event started the other one, alone or together with others
    LISTEN = "listen"  # its event was received by a `listen` task of the other one
    ABSORB = "absorb"  # the other one runs for its event, too: it ended without running, by `execution.debounce`
    BATCH = "batch"  # the other one runs for the batch that its event is in: it ended without running


class LinkedExecution(NamedTuple):
    """An execution at the other end of a link."""

    id: str
    kinds: tuple[LinkKind, ...]  # how one of the two caused the other; at least one
    flow_id: str = ""  # ID of its flow; empty: it is past retention or was deleted
    status: Status | None = None  # None where `flow_id` is empty


class ExecutionLinks(NamedTuple):
    """The executions that caused one, and those that it caused; both newest first."""

    causes: tuple[LinkedExecution, ...] = ()  # those that started it, or whose events it received
    caused: tuple[LinkedExecution, ...] = ()  # those that it started, or that received its events; the newest ones
    more_caused: bool = False  # whether there are more of these

    def merged(self, other: ExecutionLinks, *, most_caused: int) -> ExecutionLinks:
        """Return the links of two executions together, each execution once; of those caused at most a number."""
        causes = {each.id: each for each in (*self.causes, *other.causes)}
        caused = {each.id: each for each in (*self.caused, *other.caused)}
        kept = tuple(caused.values())[:most_caused]
        more = self.more_caused or other.more_caused or len(caused) > most_caused
        return ExecutionLinks(tuple(causes.values()), kept, more)


NO_LINKS: Final = ExecutionLinks()  # of an execution that no other one caused, and that caused none


@dataclass(frozen=True, slots=True)
class ExecutionDetail:
    """An execution with everything that is stored of it."""

    execution: Execution
    event: Event
    journal: tuple[JournalEntry, ...]  # results of its calls since the journal was last compacted
    output: bytes | None  # JSON, None unless it completed
    history: tuple[TaskRun, ...] = ()  # its task runs, in the order in which they began
    attributes: tuple[tuple[str, str], ...] = ()  # its search attributes: names and values, by name
    links: ExecutionLinks = NO_LINKS  # executions that caused it, and those that it caused
    # interrupted ones, and the one that ended it or is under way; `attempts_left_out` earlier ones are not stored
    attempts: tuple[Attempt, ...] = ()
    attempts_left_out: int = 0
    # bytes of the whole body if `event` has only the beginning of it, as requested; None: it has all
    cut_body_size: int | None = None
    latest_revision: int = 0  # of its flow; 0: the flow was deleted

    @property
    def body_size(self) -> int:
        """Bytes of the whole body: in the event, cut there, or stored separately."""
        if self.cut_body_size is not None:
            return self.cut_body_size
        return len(self.event.body) if self.event.body_blob is None else self.event.body_blob.size


@dataclass(frozen=True, slots=True)
class ExecutionChange:
    """Change of an execution's status. `missed` counts the changes that were dropped before it for a slow watcher."""

    execution: Execution
    missed: int


@dataclass(frozen=True, slots=True)
class ExecutionCount:
    """Number of executions; `more`: there may be more of them."""

    count: int
    more: bool


@dataclass(frozen=True, slots=True)
class DeletedExecutions:
    """Executions that were deleted."""

    execution_ids: tuple[str, ...]  # their IDs, oldest first; at least one
    # executions that caused them, and that they caused, at most 20: these may hold the same data, and were not deleted
    links: ExecutionLinks
    erase_time_ms: int | None = None  # Unix time when the event was erased; None: it was not
    # whether other routers and the replicated log still have what was erased, for about a minute
    purge_pending: bool = False
    erased_at = time_if_any("erase_time_ms")


class ScannedExecution(NamedTuple):
    """An execution and the event that started it."""

    execution: Execution  # as in lists
    # the event, a serialized `flowhook.v1.Event`; None where it, or its body, is stored apart because it is large
    event: bytes | None
    has_webhook: bool  # whether the flow has a `webhook`: the input of its workflow then describes the request
    raw: bool  # whether the flow takes bodies unparsed
    next_page_token: str  # token of the page that begins after it
