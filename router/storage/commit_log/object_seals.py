"""Seals the chunks of objects: each for its object, its transfer, its place and their number.

So chunks that are swapped, left out, added, or taken from another object or another transfer of the same one don't
open. An object has one chunk at least, or an empty one could take the place of any.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from router.storage.commit_log.keys import PurposeKeys
from router.storage.commit_log.sealing import Sealer


class ChunkPlace(NamedTuple):
    """Where a chunk belongs.

    Attributes:
        name: of the object.
        transfer: random identity of the transfer that stored it.
        chunks: number of its chunks, from 1.
        number: of this one, from 0.
    """

    name: str
    transfer: str
    chunks: int
    number: int


class ObjectSeals(Protocol):
    """Converts chunks to what is stored, and back."""

    def seal(self, place: ChunkPlace, chunk: bytes) -> bytes:
        """Return what is stored for a chunk."""
        ...

    def open(self, place: ChunkPlace, stored: bytes) -> bytes:
        """Return a chunk.

        Raises:
            NotAuthenticError: it is not what a router has stored there.
        """
        ...


class SealedObjects:
    """Chunks as routers write and read them; `keys`: for objects, in the context of the cluster."""

    def __init__(self, keys: PurposeKeys) -> None:
        self._sealer = Sealer(keys)

    def seal(self, place: ChunkPlace, chunk: bytes) -> bytes:
        """See the protocol."""
        return self._sealer.seal(chunk, _associated(place))

    def open(self, place: ChunkPlace, stored: bytes) -> bytes:
        """See the protocol."""
        return self._sealer.open(stored, _associated(place))


class PlainObjects:
    """Chunks of objects that an early version stored: for reading alone."""

    def seal(self, place: ChunkPlace, chunk: bytes) -> bytes:
        """Refuse: nothing is stored that is not sealed."""
        raise AssertionError(f"{place} is not stored, {len(chunk)} bytes: objects are sealed")

    def open(self, place: ChunkPlace, stored: bytes) -> bytes:
        """See the protocol."""
        del place
        return stored


def _associated(place: ChunkPlace) -> bytes:
    return "\0".join(map(str, place)).encode()
