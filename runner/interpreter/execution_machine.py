"""State machine of one execution, without I/O.

The driver calls `advance`, and `resume` with the result of each effect, until a `Step` has an `ending`.

A *fiber* is a generator from `tasks` that runs concurrently with others and stops at a request (`requests`). An input
from outside is processed only when all fibers have stopped: one result, one reading of the clock, or one deadline that
has passed. Each input is an entry of the journal, so the order of entries decides every race. A replay processes the
entries of the journal in that order and reaches the same state. An entry that matches no request is a fault; the
interpreter never guesses. Events, and the ends of other executions, are inputs like results while the execution runs.
While no runner holds the execution, the router writes them to the journal, from which they are replayed.

::

    ready --run--> stopped --the journal has more entries: read the next one------------+
      ^              |                                                                  |
      |              +--else: append a result, a reading of the clock, or a deadline----+
      +---------------------------------------------------------------------------------+
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Final

import attrs

from flowhook import limits
from flowhook.attach.limits import MAX_RETRY_KEYS, MAX_RETRY_KEYS_BYTES
from flowhook.model import JournalEntry, RaiseOrigin, Retry, Subscription, WorkflowError
from runner.interpreter import (
    control_tasks,
    effect_tasks,
    extensions,
    json_codec,
    listen_task,
    nodes,
    subscribe_task,
    try_task,
)
from runner.interpreter.effects import (
    DeliveredEvent,
    EffectResult,
    JournalWrite,
    Perform,
    Step,
    WorkflowCompleted,
    WorkflowFaulted,
)
from runner.interpreter.errors import Kind, TaskFault, fault
from runner.interpreter.execution_context import ExecutionContext
from runner.interpreter.fibers import FiberScheduler, PendingRequest
from runner.interpreter.history import TaskHistory
from runner.interpreter.journal import (
    Journal,
    diverged,
    ends_early,
    event_of,
    holds_time,
    pointer_of,
    time_entry,
    time_of,
)
from runner.interpreter.lifecycle_events import LifecycleEmitter
from runner.interpreter.requests import AwaitCompletion, GivenOutput, Listen, Now, ReceivedEvent, Sleep, WithTimeout
from runner.interpreter.retry_policy import is_transient
from runner.interpreter.state import SharedState, TaskHandlers
from runner.interpreter.tasks import run_workflow
from runner.interpreter.tracing import Observer

HANDLERS: Final = TaskHandlers(
    evaluate={
        nodes.RaiseNode: control_tasks.raise_error,
        nodes.SetNode: control_tasks.set_data,
        nodes.SwitchNode: control_tasks.switch,
    },
    execute={
        nodes.CallNode: effect_tasks.call,
        nodes.DoNode: control_tasks.run_do,
        nodes.EmitNode: effect_tasks.emit,
        nodes.ForkNode: control_tasks.run_fork,
        nodes.ForNode: control_tasks.run_for,
        nodes.FunctionNode: control_tasks.run_function,
        nodes.ListenNode: listen_task.run_listen,
        nodes.RunNode: effect_tasks.run,
        nodes.SubscribeNode: subscribe_task.run_subscribe,
        nodes.TryNode: try_task.run_try,
        nodes.WaitNode: control_tasks.wait,
    },
    extend=extensions.run_extended,
)


@attrs.define(eq=False, repr=False)
class ExecutionMachine:
    """An execution of a program for one input. Blocking: all of its methods evaluate expressions."""

    _program: nodes.Program
    _workflow: ExecutionContext
    # entries of earlier attempts; those before the last snapshot may be missing
    _entries: Sequence[JournalEntry] = attrs.field(default=(), alias="journal")
    _observer: Observer | None = None
    _chance: Callable[[], float] = random.random  # returns random numbers in [0, 1)
    _lifecycle_types: Collection[str] = attrs.field(default=(), kw_only=True)
    _inputs: list[tuple[Perform, EffectResult] | DeliveredEvent] = attrs.field(init=False, factory=list)
    # until then no effect is requested: the journal may hold its result, or have decided the race that it loses
    _caught_up: bool = attrs.field(init=False, default=False)
    _ending: WorkflowCompleted | WorkflowFaulted | None = attrs.field(init=False, default=None)
    _journal: Journal = attrs.field(init=False)
    _shared: SharedState = attrs.field(init=False)
    _fibers: FiberScheduler = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._journal = Journal(self._entries, TaskHistory(self._workflow.clock))
        self._shared = SharedState(self._workflow, self._journal, HANDLERS, self._observer)
        self.set_lifecycle_types(self._lifecycle_types)
        self._fibers = FiberScheduler(run_workflow(self._program, self._shared))

    def set_lifecycle_types(self, types: Collection[str]) -> None:
        """Emit lifecycle events of these types, for tasks that start from now on."""
        shared = self._shared
        shared.emitter = LifecycleEmitter(self._journal, self._workflow, types) if types else None
        shared.update_observed()

    @property
    def has_pending_input(self) -> bool:
        """Whether inputs wait to be processed; they may not be in the journal."""
        return bool(self._inputs)

    def is_replaying(self) -> bool:
        """Whether entries of the journal are left to replay: what happens now happened in an earlier attempt."""
        return self._journal.replaying

    def queue_result(self, effect: Perform, result: EffectResult) -> Sequence[JournalWrite]:
        """Queue the result of an effect for the next `advance`, and return the entries to journal at once.

        The computation on a result may kill this process; if the result were not journaled by then, the effect would
        be performed again. Of several queued results only the first can be journaled here: it decides what the others
        mean and whether they are still needed. They are journaled in their turn.
        """
        pending = self._fibers.pending.get(effect.key)
        # Results of x and y come together, and `fork` has `compete`: x ends the race, so y is not needed any more. Had
        # both been journaled at once, a replay would find an entry for y that nothing requests.
        is_first = self._caught_up and self._ending is None and not self._inputs and not self._fibers.has_ready
        self._inputs.append((effect, result))
        if is_first and pending is not None and pending.request is effect:
            self._record(pending, effect, result)
        writes, self._journal.writes = self._journal.writes, []
        return writes

    def resume(self, effect: Perform, result: EffectResult) -> Step:
        """Continue with the result of a requested effect; a result that is no longer needed is ignored."""
        self._inputs.append((effect, result))
        return self.advance()

    def deliver(self, event: DeliveredEvent) -> Step:
        """Continue with an awaited input; one that is no longer awaited is ignored."""
        self._inputs.append(event)
        return self.advance()

    def advance(self) -> Step:
        """Start, or continue after a pause, or when a deadline has passed."""
        step = Step()
        try:
            while self._ending is None:
                if not self._fibers.run():
                    step.paused = True
                    break
                if self._fibers.is_over:
                    self._ending = self._completed(self._fibers.result())
                elif not self._process_input(step):
                    break
            if self._ending is None and self._caught_up:
                self._add_requests(step)
        except TaskFault as problem:
            raising = RaiseOrigin(problem.raised_by, problem.cause) if problem.raised_by else None
            self._ending = WorkflowFaulted(replace(self._workflow.redacted(problem), raising=raising))
        if self._journal.writes:
            step.writes, self._journal.writes = self._journal.writes, []
        step.ending = self._ending
        if self._journal.lifecycle_events:
            step.lifecycle_events = self._journal.take_lifecycle_events()
        return step

    @property
    def next_retry(self) -> Retry | None:
        """What failed and is tried again at a deadline, the next one, without secrets; None: nothing waits for that."""
        waits = [
            (each.until_ms, request.key, request.error, request.tries, request.follows)
            for each in self._fibers.pending.values()
            if isinstance(request := each.request, Sleep) and request.error is not None and each.until_ms is not None
        ]
        if not waits:
            return None
        waits.sort(key=itemgetter(0))
        keys, size = [], 0
        for _, key, *_ in waits[:MAX_RETRY_KEYS]:
            size += len(key.encode())
            if size > MAX_RETRY_KEYS_BYTES:
                break
            keys.append(key)
        until, _, error, tries, follows = waits[0]
        redactor = self._workflow.redactor
        shown = error if redactor is None else redactor.redact_error(error)
        return Retry(shown, tries, until, len(waits) - 1, tuple(keys), follows) if keys else None

    def take_history(self) -> bytes:
        """Remove and return the task history since the last entry, for the end of the attempt; see `history`."""
        return self._journal.history.drain()

    def fault(self, problem: WorkflowError) -> Step:
        """End with an error that nothing may catch, after the last step was aborted; includes its journal writes."""
        self._ending = WorkflowFaulted(problem)
        return self.advance()

    # --- inputs -----------------------------------------------------------------------------------------------------
    def _process_input(self, step: Step) -> bool:
        """Process one input, which may make fibers ready; returns whether there was one."""
        # first what is journaled, then held results, then what came from outside, then the clock: a replay has only the
        # first, and must take the same way
        entry = self._journal.next
        if entry is not None:
            self._journal.read()
            self._replay(entry)
            return True
        self._caught_up = True
        if self._journal.held and self._use_held_result():
            return True
        while self._inputs:
            received = self._inputs.pop(0)
            if isinstance(received, DeliveredEvent):
                # else the flow does not wait for it any more: it is not consumed, and goes to another execution
                if received.entry.key in self._fibers.pending:
                    self._journal.write(received.entry, consumed=received.number)
                    self._replay(received.entry)
                    return True
                continue
            effect, result = received
            pending = self._fibers.pending.get(effect.key)
            if pending is not None and pending.request is effect:
                # `queue_result` has journaled it, if it was the first
                if not pending.recorded:
                    self._record(pending, effect, result)
                self._fibers.answer(pending, result)
                return True
        return bool(self._fibers.undated and self._read_clock()) or self._process_deadline(step)

    def _use_held_result(self) -> bool:
        """Answer a request with a held result, without performing the effect again; returns whether there was one."""
        for pending in self._fibers.pending.values():
            key = pending.keys[0]
            if key in self._journal.held and isinstance(pending.request, Perform | AwaitCompletion | GivenOutput):
                entry = self._journal.held.pop(key)
                self._journal.write(entry)
                self._replay(entry)
                return True
        return False

    def _record(self, pending: PendingRequest, effect: Perform, result: EffectResult) -> None:
        pending.recorded = True
        # an error that ends the execution is in its outcome; as an entry it would have to be removed before a replay.
        # In a race the entry says which branch lost
        continues = result.error is None or effect.catchable or (effect.retried and is_transient(result.error))
        if continues or pending.fiber.races:
            self._journal.write(JournalEntry(effect.key, result.output, result.error), reply=result.reply)

    def _replay(self, entry: JournalEntry) -> None:
        pending = self._fibers.pending.get(entry.key)
        # an operator ended several waits at once, and the first led to the cancellation of this one
        if pending is None and ends_early(entry):
            return
        if pending is None:
            requested = ", ".join(list(self._fibers.pending)[:5]) or "nothing"
            raise diverged(entry.key, f"it continues with {entry.key}, but the flow now requests {requested}")
        match pending.request:
            case Perform() | AwaitCompletion() | GivenOutput():
                self._fibers.answer(pending, EffectResult(entry.output, entry.error))
            case Now():
                self._fibers.answer(pending, time_of(entry, "now"))
            case Listen(key=key):
                self._fibers.answer(pending, ReceivedEvent(event_of(entry), callback=entry.key != f"{key}:event"))
            case _ if holds_time(entry, "over"):  # may be the only entry of a timeout that a replay restarted
                if isinstance(pending.request, Sleep):
                    pending.request.ended_early = ends_early(entry)
                self._expire(pending, time_of(entry, "over"))
            case _:
                pending.set_deadline(time_of(entry, "until"))

    def _read_clock(self) -> bool:
        """Read the clock for pending requests, in order, and set their deadlines; returns whether one was answered."""
        now = self._workflow.clock()
        undated = self._fibers.undated
        while undated:
            pending = undated.popleft()
            request = pending.request
            if (
                not self._fibers.is_pending(pending)
                or pending.until_ms is not None
                or not isinstance(request, Now | Sleep | WithTimeout)
            ):
                continue
            self._journal.check(pointer_of(request.key))
            if isinstance(request, Now):
                self._journal.write(time_entry(request.key, "now", now))
                self._fibers.answer(pending, now)
                return True
            # A wait of 60 s that begins at 1000 s, and is read again after a crash at 1030 s:
            #     {"until": 1060000}   the deadline is journaled, not the duration: 30 s are left, not 60
            #     {"over": 1060004}    the entry that ends it; until then other entries may come in between
            spread = int(request.spread * self._chance()) if isinstance(request, Sleep) else 0
            until = now + request.milliseconds + spread
            pending.set_deadline(until)
            self._journal.write(time_entry(request.key, "until", until), binding=False)
        return False

    def _process_deadline(self, step: Step) -> bool:
        """Process the earliest deadline if it has passed, else set it as the wake-up time; returns whether it has."""
        timers = [pending for pending in self._fibers.pending.values() if pending.until_ms is not None]
        if not timers:
            return False
        until, first = min(((each.until_ms or 0, each) for each in timers), key=itemgetter(0))
        now = self._workflow.clock()
        if now < until:
            step.wake_at_ms, step.wakes = first.until_ms, first.request.key
            return False
        self._journal.check(pointer_of(first.request.key))
        self._journal.write(time_entry(first.request.key, "over", now))
        self._expire(first, now)
        return True

    def _expire(self, pending: PendingRequest, now: int) -> None:
        group, request = pending.group, pending.request
        if group is None or not isinstance(request, WithTimeout):
            self._fibers.answer(pending, now)
            return
        detail = f"the timeout of {request.milliseconds / 1000:g} s has expired"
        problem = fault(Kind.TIMEOUT, detail, instance=request.instance)
        problem.cause = request.key
        self._fibers.answer_group(group, None, problem)

    # --- outputs ----------------------------------------------------------------------------------------------------
    def _add_requests(self, step: Step) -> None:
        fibers = self._fibers
        effects = fibers.take_new_effects()
        for pending, effect in effects:
            fibers.performing += 1
            self._journal.check(effect.instance, fibers.performing)
            pending.performed = True
        step.perform = [effect for _, effect in effects]
        if fibers.subscribed:
            step.subscriptions = self._subscriptions()
        step.cancel = fibers.take_cancelled()

    def _subscriptions(self) -> list[Subscription]:
        """Return all subscriptions, after checking that they and their journal entries stay within the limits."""
        subscribed = self._fibers.subscribed.values()
        found = [each for pending in subscribed for each in pending.subscriptions]
        instance = pointer_of(found[0].key)
        self._journal.check(instance, self._fibers.performing + len(subscribed))
        if len(found) > limits.MAX_SUBSCRIPTIONS or sum(each.size for each in found) > limits.MAX_SUBSCRIPTION_BYTES:
            raise fault(
                Kind.RUNTIME,
                f"the execution waits for too many events or executions: at most {limits.MAX_SUBSCRIPTIONS} at a time, "
                f"whose filters have at most {limits.MAX_SUBSCRIPTION_BYTES} bytes in total",
                instance=instance,
            )
        return found

    def _completed(self, output: object) -> WorkflowCompleted:
        while (entry := self._journal.next) is not None and ends_early(entry):
            self._journal.read()  # the wait was cancelled, see there
        try:
            if entry is not None:
                raise diverged(entry.key, f"it continues with {entry.key}, but the flow now ends before that")
            return WorkflowCompleted(json_codec.encode_result(output, "the workflow's output"))
        except TaskFault as problem:
            raise problem.at("/output") from None
