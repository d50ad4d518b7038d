"""Effects of the router's half of Attach: what its owner has to do after messages from a runner."""

from __future__ import annotations

from dataclasses import dataclass

from flowhook.attach.messages import Checkpoint, Hello, Outcome, SubscriptionUpdate


@dataclass(frozen=True, slots=True)
class Register:
    """Register the runner, then call `RunnerSession.welcome` with the leases that it retains."""

    hello: Hello


@dataclass(frozen=True, slots=True)
class AddCredit:
    """Allow the runner more assignments; end the stream if that is more than may be outstanding."""

    assignments: int


@dataclass(frozen=True, slots=True)
class RenewLeases:
    """Renew the runner's leases, then call `SendQueue.renewed` with the stamp; not if they are lost."""

    stamp: int


Effect = Register | AddCredit | RenewLeases


@dataclass(frozen=True, slots=True)
class StoreReports:
    """Store checkpoints and outcomes, in any order, and the later outcomes after them; then acknowledge them.

    Attributes:
        checkpoints: of executions, in order for each.
        outcomes: with the checkpoints that were sent before them.
        later_outcomes: of executions among `checkpoints` that may turn out to consume what is not theirs.
    """

    checkpoints: tuple[Checkpoint, ...]
    outcomes: tuple[Outcome, ...]
    later_outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Replace the subscriptions of a running execution; withdraw a delivery for an earlier update."""

    update: SubscriptionUpdate


ReportEffect = StoreReports | Subscribe
"""Effects to carry out one after another, each after the one before is durable."""
