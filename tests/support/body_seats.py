"""What bodies take of the limit of uploaded bytes, in tests of a storage alone."""

from __future__ import annotations

from flowhook.sharing import INTERNAL, SharedLimit
from flowhook.sharing.table import RouterLimits


class UploadedBytes(SharedLimit):
    """The bytes of bodies without their event."""

    def __init__(self):
        super().__init__(RouterLimits().upload_bytes)

    def seat(self, size):
        """Return a seat for a body of so many bytes; None: of unknown size."""
        return self.acquire(INTERNAL, size or 0)


def seat_of(size):
    """Return a seat of a limit of its own."""
    return UploadedBytes().seat(size)
