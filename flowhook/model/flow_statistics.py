"""Numbers of a flow's executions, and the use of secrets by flows: domain types without I/O, as in `flowhook.model`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from flowhook.model import Flow, to_datetime
from flowhook.model.secrets import SecretInfo


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
        oldest_pending_ms: when the pending execution that runs next was received; None: none is ready.
        last_event_ms: when the latest stored execution was received; None: there is none.
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
    oldest_pending_ms: int | None
    last_event_ms: int | None
    secrets: tuple[NamedSecret, ...]

    @property
    def oldest_pending_at(self) -> datetime | None:
        """Time at which the pending execution that runs next was received; None: none is ready."""
        return None if self.oldest_pending_ms is None else to_datetime(self.oldest_pending_ms)

    @property
    def last_event_at(self) -> datetime | None:
        """Time at which the latest stored execution was received; None: there is none."""
        return None if self.last_event_ms is None else to_datetime(self.last_event_ms)

    @property
    def missing_secrets(self) -> tuple[str, ...]:
        """Names of the secrets that it names and that are not set."""
        return tuple(secret.name for secret in self.secrets if secret.missing)


@dataclass(frozen=True, slots=True)
class FlowStatisticsPage:
    """Flows with their numbers, by ascending ID.

    Attributes:
        items: the flows.
        next_page_token: token of the next page; empty: there is none.
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
class SecretUser:
    """A flow that names a secret; the attributes are those of `NamedSecret`."""

    flow_id: str
    verifies: bool
    expressions: bool
    match_time_ms: int | None = None
    latest_match: bool = False

    @property
    def matched_at(self) -> datetime | None:
        """Time at which a request of the flow was last verified with it; None: not since the router started."""
        return None if self.match_time_ms is None else to_datetime(self.match_time_ms)


@dataclass(frozen=True, slots=True)
class SecretUse:
    """The flows that name a secret.

    Attributes:
        name: its name.
        info: the secret; None: it is not set.
        users: the flows that it verified a request of last, then the others by ID; at most 100.
        user_count: number of flows that name it.
        match_time_ms: when a request was last verified with it; None: not since the router started.
    """

    name: str
    info: SecretInfo | None
    users: tuple[SecretUser, ...]
    user_count: int
    match_time_ms: int | None = None

    @property
    def matched_at(self) -> datetime | None:
        """Time at which a request was last verified with it; None: not since the router started."""
        return None if self.match_time_ms is None else to_datetime(self.match_time_ms)


@dataclass(frozen=True, slots=True)
class SecretUses:
    """All secrets by ascending name, then those that flows name and that are not set.

    Attributes:
        items: the secrets.
        since_ms: Unix time at which the router began to note which secrets match.
    """

    items: tuple[SecretUse, ...]
    since_ms: int

    @property
    def since(self) -> datetime:
        """Time at which the router began to note which secrets match."""
        return to_datetime(self.since_ms)
