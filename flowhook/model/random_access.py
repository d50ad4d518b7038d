"""The interface of bytes that can be read in parts: those of a file, or of a value in a database."""

from __future__ import annotations

from typing import Protocol


class RandomAccess(Protocol):
    """Bytes that can be read in parts, while they are open."""

    @property
    def size(self) -> int:
        """Size in bytes."""
        ...

    def read(self, offset: int, size: int) -> bytes:
        """Return a slice; fewer than `size` bytes at the end. Blocking."""
        ...
