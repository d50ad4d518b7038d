"""Effects of the runner's session: what its owner has to do after a message from the router."""

from __future__ import annotations

from dataclasses import dataclass

from flowhook.attach.messages import Assignment
from flowhook.model import JournalEntry


@dataclass(frozen=True, slots=True)
class AttachAccepted:
    """The stream is ready; renew leases every `renew_seconds`."""

    renew_seconds: float


@dataclass(frozen=True, slots=True)
class StartAttempt:
    """Start working on an assignment."""

    assignment: Assignment


@dataclass(frozen=True, slots=True)
class Proceed:
    """The journal of an execution is durable up to `index`: its next effect may start."""

    lease: bytes
    index: int


@dataclass(frozen=True, slots=True)
class LeasesConfirmed:
    """Leases are confirmed for longer: effects that were held because a lease might be lost may start."""


@dataclass(frozen=True, slots=True)
class Deliver:
    """Deliver an event to its execution; the checkpoint of `entry` must have `number` as its `arrival`."""

    lease: bytes
    number: int
    entry: JournalEntry


@dataclass(frozen=True, slots=True)
class Abandon:
    """Stop working on a lease and discard the result."""

    lease: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class ReleaseOutcome:
    """The outcome of a lease is durable."""

    lease: bytes


@dataclass(frozen=True, slots=True)
class Reattach:
    """Open a new stream once the router closed this one, or after `grace` seconds."""

    grace: float


@dataclass(frozen=True, slots=True)
class SetLifecycleFilter:
    """Report lifecycle events of these types, and of no others, from now on."""

    types: frozenset[str]


Effect = (
    AttachAccepted
    | StartAttempt
    | Proceed
    | LeasesConfirmed
    | Deliver
    | Abandon
    | ReleaseOutcome
    | Reattach
    | SetLifecycleFilter
)
