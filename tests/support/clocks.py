"""A clock that shows what a test says."""

from __future__ import annotations


class Clock:
    """Seconds, from 0 on."""

    now = 0.0

    def __call__(self):
        return self.now
