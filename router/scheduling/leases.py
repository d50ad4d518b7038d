"""Leases of executions to runners, and their fencing tokens.

A lease token is 24 bytes: the shard's epoch (4), a term (4), a number (8) and the execution's sequence number (8),
big-endian. The *term* counts the void leases on an execution, as far as it matters to anyone: that a lease is void is
stored before the next lease, of a later term, is granted.

A runner that was attached when a router died presents its tokens to the next router. That one *adopts* the leases of
the stored term, unless another runner works on the execution: no other runner ever had it. This holds over any number
of restarts, because executions found at a start are assigned under a new term, stored before the runner is notified.
The first lease of a new execution, of term 0, needs no record.

Leases are renewed and expire per runner, so a renewal costs nothing per execution.
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
    """An attached runner, or a detached one that may reattach until `deadline` (s)."""

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
        """Return a token unique among all leases of this shard, past and future."""
        self._number += 1
        return _TOKEN.pack(self._epoch, term & 0xFFFFFFFF, self._number, seq)

    def earlier(self, token: bytes) -> tuple[int, int] | None:
        """Return the sequence number and the term of a token from an earlier epoch, else None."""
        if len(token) != _TOKEN.size:
            return None
        epoch, term, _, seq = _TOKEN.unpack(token)
        return (seq, term) if epoch < self._epoch else None
