"""Flows, their revisions, and the numbers of their executions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from flowhook.errors import Fault
from flowhook.model.events import Headers
from flowhook.model.times import to_datetime


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


class FlowCondition(StrEnum):
    """A condition of a flow that operators look for.

    `FAILING`: an execution of it faulted within the last hour. `NEEDS_SECRET`: it names a secret that is not set.
    """

    PAUSED = "paused"
    FAILING = "failing"
    NEEDS_SECRET = "needs_secret"  # noqa: S105 - no secret


@dataclass(frozen=True, slots=True)
class NamedSecret:
    """A secret that a flow names.

    Attributes:
        name: its name.
        missing: whether no secret of this name is set.
        verifies: whether requests are verified with it.
        expressions: whether expressions may read it (`$secrets`). If neither holds, a call of a component reads it.
        match_time_ms: when a request was last verified with it; None: not since the router started.
        latest_match: whether it is the one of the flow's secrets that matched last.
    """

    name: str
    missing: bool
    verifies: bool
    expressions: bool
    match_time_ms: int | None = None
    latest_match: bool = False

    @property
    def matched_at(self) -> datetime | None:
        """Time at which a request was last verified with it; None: not since the router started."""
        return None if self.match_time_ms is None else to_datetime(self.match_time_ms)


@dataclass(frozen=True, slots=True)
class FlowStatistics:
    """A flow with the numbers of its executions and the state of its secrets.

    Attributes:
        flow: without `document` and `definition`.
        accepted: executions accepted in each of the last 60 minutes, oldest first.
        completed: executions that completed, likewise.
        faulted: executions that faulted, likewise.
        pending: executions that wait for a runner, or for an earlier one of their order key.
        running: executions under lease.
        waiting: executions that wait for a time or an event.
        suspended: executions that an operator suspended.
        oldest_pending_time_ms: when the pending execution that runs next was received; None: none is ready.
        last_event_time_ms: when the latest stored execution was received; None if absent.
        secrets: those that the latest revision names, by name.
    """

    flow: Flow
    accepted: tuple[int, ...]
    completed: tuple[int, ...]
    faulted: tuple[int, ...]
    pending: int
    running: int
    waiting: int
    suspended: int
    oldest_pending_time_ms: int | None
    last_event_time_ms: int | None
    secrets: tuple[NamedSecret, ...]

    @property
    def oldest_pending_at(self) -> datetime | None:
        """Time at which the pending execution that runs next was received; None: none is ready."""
        return None if self.oldest_pending_time_ms is None else to_datetime(self.oldest_pending_time_ms)

    @property
    def last_event_at(self) -> datetime | None:
        """Time at which the latest stored execution was received; None if absent."""
        return None if self.last_event_time_ms is None else to_datetime(self.last_event_time_ms)

    @property
    def missing_secrets(self) -> tuple[str, ...]:
        """Names of the secrets that it names and that are not set."""
        return tuple(secret.name for secret in self.secrets if secret.missing)


@dataclass(frozen=True, slots=True)
class FlowStatisticsPage:
    """Flows with their numbers, by ascending ID.

    Attributes:
        items: the flows.
        next_page_token: token of the next page; empty on the last.
        since_ms: Unix time from which the counts by minute are complete, at most an hour ago.
    """

    items: Sequence[FlowStatistics]
    next_page_token: str
    since_ms: int

    @property
    def since(self) -> datetime:
        """Time from which the counts by minute are complete."""
        return to_datetime(self.since_ms)


@dataclass(frozen=True, slots=True)
class AppliedFlow:
    """Result of applying one document, with warnings for its author, for example that a secret is not set."""

    flow: Flow
    change: Change
    warnings: tuple[str, ...]
    located_warnings: tuple[Fault, ...] = ()
    """The same with their places in the document, without a file."""


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """The HTTP request that a sender of a flow would make, without values of secrets.

    Attributes:
        method: upper case.
        url: with path and query.
        headers: all but Host and Content-Length.
        body: bytes of the body.
        auth_kind: kind of `auth` that it satisfies; empty: the flow has none.
        secret_name: name of the secret that it is signed with; empty: none.
        validity: seconds in which it is accepted; None: unlimited.
        credential: where the sender puts the secret itself, `header`, `query` or `basic`, and the name of the header,
            the parameter or the user; None: the request is complete.
    """

    method: str
    url: str
    headers: Headers
    body: bytes
    auth_kind: str
    secret_name: str
    validity: float | None
    credential: tuple[str, str] | None
