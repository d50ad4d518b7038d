"""Secrets: their names, their age, and the flows that name them; never their values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from flowhook.model.times import to_datetime


@dataclass(frozen=True, slots=True)
class SecretInfo:
    """Public metadata of a secret."""

    name: str
    update_time_ms: int

    @property
    def updated_at(self) -> datetime:
        """Time at which it was last set."""
        return to_datetime(self.update_time_ms)


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
