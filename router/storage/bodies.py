"""Bodies that are stored apart from their events: as they come, a piece at a time.

A body is *under way* while it is uploaded, *waiting* once it is durable, and *named* when an event that says so was
appended (`NewEvent.body`). It then lives as long as the executions whose events name it. What is under way or waiting
dies with the process that took it.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class StoredBody(NamedTuple):
    """A body that is durable. `id` is unguessable, `sha256` 32 bytes."""

    id: str
    size: int
    sha256: bytes


class BodyUpload(Protocol):
    """One body on its way into storage. Its methods are called one after another."""

    async def write(self, data: bytes) -> None:
        """Append to it.

        Raises:
            InvalidError: it is longer than was said, or than a body may be (`UPLOAD_INVALID`).
            UnavailableError: storage can't serve, or is full (`STORAGE_FULL`).
        """
        ...

    async def finish(self) -> StoredBody:
        """Make it durable; it waits for an event from now on.

        Raises:
            InvalidError: it is empty, or shorter than was said (`UPLOAD_INVALID`).
            UnavailableError: storage can't serve, or is full (`STORAGE_FULL`).
        """
        ...

    def discard(self) -> None:
        """Give it up: nothing is left of it soon. Without effect once it is finished."""
        ...


class BodyReader(Protocol):
    """An open body. It can be read to its end, also when it is removed meanwhile."""

    @property
    def size(self) -> int:
        """Bytes that it has."""
        ...

    async def read(self, offset: int, size: int) -> bytes:
        """Return a slice; less than `size` at the end.

        Raises:
            UnavailableError: storage can't serve.
        """
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class Bodies(Protocol):
    """All of them. Methods may raise UnavailableError, as those of `interface` do."""

    @property
    def bytes(self) -> int:
        """Bytes of all that is under way, as far as known what it will have, and waiting."""
        ...

    async def begin(self, flow_id: str, size: int | None) -> BodyUpload:
        """Begin to take a body.

        Args:
            flow_id: of the flow whose event may name it.
            size: bytes that it will have; None: nobody knows.

        Raises:
            UnavailableError: there is no room for it (`STORAGE_FULL`).
        """
        ...

    def waiting(self, body_id: str, flow_id: str) -> StoredBody | None:
        """Return a body of the flow that waits for an event; None: there is none."""
        ...

    def discard(self, body_id: str, flow_id: str) -> None:
        """Remove a body of the flow that waits, unless an event that names it is being appended."""
        ...

    async def open(self, body_id: str) -> BodyReader | None:
        """Return a body that an event names; None: it is gone."""
        ...

    def sweep(self, *, seconds: float) -> int:
        """Remove what has waited for longer, and return how many that were."""
        ...
