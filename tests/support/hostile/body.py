"""What a hostile body is, and how one is made as large as it may be."""

from __future__ import annotations

from typing import NamedTuple


class Body(NamedTuple):
    """A body that is meant to be dear to whoever reads it.

    Attributes:
        name: `family/what it is`, unique.
        content_type: as a sender would send it.
        content: the bytes, compressed if `headers` say so.
        headers: other header fields that belong to it; lower-case names.
    """

    name: str
    content_type: str
    content: bytes
    headers: tuple[tuple[str, bytes], ...] = ()

    @property
    def is_compressed(self):
        return any(name == "content-encoding" for name, _ in self.headers)


def filled(piece, max_bytes, before=b"", after=b""):
    """Return `before`, as many of `piece` as fit into `max_bytes`, and `after`."""
    return before + piece * ((max_bytes - len(before) - len(after)) // len(piece)) + after


def numbered(template, max_bytes, before=b"", after=b"", between=b""):
    """Return `before`, as many different pieces as fit, and `after`; `template` has one `%x`."""
    pieces, left = [], max_bytes - len(before) - len(after)
    while True:
        piece = template % len(pieces)
        left -= len(piece) + len(between)
        if left < 0:
            return before + between.join(pieces) + after
        pieces.append(piece)
