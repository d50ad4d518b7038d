"""Exponential backoff with jitter, and the presets that the whole product uses.

Jitter keeps those that failed together from trying again together.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

# between two attempts of work that has to succeed, while storage, the router or the system can't serve
RETRY_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class BackoffPolicy:
    """Pauses between attempts, in seconds."""

    first: float  # before the second attempt
    limit: float  # the longest one
    factor: float = 2.0  # by which each is longer than the one before it
    jitter: float = 0.5  # share of each pause that is random: at 0.5, it is shorter by up to a half

    def pauses(self) -> Iterator[float]:
        pause = self.first
        while True:
            yield pause * random.uniform(1 - self.jitter, 1)  # noqa: S311 - nothing secret
            pause = min(pause * self.factor, self.limit)


CALL: Final = BackoffPolicy(0.05, 0.5)  # of calls to a router that restarts, or that another replaces
# of the start of a process of a local cluster, and of what a command watches; the pauses are told to the user
PROCESS: Final = BackoffPolicy(0.1, 5.0, jitter=0.0)
# of the start of a runner's worker that died by itself: those of many runners may have died together
WORKER: Final = BackoffPolicy(0.1, 5.0)
# of looks whether something has happened; they spare a busy machine
POLL: Final = BackoffPolicy(0.05, 1.0, jitter=0.0)
