"""Paces a job: permits its executions at a rate."""

from __future__ import annotations

from typing import Final

CATCH_UP_SECONDS: Final = 0.5
"""Most time that a job may catch up on after a delay, for example while it searches for further executions."""


class Pace:
    """Computes the delays between actions, with a clock in seconds."""

    def __init__(self, rate: float) -> None:
        """Start with an action at once.

        Args:
            rate: actions per second, above 0.
        """
        self._interval = 1 / rate
        self._due = float("-inf")

    def delay(self, now: float) -> float:
        """Return the seconds until the next action may begin; count that action as begun then."""
        self._due = max(self._due, now - CATCH_UP_SECONDS) if self._due > float("-inf") else now
        delay = max(0.0, self._due - now)
        self._due += self._interval
        return delay
