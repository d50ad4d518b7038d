"""Who works on what, under which fencing token.

A lease token is 24 bytes: the shard's epoch (4), a term (4), a number (8) and the execution's sequence number (8),
big-endian. The *term* counts the leases on an execution that are void, as far as anybody has to know: it is on record
that a lease is void before anybody gets the next one, which is of a later term.

A runner that was attached when a router died presents its tokens to the next one, which *adopts* those of the term that
is on record, while nobody else works on the execution: nobody else ever got it. That holds over any number of restarts,
since what was there at a start is handed out under a term of its own, on record before the runner hears of it. A fresh
execution's first lease, of term 0, needs no record.

Leases are renewed a runner at a time, so that what expires is a runner, and a renewal costs nothing per execution.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final

from router.scheduling.queues import FlowQueue

_TOKEN: Final = struct.Struct(">IIQQ")

MAX_CREDIT: Final = 4096
"""Credit that a runner may have outstanding."""


@dataclass(slots=True)
class Lease:
    """One attempt at one execution."""

    token: bytes
    seq: int
    queue: FlowQueue
    runner: Runner
    attempt: int


@dataclass(slots=True, eq=False)
class Runner:
    """An attached runner, or one that may come back until `deadline` (s)."""

    id: str
    deadline: float
    attached: bool = True
    credit: int = 0
    leases: dict[bytes, Lease] = field(default_factory=dict)


class LeaseTokens:
    """Mints and reads the tokens of one epoch."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch & 0xFFFFFFFF
        self._number = 0

    def mint(self, seq: int, term: int) -> bytes:
        """Return a token that no other lease of this shard ever has."""
        self._number += 1
        return _TOKEN.pack(self._epoch, term & 0xFFFFFFFF, self._number, seq)

    def earlier(self, token: bytes) -> tuple[int, int] | None:
        """Return the sequence number and the term of a token of an epoch before ours, else None."""
        if len(token) != _TOKEN.size:
            return None
        epoch, term, _, seq = _TOKEN.unpack(token)
        return (seq, term) if epoch < self._epoch else None
