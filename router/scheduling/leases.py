"""Who works on what, under which fencing token.

A lease token is 20 bytes: the shard's epoch (4), a number (8) and the execution's sequence number (8), big-endian. A
runner that was attached when a router died presents its tokens to the next one, which *adopts* those of the epoch just
before its own, while nobody else works on the execution, and only if that epoch gave out no second lease on it. So an
execution whose lease was lost is on record as requeued before anybody gets the next one, and is never adopted. A token
of an older epoch is refused: someone else may have had the execution in between.

Leases are renewed a runner at a time, so that what expires is a runner, and a renewal costs nothing per execution.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final

from router.scheduling.queues import FlowQueue

_TOKEN: Final = struct.Struct(">IQQ")

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

    def mint(self, seq: int) -> bytes:
        """Return a token that no other lease of this shard ever has."""
        self._number += 1
        return _TOKEN.pack(self._epoch, self._number, seq)

    def adoptable(self, token: bytes) -> int | None:
        """Return the sequence number of a token of the epoch just before ours, else None."""
        if len(token) != _TOKEN.size:
            return None
        epoch, _, seq = _TOKEN.unpack(token)
        return seq if epoch == (self._epoch - 1) & 0xFFFFFFFF else None
