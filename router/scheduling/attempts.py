"""Counts the attempts that are charged to executions, and limits them.

An execution that is known to have caused a loss is *attributed* it. Losses without a known cause are charged as well,
because the execution may have caused them, but only several of them count as one that is attributed.
"""

from __future__ import annotations

from typing import Final

import attrs

UNCERTAIN_FACTOR: Final = 4
"""Unexplained losses count this many times less than losses an execution is known to have caused."""


@attrs.define(eq=False, repr=False)
class AttemptCounts:
    """Charged attempts and attributed losses by execution; those with none take no memory.

    Args:
        max_attempts: attributed losses that exhaust an execution.
    """

    _max_attempts: int
    _charged: dict[int, int] = attrs.field(init=False, factory=dict)
    _attributed: dict[int, int] = attrs.field(init=False, factory=dict)

    def __contains__(self, seq: int) -> bool:
        """Whether any attempt is charged to an execution."""
        return seq in self._charged

    def __len__(self) -> int:
        """Return the number of executions with a charged attempt or an attributed loss."""
        return len(self._charged.keys() | self._attributed.keys())

    def charged(self, seq: int) -> int:
        """Return the attempts charged to an execution, excluding one in progress."""
        return self._charged.get(seq, 0)

    def charge(self, seq: int, attempts: int) -> None:
        """Replace the number of attempts charged to an execution."""
        if attempts > 0:
            self._charged[seq] = attempts
        else:
            self._charged.pop(seq, None)

    def attribute(self, seq: int) -> None:
        """Record that an execution is known to have caused one more loss."""
        self._attributed[seq] = self._attributed.get(seq, 0) + 1

    def is_exhausted(self, seq: int, attempts: int) -> bool:
        """Whether an execution has used up its attempts, if `attempts` are charged to it."""
        return self._attributed.get(seq, 0) >= self._max_attempts or attempts >= self._max_attempts * UNCERTAIN_FACTOR

    def has_caused_too_many(self, seq: int) -> bool:
        """Whether the losses attributed to an execution alone exhaust it."""
        return self._attributed.get(seq, 0) >= self._max_attempts

    def forget(self, seq: int) -> None:
        """Remove an execution that ended."""
        self._charged.pop(seq, None)
        self._attributed.pop(seq, None)
