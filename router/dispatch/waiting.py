"""Executions that wait for more than a time: what for, from when they begin to until they do not.

Most have nothing else to do, and no lease. The `offers` are for those that something is under way of.
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
    """See the module.

    Attributes:
        arrivals: events that they may wait for.
        ends: ends of executions that they may wait for.
        lifecycle: types of events about other executions that they wait for now.
        offers: of events and ends, to those that are worked on.
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
        """Wait; `send` hands over what came, and events that nobody waits for are kept for `keep_seconds`."""
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
        """Have an execution that waits be told of what comes; one that an operator took out meanwhile is not."""
        flow_id = self._core.waiting_flow(seq)
        if flow_id is not None:
            self._begin(seq, flow_id, subscriptions)

    def listen(self, listening: Listening) -> bool:
        """Have an execution that is worked on be told of what comes; false: not under this lease."""
        return self.offers.listen(listening)

    def _begin(self, seq: int, flow_id: str, subscriptions: Sequence[Subscription]) -> None:
        wait = self._subscriptions.add(seq, flow_id, subscriptions)
        if awaited := awaiting(seq, wait, subscriptions):
            self._durable.spawn(self.ends.expect(awaited))
        self.arrivals.listen(seq, flow_id, wait, subscriptions)

    def leave(self, seq: int) -> None:
        """Note that an execution does not wait any more, whatever ended that."""
        self.offers.leave(seq)
        self._subscriptions.remove(seq)

    def recover(self, row: Unfinished) -> None:
        """Take in an execution that was found waiting at start-up; `settle` when all are here."""
        wait = self._subscriptions.add(row.seq, row.flow_id, row.subscriptions)
        self._recovered += awaiting(row.seq, wait, row.subscriptions)

    async def settle(self) -> None:
        """Give the executions that were found what came for them before. Call it once, at the end of start-up.

        Raises:
            UnavailableError: storage can't serve.
        """
        recovered, self._recovered = self._recovered, []
        await self.ends.expect(recovered)
        await self.arrivals.recover()
