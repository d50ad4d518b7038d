"""Secrets: their names, their age, and the flows that name them; never their values."""

from __future__ import annotations

from dataclasses import dataclass

from flowhook.model.times import time_if_any, time_of


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
    # the flows that it verified a request of last, then the others by ID; at most 100. Empty unless requested
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
