"""Tracks executions while they wait for events or for the ends of other executions.

Most of them are parked and hold no lease. `live_delivery` serves those that wait while they are running.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from flowhook.attach.messages import SubscriptionUpdate
from flowhook.model import Subscription
from router.dispatch.delivery.completion_waits import CompletionWait, CompletionWaits, completion_waits
from router.dispatch.delivery.event_delivery import EventDispatcher
from router.dispatch.persistence.retrying_writer import RetryingWriter
from router.dispatch.waiting.live_delivery import LiveDelivery
from router.scheduling.shard import Shard
from router.scheduling.subscriptions import Subscriptions
from router.storage.model import UnfinishedExecution


@attrs.define(eq=False, repr=False, kw_only=True)
class ParkedExecutions:
    """Subscribes executions that begin to wait, and unsubscribes those that do not wait any more."""

    _core: Shard
    _writer: RetryingWriter
    _subscriptions: Subscriptions
    _live: LiveDelivery
    _events: EventDispatcher
    _completions: CompletionWaits
    _recovered: list[CompletionWait] = attrs.field(init=False, factory=list)

    def begin(self, seq: int, subscriptions: Sequence[Subscription]) -> None:
        """Subscribe a parked execution, unless an operator has removed it meanwhile."""
        flow_id = self._core.waiting_flow(seq)
        if flow_id is not None:
            self._subscribe(seq, flow_id, subscriptions)

    def listen(self, listening: SubscriptionUpdate) -> bool:
        """Subscribe a running execution; false: the lease is stale."""
        lease = self._live.listen(listening)
        if lease is not None and listening.subscriptions:
            self._subscribe(lease.seq, lease.queue.flow_id, listening.subscriptions)
        return lease is not None

    def listen_again(self, seq: int, number: int) -> None:
        """Subscribe a running execution again to which an event was offered that has expired."""
        listening = self._live.withdraw(seq, number)
        if listening is not None:
            self._subscribe(seq, *listening)

    def _subscribe(self, seq: int, flow_id: str, subscriptions: Sequence[Subscription]) -> None:
        wait = self._subscriptions.add(seq, flow_id, subscriptions)
        if awaited := completion_waits(seq, wait, subscriptions):
            self._writer.spawn(self._completions.expect(awaited))
        self._events.listen(seq, flow_id, wait, subscriptions)

    def leave(self, seq: int) -> None:
        """Unsubscribe an execution that does not wait any more."""
        self._live.leave(seq)
        self._subscriptions.remove(seq)

    def recover(self, row: UnfinishedExecution) -> None:
        """Register an execution found waiting at start-up; call `settle` after the last one."""
        wait = self._subscriptions.add(row.seq, row.flow_id, row.subscriptions)
        self._recovered += completion_waits(row.seq, wait, row.subscriptions)

    async def settle(self) -> None:
        """Deliver stored events and ends to the recovered executions. Call it once, at the end of start-up.

        Raises:
            UnavailableError: storage can't serve.
        """
        recovered, self._recovered = self._recovered, []
        await self._completions.expect(recovered)
        await self._events.recover()
