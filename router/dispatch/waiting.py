"""Tracks executions while they wait for events or for the ends of other executions.

Most of them are parked and hold no lease. `offers` serves those that wait while they are running.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from flowhook.model import Subscription
from router.dispatch.arrivals import Arrivals
from router.dispatch.conclusions import Conclusion
from router.dispatch.deliveries import Deliveries
from router.dispatch.durable import Durable
from router.dispatch.ends import AwaitedEnds, Awaiting, awaiting
from router.dispatch.link import HandedOver, Listening
from router.dispatch.offers import Offers
from router.scheduling.kept import KeptArrivals
from router.scheduling.shard import Shard
from router.scheduling.subscriptions import Subscriptions
from router.storage.interface import EventLog, ShardState
from router.storage.model import Unfinished


class Waiting:
    """Registers waiting executions, and wires up the components that deliver to them.

    Attributes:
        arrivals: delivers events, or buffers them.
        ends: delivers ends of executions.
        lifecycle: types of lifecycle events that executions wait for now.
        offers: offers events and ends to running executions.
    """

    def __init__(
        self,
        *,
        core: Shard,
        state: ShardState,
        log_: EventLog,
        durable: Durable,
        conclude: Callable[[Conclusion], Awaitable[None]],
        send: Callable[[HandedOver], None],
        now_ms: Callable[[], int],
        keep_seconds: float,
    ) -> None:
        """Deliver to waiting executions.

        Args:
            core: the scheduling core.
            state: stored state of executions.
            log_: the event log.
            durable: retrying writer.
            conclude: stores state transitions, then applies them.
            send: sends an event or end to the runner of a running execution.
            now_ms: Unix time in ms.
            keep_seconds: how long events are buffered that nobody waits for.
        """
        self._core = core
        self._durable = durable
        self._subscriptions = Subscriptions()
        self.lifecycle = self._subscriptions.lifecycle
        self._recovered: list[Awaiting] = []
        kept = KeptArrivals()
        deliveries = Deliveries(
            core=core, state=state, durable=durable, subscriptions=self._subscriptions, now_ms=now_ms
        )
        self.offers = Offers(core=core, subscriptions=self._subscriptions, send=send, look=self._begin)
        self.ends = AwaitedEnds(
            core=core,
            state=state,
            durable=durable,
            subscriptions=self._subscriptions,
            kept=kept,
            deliveries=deliveries,
            offers=self.offers,
            conclude=conclude,
        )
        self.arrivals = Arrivals(
            core=core,
            state=state,
            log_=log_,
            durable=durable,
            subscriptions=self._subscriptions,
            kept=kept,
            deliveries=deliveries,
            offers=self.offers,
            conclude=conclude,
            now_ms=now_ms,
            keep_seconds=keep_seconds,
        )

    def begin(self, seq: int, subscriptions: Sequence[Subscription]) -> None:
        """Subscribe a parked execution, unless an operator has removed it meanwhile."""
        flow_id = self._core.waiting_flow(seq)
        if flow_id is not None:
            self._begin(seq, flow_id, subscriptions)

    def listen(self, listening: Listening) -> bool:
        """Subscribe a running execution; false: the lease is stale."""
        return self.offers.listen(listening)

    def _begin(self, seq: int, flow_id: str, subscriptions: Sequence[Subscription]) -> None:
        wait = self._subscriptions.add(seq, flow_id, subscriptions)
        if awaited := awaiting(seq, wait, subscriptions):
            self._durable.spawn(self.ends.expect(awaited))
        self.arrivals.listen(seq, flow_id, wait, subscriptions)

    def leave(self, seq: int) -> None:
        """Unsubscribe an execution that does not wait any more."""
        self.offers.leave(seq)
        self._subscriptions.remove(seq)

    def recover(self, row: Unfinished) -> None:
        """Register an execution found waiting at start-up; call `settle` after the last one."""
        wait = self._subscriptions.add(row.seq, row.flow_id, row.subscriptions)
        self._recovered += awaiting(row.seq, wait, row.subscriptions)

    async def settle(self) -> None:
        """Deliver stored events and ends to the recovered executions. Call it once, at the end of start-up.

        Raises:
            UnavailableError: storage can't serve.
        """
        recovered, self._recovered = self._recovered, []
        await self.ends.expect(recovered)
        await self.arrivals.recover()
