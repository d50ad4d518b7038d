"""Limits of a storage backend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from flowhook import limits

RESERVE_BYTES: Final = 64 * limits.MIB
"""Disk space that what is accepted leaves free, so that it can still end, and be removed."""
DEFAULT_PAGE: Final = 1000  # most rows that one call returns, unless it is given another limit


@dataclass(frozen=True, slots=True)
class StorageLimits:
    """Limits of a storage backend."""

    revisions: int = limits.KEPT_REVISIONS  # of a flow, the last ones, that are retained
    registry_changes: int = 10_000  # of the registry, the last ones, that are retained
    secrets: int = limits.MAX_SECRETS  # most secrets
    history_bytes: int = limits.MAX_READ_HISTORY_BYTES  # of the task history that one read returns
    waiting_calls: int = 4096  # calls that may be queued for the writer; beyond it appends are refused
    waiting_bytes: int = 2 * limits.MAX_MESSAGE_BYTES  # bytes of these calls
    # share of the maximum size of the database that new events may fill, so that accepted ones can still end
    append_share: float = 0.75
    reserve_bytes: int = RESERVE_BYTES  # of the disk, that new events leave free
    transaction_bytes: int = 16 * limits.MIB  # a transaction includes no further call once it has this many bytes
    # largest payload of an event that is stored in the database; larger ones are blobs
    inline_bytes: int = limits.INLINE_BODY_BYTES


DEFAULT_LIMITS: Final = StorageLimits()
REPLICATED_LIMITS: Final = StorageLimits(
    transaction_bytes=768 * limits.KIB, inline_bytes=limits.REPLICATED_INLINE_BODY_BYTES
)
"""Limits under a replicated log."""
