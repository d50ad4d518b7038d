"""What accepting an event needs to know of its flow: revision and limits. Loaded when first asked for, then kept.

The table is bounded; a flow that is forgotten loses nothing but the fill of its rate limit. Every change of the
registry passes through `refresh`, so an entry is never older than the commit that changed its flow.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from flowhook import limits
from flowhook.document import FlowDocument, load_definition
from flowhook.model import Flow
from router.scheduling.queues import DEFAULT_POLICY, FlowPolicy
from router.storage.interface import Registry

MAX_FLOWS: Final = 20_000
"""Flows that the table remembers."""

DEFAULT_DEDUPE_SECONDS: Final = 24 * 3600.0
"""Window of dedupe keys that come for a flow which says nothing of them."""


class TokenBucket:
    """A rate limit: `per_second` on average, `burst` at once. Times are seconds of one monotonic clock."""

    def __init__(self, *, per_second: float, burst: float, now: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._tokens = burst
        self._filled_at = now

    def take(self, now: float) -> float:
        """Take one token and return 0, or return how many seconds to wait for one."""
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._per_second)
        self._filled_at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._per_second


@dataclass(slots=True)
class FlowEntry:
    """One flow, as accepting sees it. `bucket` is None where no rate limit is set."""

    id: str
    revision: int
    max_backlog: int
    dedupe_seconds: float
    bucket: TokenBucket | None


class FlowTable:
    """Flows by ID."""

    def __init__(
        self, registry: Registry, *, set_policy: Callable[[str, FlowPolicy], None], clock: Callable[[], float]
    ) -> None:
        self._registry = registry
        self._set_policy = set_policy
        self._clock = clock
        self._entries: OrderedDict[str, FlowEntry] = OrderedDict()

    def known(self, flow_id: str) -> FlowEntry | None:
        """Return a flow that is in memory, else None."""
        return self._entries.get(flow_id)

    async def load(self, flow_id: str) -> FlowEntry | None:
        """Return a flow, read from the registry unless it is in memory; None when there is none.

        Raises:
            UnavailableError: storage can't serve.
        """
        entry = self._entries.get(flow_id)
        return await self.refresh(flow_id) if entry is None else entry

    async def refresh(self, flow_id: str) -> FlowEntry | None:
        """Read a flow again and put its limits in force; None when it is gone.

        Raises:
            UnavailableError: storage can't serve.
        """
        flow = await self._registry.get_flow(flow_id)
        if flow is None:
            self._entries.pop(flow_id, None)
            self._set_policy(flow_id, DEFAULT_POLICY)
            return None
        document = load_definition(flow.definition)
        entry = self._entry(flow, document)
        self._entries[flow_id] = entry
        self._entries.move_to_end(flow_id)
        if len(self._entries) > MAX_FLOWS:
            self._entries.popitem(last=False)
        self._set_policy(flow_id, FlowPolicy(concurrency=document.execution.concurrency, paused=flow.paused))
        return entry

    def _entry(self, flow: Flow, document: FlowDocument) -> FlowEntry:
        webhook = document.webhook
        dedupe = None if webhook is None else webhook.dedupe
        rate = None if webhook is None else webhook.rate_limit
        bucket = None
        if rate is not None:
            earlier = self._entries.get(flow.id)
            bucket = TokenBucket(per_second=rate.per_second, burst=rate.burst, now=self._clock())
            if earlier is not None and earlier.bucket is not None and earlier.revision == flow.revision:
                bucket = earlier.bucket
        return FlowEntry(
            id=flow.id,
            revision=flow.revision,
            max_backlog=min(document.execution.max_backlog, limits.DEFAULT_TOTAL_BACKLOG),
            dedupe_seconds=DEFAULT_DEDUPE_SECONDS if dedupe is None else dedupe.window,
            bucket=bucket,
        )
