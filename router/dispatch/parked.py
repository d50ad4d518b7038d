"""Tracks executions while they wait for events or for the ends of other executions.

Most of them are parked and hold no lease. `live_delivery` serves those that wait while they are running.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from flowhook.model import Subscription
from router.dispatch.child_completion import ChildCompletions, CompletionWait, completion_waits
from router.dispatch.durable_writes import RetryingWriter
from router.dispatch.event_delivery import EventDispatcher
from router.dispatch.live_delivery import LiveDelivery
from router.dispatch.parked_delivery import ParkedDelivery
from router.dispatch.runner_port import EventDelivery, LiveSubscriptions
from router.dispatch.transitions import TransitionBatch
from router.scheduling.event_buffer import EventBuffer
from router.scheduling.shard import Shard
from router.scheduling.subscriptions import Subscriptions
from router.storage.interface import EventLog, ShardState
from router.storage.model import UnfinishedExecution


class ParkedExecutions:
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
        durable: RetryingWriter,
        conclude: Callable[[TransitionBatch], Awaitable[None]],
        send: Callable[[EventDelivery], None],
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
        self._recovered: list[CompletionWait] = []
        kept = EventBuffer()
        deliveries = ParkedDelivery(
            core=core, state=state, durable=durable, subscriptions=self._subscriptions, now_ms=now_ms
        )
        self.offers = LiveDelivery(core=core, subscriptions=self._subscriptions, send=send, look=self._begin)
        self.ends = ChildCompletions(
            core=core,
            state=state,
            durable=durable,
            subscriptions=self._subscriptions,
            kept=kept,
            deliveries=deliveries,
            offers=self.offers,
            conclude=conclude,
        )
        self.arrivals = EventDispatcher(
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

    def listen(self, listening: LiveSubscriptions) -> bool:
        """Subscribe a running execution; false: the lease is stale."""
        return self.offers.listen(listening)

    def _begin(self, seq: int, flow_id: str, subscriptions: Sequence[Subscription]) -> None:
        wait = self._subscriptions.add(seq, flow_id, subscriptions)
        if awaited := completion_waits(seq, wait, subscriptions):
            self._durable.spawn(self.ends.expect(awaited))
        self.arrivals.listen(seq, flow_id, wait, subscriptions)

    def leave(self, seq: int) -> None:
        """Unsubscribe an execution that does not wait any more."""
        self.offers.leave(seq)
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
        await self.ends.expect(recovered)
        await self.arrivals.recover()
