"""Exponential backoff with jitter, and the presets that the whole product uses.

Jitter keeps those that failed together from trying again together.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

RETRY_SECONDS: Final = 0.5
"""Between two attempts of work that has to succeed, while storage, the router or the system can't serve."""


@dataclass(frozen=True, slots=True)
class ExponentialBackoff:
    """Pauses between attempts, in seconds.

    Attributes:
        first: before the second attempt.
        limit: the longest one.
        factor: by which each is longer than the one before it.
        jitter: share of each pause that is random: at 0.5, it is shorter by up to a half.
    """

    first: float
    limit: float
    factor: float = 2.0
    jitter: float = 0.5

    def pauses(self) -> Iterator[float]:
        """Yield the pauses, without end."""
        pause = self.first
        while True:
            yield pause * random.uniform(1 - self.jitter, 1)  # noqa: S311 - nothing secret
            pause = min(pause * self.factor, self.limit)


CALL: Final = ExponentialBackoff(0.05, 0.5)
"""Of calls to a router that restarts, or that another replaces."""

PROCESS: Final = ExponentialBackoff(0.1, 5.0, jitter=0.0)
"""Of the start of a process of a local cluster, and of what a command watches; the pauses are told to the user."""

WORKER: Final = ExponentialBackoff(0.1, 5.0)
"""Of the start of a runner's worker that died by itself: those of many runners may have died together."""

POLL: Final = ExponentialBackoff(0.05, 1.0, jitter=0.0)
"""Of looks whether something has happened; they spare a busy machine."""
