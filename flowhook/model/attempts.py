"""Domain types of attempts: one attempt is one runner working on one execution, under one lease."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class AttemptEnd(StrEnum):
    """Why an attempt ended: with its execution, or interrupted, so that another one was due.

    An attempt that parks its execution is neither: it goes on when the execution is woken.
    """

    RUNNER_LOST = "runner_lost"
    """The runner's connection ended, and it did not reattach in time."""
    LEASE_EXPIRED = "lease_expired"
    """The runner was connected, and sent nothing for the duration of a lease."""
    PROCESS_ENDED = "process_ended"
    """The runner's process was killed or crashed, as the process that watches it reported."""
    NOT_HELD = "not_held"
    """The runner attached again without it: its process had been restarted, or it never received the assignment."""
    RELEASED = "released"
    """The runner gave the execution back."""
    RETRACTED = "retracted"
    """The router took the execution back, because an event that the runner had used went to another execution."""
    SUSPENDED = "suspended"
    """An operator suspended the execution."""
    ROUTER_RESTARTED = "router_restarted"
    """The router was restarted, and no runner that worked on the execution reattached in time."""
    EXECUTION_ENDED = "execution_ended"
    """The execution completed or faulted in it, or was cancelled meanwhile: no other attempt followed."""


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
    """An attempt that was interrupted, that ended its execution, or that is under way.

    Attributes:
        number: ordinal among the attempts that are charged, from 1. An attempt that was not charged has the number of
            the next one.
        runner: ID of the runner; empty: unknown.
        assign_time_ms: time at which it was assigned to the runner, Unix ms; None: unknown.
        end_time_ms: time at which its lease ended, Unix ms; None: it is under way.
        end: why it ended; None: it is under way, or a reason that this version does not know.
        detail: the reason that the runner gave with the end, at most 64 characters; may be empty.
        charged: whether it counts against the execution's limit of attempts; false while it is under way.
    """

    number: int
    runner: str = ""
    assign_time_ms: int | None = None
    end_time_ms: int | None = None
    end: AttemptEnd | None = None
    detail: str = ""
    charged: bool = False

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
