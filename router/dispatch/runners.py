"""Attached runners: the interface of one, and all of a shard's by ID, with messages to those that have a lease."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import attrs

from flowhook.attach.messages import Assignment, DestinationUpdate, EventDelivery
from flowhook.errors import FlowhookError
from router.dispatch.metrics import RouterMetrics
from router.dispatch.state_writer import LifecycleOutbox, RetryingWriter
from router.scheduling.leases import Lease
from router.scheduling.shard import Shard


class RunnerPort(Protocol):
    """An attached runner. Calls never block and never fail; messages that can't be sent are dropped with the stream.

    `urgent` messages are sent at once, together with all that are queued; others may be batched for some milliseconds.
    """

    @property
    def runner_id(self) -> str: ...

    @property
    def full(self) -> bool:
        """Back-pressure: whether so much is queued for sending that no more work should be assigned for now."""

    async def room(self) -> None:
        """Wait until the runner is not `full`, or its stream is closed."""

    def assign(self, deliveries: Sequence[Assignment], *, urgent: bool = False) -> None: ...

    def hand_over(self, delivery: EventDelivery, *, urgent: bool = False) -> None:
        """Send an event or end to an execution that the runner is running."""

    def acknowledge(self, token: bytes, position: int, number: int = 0, *, urgent: bool = False) -> None:
        """Acknowledge an execution's journal up to `position`, and checkpoints without an entry up to `number`."""

    def want(self, types: Collection[str]) -> None:
        """Send the types of lifecycle events to report, of those that only runners can report."""

    def update_destinations(self, updates: Iterable[DestinationUpdate]) -> None: ...

    def settle(self, tokens: Sequence[bytes]) -> None: ...

    def revoke(self, tokens: Sequence[bytes], reason: str) -> None:
        """Revoke leases; the reason is `LEASE_LOST`, `EXECUTION_CANCELLED` or `EXECUTION_SUSPENDED`."""

    def close(self, error: FlowhookError) -> None: ...


@attrs.define(eq=False, repr=False)
class ExitedRunner:
    """A runner whose process has ended, while its leases are settled: it never has credit, and drops all messages."""

    runner_id: str
    full: bool = attrs.field(init=False, default=True)

    async def room(self) -> None: ...

    def _drop(self, *_message: Any, **_options: Any) -> None: ...

    assign = hand_over = acknowledge = want = update_destinations = settle = revoke = close = _drop


@attrs.define(eq=False, repr=False, kw_only=True)
class AttachedRunners:
    """Runners by ID, each with its latest stream."""

    _shard: Shard
    _outbox: LifecycleOutbox
    _writer: RetryingWriter  # notified when a report is stored
    _metrics: RouterMetrics
    _clock: Callable[[], float]
    _runners: dict[str, RunnerPort] = attrs.field(init=False, factory=dict)
    _wanted: frozenset[str] = attrs.field(init=False, factory=frozenset)
    # number of reports being stored for each runner; its renewals may be queued behind them, and not be read
    _storing: Counter[RunnerPort] = attrs.field(init=False, factory=Counter)

    def __len__(self) -> int:
        return len(self._runners)

    def __iter__(self) -> Iterator[RunnerPort]:
        return iter(self._runners.values())

    def __getitem__(self, runner_id: str) -> RunnerPort:
        return self._runners[runner_id]

    def __contains__(self, runner: RunnerPort) -> bool:
        """Whether this is the runner's latest stream, and attached."""
        return self._runners.get(runner.runner_id) is runner

    def add(self, runner: RunnerPort) -> None:
        self.send_wanted_types()
        self._runners[runner.runner_id] = runner
        if self._wanted:
            runner.want(self._wanted)

    def remove(self, runner_id: str) -> RunnerPort | None:
        return self._runners.pop(runner_id, None)

    def is_superseded(self, runner: RunnerPort) -> bool:
        """Whether the runner attached again: it repeats on the new stream what is not stored from an earlier one.

        Storing reports from both streams would restore entries that the new one compacted.
        """
        return self._runners.get(runner.runner_id, runner) is not runner

    def renew(self, runner: RunnerPort) -> bool:
        """Extend all leases of a runner; false when it lost them, or has attached again since."""
        if runner not in self:
            return False
        self._shard.runners.renew(runner.runner_id, self._clock())
        return True

    @property
    def is_storing(self) -> bool:
        return bool(self._storing)

    @contextmanager
    def storing(self, runner: RunnerPort) -> Iterator[None]:
        """Count a runner as alive while a report of it is being stored: its next renewal may not be read meanwhile."""
        self._storing[runner] += 1
        try:
            yield
        finally:
            self.renew(runner)
            self._storing[runner] -= 1
            if not self._storing[runner]:
                del self._storing[runner]
            self._writer.notify()

    def renew_storing(self) -> None:
        for runner in self._storing:
            self.renew(runner)

    def deliver(self, delivery: EventDelivery) -> None:
        """Send an event or end to the runner of an execution; one that is away subscribes again when it attaches."""
        lease = self._shard.leases.get(delivery.lease)
        runner = None if lease is None else self._runners.get(lease.runner.id)
        if lease is not None and runner is not None:
            runner.hand_over(delivery, urgent=lease.is_quiet)
            self._metrics.delivered += 1

    def revoke(self, lease: Lease, reason: str) -> None:
        runner = self._runners.get(lease.runner.id)
        if runner is not None:
            runner.revoke([lease.token], reason)

    def send_wanted_types(self) -> None:
        """Send runners the types of wanted lifecycle events that only runners can report, if these have changed."""
        wanted = self._outbox.from_runners
        if wanted != self._wanted:
            self._wanted = wanted
            for runner in self:
                runner.want(wanted)
