"""Flows, their revisions, the numbers of their executions, and the secrets that they name; never their values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from flowhook.errors import Fault
from flowhook.model.events import Headers
from flowhook.model.times import time_if_any, time_of


@dataclass(frozen=True, slots=True)
class FlowRevision:
    """A stored revision of a flow, without its document; `updated_at` is when it was applied."""

    revision: int  # from 1
    version: str  # `document.version` of its document
    update_time_ms: int
    updated_at = time_of("update_time_ms")


@dataclass(frozen=True, slots=True)
class Flow:
    """A flow as stored."""

    id: str  # `name`, or `namespace.name` outside the namespace `default`
    document: bytes  # the author's flow file, UTF-8 YAML; empty where it was not requested
    definition: bytes  # the document as canonical JSON; empty where it was not requested
    revision: int  # number of this revision of the flow, from 1
    paused: bool
    has_webhook: bool
    create_time_ms: int
    update_time_ms: int
    next_time_ms: int | None = None  # next time that its schedule starts it; None: no time is known
    created_at = time_of("create_time_ms")
    updated_at = time_of("update_time_ms")
    next_at = time_if_any("next_time_ms")


class Change(StrEnum):
    """Effect that applying a document had, or would have in a dry run."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


class FlowCondition(StrEnum):
    """A condition of a flow that operators look for."""

    PAUSED = "paused"
    FAILING = "failing"  # an execution of it faulted within the last hour
    NEEDS_SECRET = "needs_secret"  # it names a secret that is not set  # noqa: S105 - no secret
    SILENT = "silent"  # it got no event for longer than it expects


@dataclass(frozen=True, slots=True)
class NamedSecret:
    """A secret that a flow names."""

    name: str
    missing: bool  # whether no secret of this name is set
    verifies: bool  # whether requests are verified with it
    expressions: bool  # whether expressions may read it (`$secrets`). If neither holds, a call of a component reads it
    match_time_ms: int | None = None  # when a request was last verified with it; None: not since the router started
    latest_match: bool = False  # whether it is the one of the flow's secrets that matched last
    matched_at = time_if_any("match_time_ms")


@dataclass(frozen=True, slots=True)
class FlowStatistics:
    """A flow with the numbers of its executions and the state of its secrets."""

    flow: Flow  # without `document` and `definition`
    accepted: tuple[int, ...]  # executions accepted in each of the last 60 minutes, oldest first
    completed: tuple[int, ...]  # executions that completed, likewise
    faulted: tuple[int, ...]  # executions that faulted, likewise
    pending: int  # executions that wait for a runner, or for an earlier one of their order key
    running: int  # executions under lease
    waiting: int  # executions that wait for a time or an event
    suspended: int  # executions that an operator suspended
    oldest_pending_time_ms: int | None  # when the pending execution that runs next was received; None: none is ready
    last_event_time_ms: int | None  # when the latest stored execution was received; None if absent
    secrets: tuple[NamedSecret, ...]  # those that the latest revision names, by name
    retrying: int = 0  # those of the waiting executions that failed, and wait for another try
    # of a flow that got no event for longer than it expects, when it got the last one or was applied; None: of others
    silent_since_time_ms: int | None = None
    oldest_pending_at = time_if_any("oldest_pending_time_ms")
    last_event_at = time_if_any("last_event_time_ms")
    silent_since = time_if_any("silent_since_time_ms")

    @property
    def missing_secrets(self) -> tuple[str, ...]:
        """Names of the secrets that it names and that are not set."""
        return tuple(secret.name for secret in self.secrets if secret.missing)


@dataclass(frozen=True, slots=True)
class FlowStatisticsPage:
    """Flows with their numbers, by ascending ID."""

    items: Sequence[FlowStatistics]
    next_page_token: str  # token of the next page; empty on the last
    since_ms: int  # Unix time from which the counts by minute are complete, at most an hour ago
    since = time_of("since_ms")


@dataclass(frozen=True, slots=True)
class AppliedFlow:
    """Result of applying one document, with warnings for its author, for example that a secret is not set."""

    flow: Flow
    change: Change
    warnings: tuple[str, ...]
    located_warnings: tuple[Fault, ...] = ()  # the same with their places in the document, without a file


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """The HTTP request that a sender of a flow would make, without values of secrets."""

    method: str  # upper case
    url: str  # with path and query
    headers: Headers  # all but Host and Content-Length
    body: bytes
    auth_kind: str  # kind of `auth` that it satisfies; empty: the flow has none
    secret_name: str  # name of the secret that it is signed with; empty: none
    validity: float | None  # seconds in which it is accepted; None: unlimited
    # where the sender puts the secret itself, `header`, `query` or `basic`, and the name of the header, the parameter
    # or the user; None: the request is complete
    credential: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class SecretUser:
    """A flow that names a secret; the attributes are those of `NamedSecret`."""

    flow_id: str
    verifies: bool
    expressions: bool
    match_time_ms: int | None = None
    latest_match: bool = False
    matched_at = time_if_any("match_time_ms")


@dataclass(frozen=True, slots=True)
class SecretInfo:
    """A secret, without its value, and the flows that name it."""

    name: str
    update_time_ms: int | None  # when it was last set; None: it is not set, but flows name it
    # the flows that it verified a request of last, then the others by ID; at most 100, and fewer where there are many
    # secrets, but one. Empty unless requested
    users: tuple[SecretUser, ...] = ()
    user_count: int = 0  # number of flows that name it
    match_time_ms: int | None = None  # when a request was last verified with it; None: not since the router started
    updated_at = time_if_any("update_time_ms")
    matched_at = time_if_any("match_time_ms")


@dataclass(frozen=True, slots=True)
class SecretUses:
    """All secrets by ascending name, then those that flows name and that are not set."""

    secrets: tuple[SecretInfo, ...]
    matches_since_ms: int  # Unix time at which the router began to note which secrets match
    matches_since = time_of("matches_since_ms")
