"""Secrets: their names, their age, and the flows that name them; never their values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from flowhook.model.times import to_datetime


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
class SecretInfo:
    """A secret, without its value, and the flows that name it.

    Attributes:
        name: its name.
        update_time_ms: when it was last set; None: it is not set, but flows name it.
        users: the flows that it verified a request of last, then the others by ID; at most 100. Empty unless requested.
        user_count: number of flows that name it.
        match_time_ms: when a request was last verified with it; None: not since the router started.
    """

    name: str
    update_time_ms: int | None
    users: tuple[SecretUser, ...] = ()
    user_count: int = 0
    match_time_ms: int | None = None

    @property
    def updated_at(self) -> datetime | None:
        """Time at which it was last set; None: it is not set."""
        return None if self.update_time_ms is None else to_datetime(self.update_time_ms)

    @property
    def matched_at(self) -> datetime | None:
        """Time at which a request was last verified with it; None: not since the router started."""
        return None if self.match_time_ms is None else to_datetime(self.match_time_ms)


@dataclass(frozen=True, slots=True)
class SecretUses:
    """All secrets by ascending name, then those that flows name and that are not set.

    Attributes:
        secrets: the secrets.
        matches_since_ms: Unix time at which the router began to note which secrets match.
    """

    secrets: tuple[SecretInfo, ...]
    matches_since_ms: int

    @property
    def matches_since(self) -> datetime:
        """Time at which the router began to note which secrets match."""
        return to_datetime(self.matches_since_ms)
