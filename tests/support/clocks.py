"""A clock that shows what a test says."""

from __future__ import annotations


class Clock:
    """Shows `now`, in whatever unit its reader expects."""

    def __init__(self, now=0.0):
        self.now = now

    def __call__(self):
        return self.now
