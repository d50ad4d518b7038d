"""The scheduling core of one shard: accepted executions in, assignments out, fairly across flows and runners.

It knows every unfinished execution by its sequence number, in exactly one of these places:

    blocked ──its turn──▶ ready ──assign──▶ leased ──end───▶ ending ──ended──▶ (gone)
                          ▲ ▲ ▲               │  └──park──▶ parking ──parked──▶ waiting ──┐
                          │ │ │               ▼ (released, or its runner lost)     │      │
                          │ │ └──requeued── returning ◀──────────────deliver───────┘      │
                          │ └──────────────────────────────────────────────────────wake───┘
                          └──resume── suspended ◀──suspend── anywhere but ending
    held: accepted before a restart; ready once runners had time to reattach and claim their executions. Until then each
        takes a slot of its flow's concurrency. An execution stored as given back, or as waiting, is not held; a runner
        that got it just before the restart may claim it within the same time, if its flow has a free slot
    blocked: has an order key, and it is the turn of an earlier execution

The caller makes the returned changes durable before it reports them to anyone and before it calls `ended`, `requeued`
or `parked`. The latter two are the fence: until it is stored that a lease is void, no other lease is granted, so
everything written under the old lease precedes the new one. No method fails on a stale token: it returns None, and the
caller revokes the token.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from flowhook.events.keys import UNSHAPED, ShapingKeys
from flowhook.model import Status
from flowhook.model.executions import AttemptEnd
from router.scheduling.groups import ClosedGroup, EventGroups, GroupId
from router.scheduling.leases import (
    AttachResult,
    Lease,
    LeasesExpired,
    LeaseTable,
    Loss,
    Removed,
    Runner,
    RunnerTable,
)
from router.scheduling.losses import AttemptCounts, LossAccounting, LostLeases
from router.scheduling.order_keys import HeldTurn, KeyedQueues
from router.scheduling.pending_transitions import PendingTransitions, ReturningExecution
from router.scheduling.queues import FairQueues, FlowLoad, FlowQueue, TimerQueue
from router.scheduling.recovered import RecoveredExecutions

MAX_ASSIGNMENTS: Final = 64  # most assignments that one runner gets in one batch
# one slot in so many is withheld from each single flow, so that a flow whose calls hang leaves room for others
RESERVE: Final = 4
MIN_SHARE: Final = 32  # slots that each flow may take, however few there are


# queue positions of a flow whose executions may be assigned soon; those further back are better read later
SOON: Final = 4096
MAX_GROUPED: Final = 2000  # executions, about, that one call of `close_groups` looks at
MAX_WAKES: Final = 512  # most executions that one call of `wake` wakes, so that it takes no longer than a millisecond


class Shard:
    """The scheduler of a shard. After the `recover` calls, call `begin`.

    Methods take constant time for each execution they concern; parking and waking take logarithmic time; cancelling or
    suspending a ready execution takes time linear in the flow's backlog.

    Of its parts, callers may read all. They set the policies of flows in `queues`, and call `begin` of its `rates`
    before they add any execution; they release leases by `losses`, and report there what a runner learned of an earlier
    loss; they change the credit of `runners`, add recovered turns to `order_keys`, and may end a returning execution of
    `pending`.
    """

    def __init__(
        self, *, epoch: int, lease_seconds: float, max_attempts: int, reattach_seconds: float, fence: int = 0
    ) -> None:
        """Start with no runner and nothing accepted.

        Args:
            epoch: fencing number of this ownership; each ownership's number is one greater than the last.
            lease_seconds: how long a runner may be silent before it is lost.
            max_attempts: attempts charged to an execution before it is exhausted.
            reattach_seconds: how long a detached runner may take to reattach, and how long executions accepted
                before a restart are held for the runners that work on them.
            fence: leases of earlier epochs are void: they were granted before a backup was restored.
        """
        self.unfinished = 0  # accepted executions that have not ended
        self._reattach_seconds = reattach_seconds
        self.queues = FairQueues()
        self.order_keys = KeyedQueues()
        self.runners = RunnerTable(lease_seconds=lease_seconds, reattach_seconds=reattach_seconds)
        self.leases = LeaseTable(epoch, fence)
        self.attempts = AttemptCounts(max_attempts)
        self.pending = PendingTransitions()
        self.timers = TimerQueue()
        self.groups = EventGroups()
        self._undecided: list[tuple[int, FlowQueue, str, int]] = []  # recovered ones, until policies are known
        self._going_on: dict[int, str] = {}  # order keys of executions that absorb others, until that is stored
        self._suspended: dict[int, FlowQueue] = {}  # their flows' queues count them
        self._recovered = RecoveredExecutions(
            queues=self.queues, timers=self.timers, leases=self.leases, attempts=self.attempts, pending=self.pending
        )
        self._lost = LostLeases()
        self.losses = LossAccounting(
            leases=self.leases, attempts=self.attempts, pending=self.pending, queues=self.queues, lost=self._lost
        )

    # --- flows and events -------------------------------------------------------------------------------------------

    def accept(
        self,
        seq: int,
        flow_id: str,
        order_key: str = "",
        keys: ShapingKeys | None = None,
        *,
        root: str = "",
        now_ms: int = 0,
    ) -> bool:
        """Add an execution that has just become durable; return whether it may be assigned soon.

        `seq` is greater than all earlier ones. With an order key, it runs after earlier ones of its flow with the same
        key; as a replay (`root`: see `HeldTurn`) before those that are blocked by what it replays. With the key of a
        group, it runs, or ends, when `close_groups` says so; it came at `now_ms`, Unix time.
        """
        queue = self.queues.flow(flow_id)
        queue.unfinished += 1
        self.unfinished += 1
        if keys is not None:
            self.queues.keys[seq] = keys
            if keys.group and self._join(seq, queue, keys, now_ms, order_key):
                return False
        if order_key and not self.order_keys.enter(seq, flow_id, order_key, root):
            return False
        self.queues.put(queue, seq)
        if keys is not None and keys.batch:  # a replay: its events are read when it is assigned
            return False
        if queue.is_shaped:
            rate, paused = queue.policy.rate, queue.policy.paused
            return queue.unfinished <= MIN_SHARE and not (paused or (rate is not None and rate.reserves))
        return len(queue.ready) <= SOON and not queue.policy.paused

    def recover(
        self,
        seq: int,
        flow_id: str,
        attempts: int,
        *,
        status: Status = Status.PENDING,
        term: int = 0,
        order_key: str = "",
        root: str = "",
        keys: ShapingKeys | None = None,
        receive_ms: int = 0,
        wake_at_ms: int | None = None,
        retries: bool = False,
    ) -> Loss | None:
        """Add an execution that was found at start-up, by ascending `seq`, before any is accepted.

        `attempts` includes the one in progress when the router died, if it was running, and the one that parked it, if
        it waits: until `wake_at_ms`, see `parked`. No runner can claim the execution with a lease of a term before the
        stored one. One with the key of a group that no runner has had came at `receive_ms`.

        Returns that it used up its attempts, as it was running when too many processes died; else None.
        """
        queue = self.queues.flow(flow_id)
        queue.unfinished += 1
        self.unfinished += 1
        if keys is not None:
            self.queues.keys[seq] = keys
        self.leases.recover(seq, term)
        waits = status is Status.WAITING
        self.attempts.charge(seq, attempts - waits)
        if keys is not None and keys.group and status is Status.PENDING and not (attempts or term):
            self._undecided.append((seq, queue, order_key, receive_ms))
            return None
        its_turn = not order_key or self.order_keys.enter(seq, flow_id, order_key, root)
        begun = status is Status.RUNNING
        if waits:
            self.timers.add(seq, queue, wake_at_ms, retries=retries)
        elif status is Status.SUSPENDED:
            self._suspend(seq, queue)
        elif self.attempts.is_exhausted(seq, attempts - begun):
            if not its_turn:
                self.order_keys.leave(seq)
            self.pending.ending[seq] = queue, False
            return Loss(seq, attempts, exhausted=True)
        elif its_turn and (begun or not term):
            self._recovered.hold(seq, queue, begun=begun)
        elif its_turn:
            self.queues.put(queue, seq)
            self._recovered.claimable[seq] = queue
        return None

    # --- work -------------------------------------------------------------------------------------------------------

    def assign(self, full: Collection[str] = (), now_ms: int = 0, now: float = 0.0) -> list[Lease]:
        """Assign ready executions to runners with credit, fairly across flows and evenly across runners.

        Each runner gets at most one batch; for more, call again until nothing is assigned. `full` runners can't accept
        assignments now, even if they have credit; `now_ms` is the Unix time, for `Lease.assigned_ms`; `now` decides
        whose turn it is by the rates of flows.
        """
        self.queues.release(now)
        assigned: list[Lease] = []
        slots = self.runners.slots
        flow_share = max(MIN_SHARE, slots - slots // RESERVE)
        able = self.runners.with_credit(full)
        while able and self.queues.ready:
            runner = min(able, key=lambda candidate: (len(candidate.leases), -candidate.credit))
            # rounded up; runners that come later in this loop share what is left
            share = -(-self.queues.ready // len(able))
            able.remove(runner)
            if not self._grant(runner, min(runner.credit, share, MAX_ASSIGNMENTS), flow_share, now_ms, assigned):
                break
        return assigned

    def _grant(self, runner: Runner, count: int, flow_share: int, now_ms: int, assigned: list[Lease]) -> int:
        is_lost, is_claimable = bool(self._lost.last), bool(self._recovered)
        for number in range(count):
            drawn = self.queues.draw(flow_share)
            if drawn is None:
                return number
            queue, seq = drawn
            if is_lost:
                self._lost.last.pop(seq, None)
            if is_claimable:
                self._recovered.claimable.pop(seq, None)
            assigned.append(self.leases.grant(seq, queue, runner, self.attempts.charged(seq) + 1, now_ms))
            runner.credit -= 1
        return count

    def is_first(self, lease: Lease) -> bool:
        """Whether the execution of a lease was never leased before, and was accepted since the start."""
        return lease.attempt == 1 and not self.leases.term_of(lease.seq)

    def end(self, token: bytes) -> Lease | None:
        """Release a lease whose execution is about to end; None when the token is stale."""
        lease = self.leases.release(token)
        if lease is not None:
            self.pending.ending[lease.seq] = lease.queue, True
        return lease

    def park(self, token: bytes) -> Lease | None:
        """Release a lease whose execution is about to wait (*parking*), uncharged; None when the token is stale."""
        lease = self.leases.void(token)
        if lease is not None:
            self.attempts.charge(lease.seq, lease.attempt - 1)
            self.pending.parking[lease.seq] = lease.queue
        return lease

    def parked(self, seq: int, wake_at_ms: int | None, *, retries: bool = False) -> None:
        """Move an execution from *parking* to waiting, once that is stored, unless an operator removed it meanwhile.

        It becomes ready again at `wake_at_ms`, Unix time; None: no timer wakes it. `retries`: it failed, and waits for
        another try.
        """
        queue = self.pending.parking.pop(seq, None)
        if queue is not None:
            self.timers.add(seq, queue, wake_at_ms, retries=retries)
            self.queues.stopped(queue)
            self.queues.vacate(queue, seq)

    def requeued(self, seqs: Iterable[int]) -> None:
        """Make *returning* executions ready again, in order of arrival, once that is stored."""
        # those that are missing were cancelled meanwhile
        found = [(seq, each) for seq in sorted(seqs) if (each := self.pending.returning.pop(seq, None)) is not None]
        self.queues.put_first([(seq, each.queue) for seq, each in found if not each.to_back])
        for seq, returning in found:
            if returning.to_back:
                self.queues.put(returning.queue, seq)
            if returning.counted:
                self.queues.stopped(returning.queue)

    def deliver(self, seqs: Iterable[int]) -> list[tuple[int, int]]:
        """Move waiting executions to *returning*, because the event they wait for has arrived.

        Returns them with the attempts that are charged to them. Those that do not wait, or are still *parking*, are
        left alone.
        """
        delivered: list[tuple[int, int]] = []
        for seq in seqs:
            queue = self.timers.pop(seq)
            if queue is not None:
                self.pending.returning[seq] = ReturningExecution(queue, False)
                delivered.append((seq, self.attempts.charged(seq)))
        return delivered

    @property
    def keeps_turns(self) -> bool:
        """Whether the end of an execution may concern a turn that is kept."""
        return bool(self.queues.keeping or self.order_keys.held)

    def keeps_turn(self, seq: int) -> bool:
        """Whether an execution that is *ending*, because it faulted, keeps the turn of its order key."""
        return self.pending.ending[seq][0].policy.keeps_turns and self.order_keys.has_turn(seq)

    def release_turn(self, held: HeldTurn) -> None:
        """Let the next execution have a turn that is kept, if it still is."""
        released = self.order_keys.release(held)
        if released is not None and released[1] not in self._suspended:
            self.queues.put(self.queues.flow(released[0]), released[1])

    def ended(self, seq: int, *, completed: bool = True, held: HeldTurn | None = None) -> str:
        """Remove an execution that was *ending* and whose end is durable; return its flow.

        `held`: it keeps the turn of its order key; see `keeps_turn`.
        """
        queue, counted = self.pending.ending.pop(seq)
        self.attempts.forget(seq)
        self._lost.last.pop(seq, None)
        self.leases.forget(seq)
        self.queues.ended(queue, seq, ran=counted)
        self.unfinished -= 1
        turn = None
        if held is not None:
            self.order_keys.keep(seq, held)
        else:
            turn = self.order_keys.leave(seq, completed=completed)
        if turn is not None and turn not in self._suspended:
            self.queues.put(queue, turn)
        return queue.flow_id

    def cancel(self, seq: int, flow_id: str) -> Removed | None:
        """Remove an execution from its state to end it: it is *ending* from now on.

        Returns its attempts, including the one in progress or the one that parked it, and its lease; None when it is
        unknown or already ending.
        """
        lease = self.leases.of(seq)
        if lease is not None:
            self.end(lease.token)
            return Removed(lease.attempt, lease)
        counted = self.pending.is_counted(seq)
        waits = self.is_waiting(seq)
        queue = self._unsuspend(seq) or self._withdraw(seq, flow_id)
        if queue is None:
            return None
        if self.order_keys.is_blocked(seq):
            self.order_keys.leave(seq)
        self.pending.ending[seq] = queue, counted
        return Removed(self.attempts.charged(seq) + waits, None)

    def suspend(self, seq: int, flow_id: str) -> Removed | None:
        """Suspend an execution until `resume`; its order key stays blocked. An attempt in progress is not charged.

        Returns its attempts and its lease; None when it is unknown, or already suspended or ending.
        """
        if seq in self._suspended:
            return None
        lease = self.leases.of(seq)
        running = lease is not None or self.pending.is_counted(seq)
        queue: FlowQueue | None
        if lease is not None:
            queue = lease.queue
            self.leases.void(lease.token)
            self.attempts.charge(seq, lease.attempt - 1)
        else:
            queue = self._withdraw(seq, flow_id)
        if queue is None:
            return None
        self._suspend(seq, queue)
        if running:
            self.queues.stopped(queue)
        self.queues.vacate(queue, seq)
        return Removed(self.attempts.charged(seq), lease)

    def resume(self, seq: int) -> bool:
        """Make a suspended execution ready, ahead of its flow's ready executions; false when it is not suspended."""
        queue = self._unsuspend(seq)
        if queue is None:
            return False
        if not self.order_keys.is_blocked(seq):
            self.queues.put(queue, seq, first=True)
        return True

    def _suspend(self, seq: int, queue: FlowQueue) -> None:
        self._suspended[seq] = queue
        queue.suspended += 1

    def _unsuspend(self, seq: int) -> FlowQueue | None:
        queue = self._suspended.pop(seq, None)
        if queue is not None:
            queue.suspended -= 1
        return queue

    def _withdraw(self, seq: int, flow_id: str) -> FlowQueue | None:
        """Remove an execution that is returning, parking, held, waiting, blocked or ready; return its queue."""
        self._recovered.claimable.pop(seq, None)
        order_key = self.groups.remove(seq)
        if order_key is None:
            order_key = self._going_on.pop(seq, None)
        if order_key is not None:
            if order_key:
                self.order_keys.enter(seq, flow_id, order_key)
            return self.queues.flow(flow_id)
        queue = self.pending.withdraw(seq) or self._recovered.release(seq) or self.timers.pop(seq)
        if queue is None and seq not in self.pending.ending:
            queue = self.queues.flow(flow_id)
            if not self.order_keys.is_blocked(seq) and not self.queues.remove(queue, seq):
                return None
        return queue

    # --- runners ------------------------------------------------------------------------------------------------------

    def attach(
        self,
        runner_id: str,
        held: Iterable[bytes],
        *,
        explained: bool,
        now: float,
        end: AttemptEnd = AttemptEnd.NOT_HELD,
    ) -> AttachResult:
        """Attach a runner, new or returning, even when it returns too late to retain its leases.

        It still works on the `held` tokens, of this epoch or, after restarts, of earlier ones. `explained`: the
        executions it no longer holds are known not to have caused their loss; their attempts ended by `end`.
        """
        held = list(held)
        refunded = self.losses.reattached(runner_id, held, explained=explained, now=now)
        runner = self.runners.attach(runner_id, now)
        adopted = [seq for token in held if (seq := self._recovered.adopt(runner, token)) is not None]
        kept = [token for token in held if token in runner.leases]
        lost = runner.leases.keys() - kept
        losses = [
            self.losses.lose(runner.leases[token], charged=not explained, certain=False, end=end) for token in lost
        ]
        return AttachResult(kept, losses, refunded, adopted)

    # --- time ---------------------------------------------------------------------------------------------------------

    def begin(self, now: float) -> None:
        """Start the period in which runners may reattach and claim the executions held for them.

        The policies of flows are known by now.
        """
        for seq, queue, order_key, receive_ms in self._undecided:
            if not self._join(seq, queue, self.queues.keys[seq], receive_ms, order_key):
                self._enter(seq, queue, order_key)
        self._undecided.clear()
        self._recovered.deadline = now + self._reattach_seconds

    def refund(self, seq: int) -> None:
        """Take back, for its rate, the assignment of an execution under lease that no runner has received."""
        lease = self.leases.of(seq)
        if lease is not None and lease.queue.policy.rate is not None:
            self.queues.rates.refund(seq, lease.queue.flow_id)

    def next_deadline(self) -> float | None:
        """Return the time at which `expire` next has something to do, or None."""
        deadlines = (self.runners.deadline, self._recovered.deadline)
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def expire(self, now: float) -> LeasesExpired:
        """Drop runners that were silent for too long, and release executions held for runners to reattach."""
        self._lost.forget(now)
        expired = LeasesExpired([], [])
        for runner in self.runners.expire(now):
            expired.losses.extend(self.losses.lose_absent(lease, now) for lease in list(runner.leases.values()))
        exhausted, unclaimed = self._recovered.expire(now)
        expired.losses.extend(exhausted)
        expired.unclaimed.extend(unclaimed)
        return expired

    def next_wake(self) -> int | None:
        """Return the Unix time (ms) at which `wake` or `close_groups` next has something to do, or None."""
        times = (self.timers.next(), self.groups.next())
        return min((time for time in times if time is not None), default=None)

    def close_groups(self, now_ms: int) -> list[ClosedGroup]:
        """Return groups that are over: those of their executions that are absorbed are *ending* from now on.

        The others wait for `goes_on`, once that is stored.
        """
        found: list[ClosedGroup] = []
        for each, order_key in self.groups.due(now_ms, MAX_GROUPED):
            queue = self.queues.flow(each.flow_id)
            self.pending.ending.update((seq, (queue, False)) for seq in each.absorbed)
            self._going_on[each.seq] = order_key
            self.leave_group(each.seq, events=1 + len(each.absorbed) if each.batches else 1)
            found.append(each)
        return found

    def has_group_key(self, seq: int) -> bool:
        """Whether an execution that has not ended is, or would be after a restart, in a group."""
        return bool(self.queues.keys.get(seq, UNSHAPED).group)

    def leave_group(self, seq: int, *, events: int = 1) -> None:
        """Let an execution that was in a group, or had the key of one, run for itself, or for a batch of `events`."""
        self.queues.keys[seq] = self.queues.keys.get(seq, UNSHAPED).without_group()._replace(events=events)

    def batched(self, seqs: Iterable[int]) -> list[int]:
        """Return those executions that run for several events."""
        return [seq for seq in seqs if self.events_of(seq) > 1] if self.queues.keys else []

    def events_of(self, seq: int) -> int:
        """Return how many events an execution that has not ended runs for."""
        keys = self.queues.keys.get(seq)
        return 1 if keys is None else keys.events

    def goes_on(self, seq: int, flow_id: str) -> None:
        """Let an execution that `close_groups` returned run, unless it was cancelled or suspended meanwhile."""
        order_key = self._going_on.pop(seq, None)
        if order_key is not None:
            self._enter(seq, self.queues.flow(flow_id), order_key)

    def _join(self, seq: int, queue: FlowQueue, keys: ShapingKeys, now_ms: int, order_key: str) -> bool:
        """Add an execution to its group; false: its flow has changed since its event came, and has none such."""
        policy, batches = queue.policy.group, keys.size > 0
        if policy is None or policy.batches != batches:
            return False
        group = GroupId(queue.flow_id, keys.group, batches)
        self.groups.add(seq, group, policy, now_ms, order_key=order_key, size=keys.size)
        return True

    def _enter(self, seq: int, queue: FlowQueue, order_key: str) -> None:
        if not order_key or self.order_keys.enter(seq, queue.flow_id, order_key):
            self.queues.put(queue, seq)

    def wake(self, now_ms: int) -> list[int]:
        """Make executions ready that are due to wake, ahead of their flows' others; at most `MAX_WAKES` a call."""
        return self._wake(self.timers.due(now_ms, MAX_WAKES))

    def release_waiting(self, seqs: Iterable[int]) -> list[int]:
        """Make executions ready that wait, ahead of their flows' others, and return them; others are left alone."""
        return self._wake([(seq, queue) for seq in seqs if (queue := self.timers.pop(seq)) is not None])

    def _wake(self, found: Sequence[tuple[int, FlowQueue]]) -> list[int]:
        self.queues.put_first(found)
        if self._recovered.deadline is not None:
            self._recovered.claimable.update(each for each in found if self.leases.is_recovered(each[0]))
        return [seq for seq, _ in found]

    # --- queries ------------------------------------------------------------------------------------------------------

    @property
    def ready(self) -> int:
        """Executions that wait for a runner, now or soon, or for an earlier execution of their order key."""
        return self.unfinished - self.leased - len(self.pending.ending) - self.waiting - self.suspended

    @property
    def leased(self) -> int:
        return len(self.leases)

    @property
    def waiting(self) -> int:
        """Executions that wait for a time or an event, or are about to."""
        return len(self.timers) + len(self.pending.parking)

    @property
    def suspended(self) -> int:
        return len(self._suspended)

    def load(self) -> FlowLoad:
        """Return the unfinished executions of all flows by state, in constant time."""
        known = self.queues.ready + self.leased + self.waiting + self.suspended
        delayed = max(0, self.unfinished - known)
        return FlowLoad(self.queues.ready, delayed, self.leased, self.waiting, self.suspended)

    def is_waiting(self, seq: int) -> bool:
        return seq in self.timers or seq in self.pending.parking

    def is_suspended(self, seq: int) -> bool:
        return seq in self._suspended
