"""State changes that record attempts; see `flowhook.model.executions`."""

from __future__ import annotations

from typing import Final, NamedTuple

from flowhook.model.executions import Attempt

MAX_ATTEMPTS: Final = 16
"""Attempts of one execution that are stored, the newest ones."""


class AttemptInterrupted(NamedTuple):
    """An attempt at an execution ended without an outcome; `attempt` has an end and an end time.

    For an execution that has ended, it is a no-op. One that ends the execution is written before its end. At most
    `MAX_ATTEMPTS` of an execution are stored: the oldest is removed for a new one, and counted.

    An attempt that ended by `ROUTER_RESTARTED` is stored once: the next restart finds it begun again if no runner has
    had the execution since.
    """

    seq: int
    attempt: Attempt


class AttemptRefunded(NamedTuple):
    """The last stored attempt of a runner at an execution that is charged is not charged any more."""

    seq: int
    runner: str
