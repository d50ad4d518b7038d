"""The logs that operators read: refused requests, and what was changed by whom. Both are bounded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from flowhook.model.audit import AuditEntry
from router.storage.limits import DEFAULT_PAGE
from router.storage.model import AuditFilter, StoredRejection


class RejectionCount(NamedTuple):
    """How many rejections of a flow have a reason, and when the first and the latest of them were made (Unix ms)."""

    flow_id: str
    reason: str
    rejections: int
    first_ms: int
    last_ms: int


class RejectionLog(Protocol):
    """A bounded log of rejected requests: the oldest of a flow, and of all flows, make room for new ones."""

    async def add(self, rejections: Sequence[StoredRejection]) -> None:
        """Add rejections, ignoring their `number`. A rejection whose ID is already stored is skipped."""
        ...

    async def page(
        self, *, flow_id: str = "", reason: str = "", before_number: int | None = None, limit: int = DEFAULT_PAGE
    ) -> list[StoredRejection]:
        """Return rejections, newest first, without `sealed`."""
        ...

    async def get(self, rejection_id: str) -> StoredRejection | None:
        """Return a rejection without `sealed`, or None when it is not stored (any more)."""
        ...

    async def sealed(self, rejection_id: str) -> bytes | None:
        """Return the encrypted request of a rejection, or None when it is not stored (any more)."""
        ...

    async def count(self, *, flow_id: str = "", limit: int) -> list[RejectionCount]:
        """Count rejections by flow and reason; return up to `limit` counts, the greatest first."""
        ...

    async def accepted(self, rejection_id: str, event_id: str, *, by: str, now_ms: int) -> None:
        """Record that a rejected request was accepted as an event, and by whom, and delete its encrypted form.

        Without effect if the rejection is no longer stored, or was accepted before.
        """
        ...


class AuditLog(Protocol):
    """A bounded log of calls that changed something: the oldest entries make room for new ones."""

    async def add(self, entry: AuditEntry) -> None:
        """Add an entry, ignoring its `number`."""
        ...

    async def page(
        self, wanted: AuditFilter, *, before_number: int | None = None, limit: int = DEFAULT_PAGE
    ) -> tuple[list[AuditEntry], int | None]:
        """Return entries that meet the conditions, newest first; and `before_number` of the next page, if there is one.

        A page examines a bounded number of entries, so it may have fewer than `limit` before the last page.
        """
        ...
