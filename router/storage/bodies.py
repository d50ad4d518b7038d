"""Interfaces for request bodies that are uploaded in chunks and stored separately from their events.

A body is *under way* while it is uploaded, *waiting* once it is durable, and *named* when an event that refers to it
was appended (`NewEvent.body`). A named body lives as long as the executions whose events name it. Bodies that are under
way or waiting do not survive the process that received them.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from flowhook.sharing import Seat


class StoredBody(NamedTuple):
    """A durable body. `id` can't be guessed; `sha256` has 32 bytes."""

    id: str
    size: int
    sha256: bytes


class BodyUpload(Protocol):
    """A body being uploaded into storage. Methods must not be called concurrently."""

    async def write(self, data: bytes) -> None:
        """Append a chunk.

        Raises:
            InvalidError: the body is longer than declared, or than the limit (`UPLOAD_INVALID`).
            ExhaustedError: the caller has its share of the limit that the body takes bytes of.
            UnavailableError: storage can't serve, or is full (`STORAGE_FULL`).
        """
        ...

    async def finish(self) -> StoredBody:
        """Make the body durable; it is *waiting* for an event from now on.

        Raises:
            InvalidError: it is empty, or shorter than declared (`UPLOAD_INVALID`).
            UnavailableError: storage can't serve, or is full (`STORAGE_FULL`).
        """
        ...

    def discard(self) -> None:
        """Abort the upload; its file is removed in the background. No effect once it is finished."""
        ...


class BodyReader(Protocol):
    """An open body. It can be read to its end even if it is removed meanwhile."""

    @property
    def size(self) -> int:
        """Size in bytes."""
        ...

    async def read(self, offset: int, size: int) -> bytes:
        """Return a slice; fewer than `size` bytes at the end.

        Raises:
            UnavailableError: storage can't serve.
        """
        ...

    def close(self) -> None:
        """Release the body."""
        ...


class BodyStore(Protocol):
    """The store of bodies. Methods may raise UnavailableError, as those of `interface` do."""

    async def begin(self, flow_id: str, size: int | None, seat: Seat) -> BodyUpload:
        """Begin an upload.

        Args:
            flow_id: the flow whose event may name the body.
            size: declared size in bytes; None: unknown.
            seat: bytes that the body takes of a limit: its declared size, else it grows with what is received. It is
                released once an event names the body, or the body is removed.

        Raises:
            UnavailableError: there is no room for it (`STORAGE_FULL`).
        """
        ...

    def waiting(self, body_id: str, flow_id: str) -> StoredBody | None:
        """Return a body of the flow that is waiting for an event; None when there is none."""
        ...

    def discard(self, body_id: str, flow_id: str) -> None:
        """Remove a waiting body of the flow, unless an event that names it is being appended."""
        ...

    async def open(self, body_id: str) -> BodyReader | None:
        """Open a body that an event names; None when it was removed."""
        ...

    def sweep(self, *, seconds: float) -> int:
        """Remove bodies that have been waiting for longer than `seconds`, and return their number."""
        ...
