"""The receive budget: bytes of incomplete heads and of bodies in memory, over all connections of an edge."""

from __future__ import annotations

from typing import Final

from flowhook import limits

MAX_RECEIVED_BYTES: Final = 512 * limits.MIB
"""Bodies and incomplete heads in memory; beyond this, large or slow requests are refused with 503."""


class Overloaded(Exception):  # noqa: N818 - names a state, not an error
    """Requests being received exceed the receive budget."""


class ReceiveBudget:
    """Bytes in use, and their maximum. A small body that was received along with its head is not counted."""

    __slots__ = ("_most", "used")

    def __init__(self, most: int | None = None) -> None:
        """Allow `most` bytes, by default `MAX_RECEIVED_BYTES`."""
        self._most = MAX_RECEIVED_BYTES if most is None else most
        self.used = 0

    def take(self, size: int) -> None:
        """Add to the bytes in use; the caller gives them back, also those that were too many.

        Raises:
            Overloaded: there are too many now.
        """
        self.used += size
        if self.used > self._most:
            raise Overloaded

    def give_back(self, size: int) -> None:
        """Subtract from the bytes in use."""
        self.used -= size
