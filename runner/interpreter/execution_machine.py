"""State machine of one execution, without I/O.

The driver calls `start`, then `resume` with the result of each effect, and `go_on`, until a `Step` has an `ending`.

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
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

from flowhook import limits
from flowhook.model import JournalEntry, RaiseOrigin, Subscription, WorkflowError
from runner.interpreter import json_codec as json
from runner.interpreter.effects import (
    EffectResult,
    ExternalEvent,
    JournalWrite,
    Perform,
    Step,
    WorkflowCompleted,
    WorkflowFaulted,
)
from runner.interpreter.errors import Exhausted, Kind, TaskFault, fault
from runner.interpreter.fibers import ExternalRequest, Fiber, FiberGroup, PendingRequest
from runner.interpreter.handlers import HANDLERS
from runner.interpreter.history import TaskHistory
from runner.interpreter.journal import Journal, diverged, event_of, holds_time, pointer_of, time_entry, time_of
from runner.interpreter.lifecycle_events import LifecycleEmitter
from runner.interpreter.nodes import Program
from runner.interpreter.requests import (
    AwaitCompletion,
    BranchResult,
    Fork,
    Listen,
    Now,
    Pause,
    ReceivedEvent,
    Request,
    Sleep,
    WithTimeout,
)
from runner.interpreter.retry_policy import is_transient
from runner.interpreter.scope import ExecutionContext
from runner.interpreter.state import SharedState
from runner.interpreter.tracing import Observer
from runner.interpreter.workflow import run_workflow


class ExecutionMachine:
    """An execution of a program for one input.

    Blocking: all of its methods evaluate expressions.

    Attributes:
        started: whether `start` was called.
    """

    __slots__ = (
        "_asked",
        "_caught_up",
        "_chance",
        "_ending",
        "_inbox",
        "_journal",
        "_performing",
        "_ready",
        "_shared",
        "_subscribed",
        "_unfixed",
        "_unwanted",
        "_wanted",
        "_workflow",
        "started",
    )

    def __init__(
        self,
        program: Program,
        workflow: ExecutionContext,
        journal: Sequence[JournalEntry] = (),
        observer: Observer | None = None,
        chance: Callable[[], float] = random.random,
        *,
        wanted: Collection[str] = (),
    ) -> None:
        """Prepare an execution.

        Args:
            program: program to run.
            workflow: constants of the execution, with its input and the clock.
            journal: entries of earlier attempts; those before the last snapshot may be missing.
            observer: called with each task that ends.
            chance: returns random numbers in [0, 1).
            wanted: see `want`.
        """
        self._journal = Journal(journal, TaskHistory(workflow.clock))
        self._workflow = workflow
        self._chance = chance
        self._ready: deque[tuple[Fiber, Any, TaskFault | None]] = deque()
        self._inbox: deque[tuple[Perform, EffectResult] | ExternalEvent] = deque()
        self._asked: dict[str, PendingRequest] = {}
        self._unfixed: deque[PendingRequest] = deque()
        self._subscribed: dict[str, PendingRequest] = {}
        self._wanted: list[PendingRequest] = []
        self._unwanted: list[str] = []
        self._performing = 0
        # until then no effect is requested: the journal may hold its result, or have decided the race that it loses
        self._caught_up = False
        self._ending: WorkflowCompleted | WorkflowFaulted | None = None
        self.started = False
        self._shared = SharedState(workflow, self._journal, HANDLERS, observer)
        if wanted or observer is not None:
            self.want(wanted)
        self._ready.append((Fiber(run_workflow(program, self._shared)), None, None))

    def want(self, types: Collection[str]) -> None:
        """Emit lifecycle events of these types, for tasks that start from now on."""
        shared = self._shared
        shared.emitter = LifecycleEmitter(self._journal, self._workflow, types) if types else None
        shared.is_observed = shared.emitter is not None or shared.observer is not None

    def start(self) -> Step:
        """Start the execution; returns the first step."""
        self.started = True
        return self.go_on()

    @property
    def has_pending_input(self) -> bool:
        """Whether inputs wait to be processed; they may not be in the journal."""
        return bool(self._inbox)

    def queue_result(self, effect: Perform, result: EffectResult) -> Sequence[JournalWrite]:
        """Queue the result of an effect for the next `go_on`, and return the entries to journal at once.

        The computation on a result may kill this process; if the result were not journaled by then, the effect would
        be performed again. Of several queued results only the first can be journaled here: it decides what the others
        mean and whether they are still needed. They are journaled in their turn.
        """
        asked = self._asked.get(effect.key)
        is_first = self._caught_up and self._ending is None and not self._inbox and not self._ready
        self._inbox.append((effect, result))
        if is_first and asked is not None and asked.request is effect:
            self._record(asked, effect, result)
        writes, self._journal.writes = self._journal.writes, []
        return writes

    def resume(self, effect: Perform, result: EffectResult) -> Step:
        """Continue with the result of a requested effect; a result that is no longer needed is ignored."""
        self._inbox.append((effect, result))
        return self.go_on()

    def deliver(self, came: ExternalEvent) -> Step:
        """Continue with an awaited input; one that is no longer awaited is ignored."""
        self._inbox.append(came)
        return self.go_on()

    def go_on(self) -> Step:
        """Continue after a pause, or when a deadline has passed."""
        turn = Step()
        try:
            while self._ending is None:
                if not self._run_ready():
                    turn.paused = True
                    break
                if not self._take_in(turn):
                    break
            if self._ending is None and self._caught_up:
                self._collect(turn)
        except TaskFault as problem:
            self._ending = self._faulted(problem)
        if self._journal.writes:
            turn.writes, self._journal.writes = self._journal.writes, []
        if self._ending is not None:
            turn = Step(self._ending, turn.writes)
        if self._journal.told:
            turn.told = self._journal.take_lifecycle_events()
        return turn

    def take_history(self) -> bytes:
        """Remove and return the task history since the last entry, for the end of the attempt; see `history`."""
        return self._journal.history.take()

    def fault(self, problem: WorkflowError) -> Step:
        """End with an error that nothing may catch, after the last step was aborted; includes its journal writes."""
        self._ending = WorkflowFaulted(problem)
        return self.go_on()

    # --- fibers ---------------------------------------------------------------------------------------------------
    def _run_ready(self) -> bool:
        """Run all ready fibers; returns whether all have stopped."""
        ready = self._ready
        while ready and self._ending is None:
            fiber, answer, problem = ready.popleft()
            if fiber.closed:
                continue
            try:
                request: Request = fiber.steps.send(answer) if problem is None else fiber.steps.throw(problem)
            except StopIteration as end:
                self._returned(fiber, end.value)
            except TaskFault as fault_:
                self._failed(fiber, fault_)
            else:
                if isinstance(request, Pause):
                    ready.appendleft((fiber, None, None))  # in front: a pause must not change the order
                    return False
                self._ask(fiber, request)
        return True

    def _ask(self, fiber: Fiber, request: ExternalRequest | Fork) -> None:
        if isinstance(request, Fork | WithTimeout):
            group = fiber.children = FiberGroup(fiber, request)
            if isinstance(request, WithTimeout):
                group.limit = self._expect(request, fiber, group)
                group.limit.until_ms = request.until_ms
            self._ready.extend((branch, None, None) for branch in group.live.values())
            if not group.live:
                self._answer(group, [])
            return
        fiber.asked = self._expect(request, fiber)

    def _expect(self, request: ExternalRequest, fiber: Fiber, group: FiberGroup | None = None) -> PendingRequest:
        asked = PendingRequest(request, fiber, group)
        for key in asked.keys:
            if key in self._asked:
                raise AssertionError(f"{key} is asked twice")
            self._asked[key] = asked
        match request:
            case Perform():
                self._wanted.append(asked)
            case Listen() | AwaitCompletion():
                self._subscribed[asked.keys[0]] = asked
            case _:
                self._unfixed.append(asked)
        return asked

    def _returned(self, fiber: Fiber, output: Any) -> None:
        fiber.closed = True
        group = fiber.group
        if group is None:
            self._complete(output)
            return
        branch: BranchResult = output
        del group.live[fiber.index]
        group.outputs[fiber.index] = branch
        if branch.ends or isinstance(group.request, WithTimeout) or group.request.compete:
            self._answer(group, [branch])
        elif not group.live:
            self._answer(group, group.outputs)

    def _failed(self, fiber: Fiber, problem: TaskFault) -> None:
        fiber.closed = True
        group = fiber.group
        if group is None:
            self._ending = self._faulted(problem)
            return
        del group.live[fiber.index]
        racing = isinstance(group.request, Fork) and group.request.compete
        if group.live and racing and not isinstance(problem, Exhausted):
            return  # others are still in the race
        self._answer(group, None, problem)

    def _answer(self, group: FiberGroup, answer: Any, problem: TaskFault | None = None) -> None:
        self._close(group)
        group.parent.children = None
        self._ready.append((group.parent, answer, problem))

    def _close(self, group: FiberGroup) -> None:
        """Cancel the branches of a group that still run."""
        if group.limit is not None:
            self._forget(group.limit)
        for fiber in group.live.values():
            fiber.closed = True
            if fiber.asked is not None:
                self._forget(fiber.asked)
            if fiber.children is not None:
                self._close(fiber.children)
            fiber.steps.close()
        group.live.clear()

    def _forget(self, asked: PendingRequest) -> None:
        if self._is_asked(asked):
            self._withdraw(asked)
            if asked.performed:
                self._unwanted.append(asked.request.key)

    def _is_asked(self, asked: PendingRequest) -> bool:
        return self._asked.get(asked.keys[0]) is asked

    def _withdraw(self, asked: PendingRequest) -> None:
        for key in asked.keys:
            del self._asked[key]
        self._subscribed.pop(asked.keys[0], None)
        self._performing -= asked.performed

    # --- inputs -----------------------------------------------------------------------------------------------------
    def _take_in(self, turn: Step) -> bool:
        """Process one input, which may make fibers ready; returns whether there was one."""
        if self._ending is not None:
            return False
        entry = self._journal.next
        if entry is not None:
            self._journal.read()
            self._replay(entry)
            return True
        self._caught_up = True
        if self._journal.held and self._take_held():
            return True
        while self._inbox:
            news = self._inbox.popleft()
            if isinstance(news, ExternalEvent):
                if news.entry.key in self._asked:
                    self._journal.write(news.entry, arrival=news.number)
                    self._replay(news.entry)
                    return True
                continue
            effect, result = news
            asked = self._asked.get(effect.key)
            if asked is not None and asked.request is effect:
                self._end(asked, effect, result)
                return True
        return bool(self._unfixed and self._look_at_clock()) or self._let_be_over(turn)

    def _take_held(self) -> bool:
        """Answer a request with a held result, without performing the effect again; returns whether there was one."""
        for asked in self._asked.values():
            key = asked.keys[0]
            if key in self._journal.held and isinstance(asked.request, Perform | AwaitCompletion):
                entry = self._journal.held.pop(key)
                self._journal.write(entry)
                self._replay(entry)
                return True
        return False

    def _end(self, asked: PendingRequest, effect: Perform, result: EffectResult) -> None:
        if not asked.recorded:
            self._record(asked, effect, result)
        self._settle(asked, result)

    def _record(self, asked: PendingRequest, effect: Perform, result: EffectResult) -> None:
        asked.recorded = True
        goes_on = result.error is None or effect.catchable or (effect.retried and is_transient(result.error))
        if goes_on or asked.fiber.races:
            self._journal.write(JournalEntry(effect.key, result.output, result.error), reply=result.reply)

    def _replay(self, entry: JournalEntry) -> None:
        asked = self._asked.get(entry.key)
        if asked is None:
            awaited = ", ".join(list(self._asked)[:5]) or "no effect"
            raise diverged(entry.key, f"it has {entry.key} where the flow now comes to {awaited}")
        match asked.request:
            case Perform():
                self._settle(asked, EffectResult(entry.output, entry.error))
            case Now():
                self._settle(asked, time_of(entry, "now"))
            case AwaitCompletion():
                self._settle(asked, EffectResult(entry.output, entry.error))
            case Listen(key=key):
                self._settle(asked, ReceivedEvent(event_of(entry), callback=entry.key != f"{key}:event"))
            case _ if holds_time(entry, "over"):  # may be the only entry of a timeout that a replay restarted
                self._be_over(asked, time_of(entry, "over"))
            case _:
                asked.fix(time_of(entry, "until"))

    def _look_at_clock(self) -> bool:
        """Read the clock for pending requests, in order, and fix their deadlines; returns whether one was answered."""
        now = self._workflow.clock()
        while self._unfixed:
            asked = self._unfixed.popleft()
            request = asked.request
            if (
                not self._is_asked(asked)
                or asked.until_ms is not None
                or not isinstance(request, Now | Sleep | WithTimeout)
            ):
                continue
            self._journal.check(pointer_of(request.key))
            if isinstance(request, Now):
                self._journal.write(time_entry(request.key, "now", now))
                self._settle(asked, now)
                return True
            spread = int(request.spread * self._chance()) if isinstance(request, Sleep) else 0
            until = now + request.milliseconds + spread
            asked.fix(until)
            self._journal.write(time_entry(request.key, "until", until), binding=False)
        return False

    def _let_be_over(self, turn: Step) -> bool:
        """Process the earliest deadline if it has passed, else set it as the wake-up time; returns whether it has."""
        timers = [asked for asked in self._asked.values() if asked.until_ms is not None]
        if not timers:
            return False
        first = min(timers, key=_until)
        now = self._workflow.clock()
        if now < _until(first):
            turn.wake_at_ms, turn.wakes = first.until_ms, first.request.key
            return False
        self._journal.check(pointer_of(first.request.key))
        self._journal.write(time_entry(first.request.key, "over", now))
        self._be_over(first, now)
        return True

    def _be_over(self, asked: PendingRequest, now: int) -> None:
        group, request = asked.group, asked.request
        if group is None or not isinstance(request, WithTimeout):
            self._settle(asked, now)
            return
        problem = fault(Kind.TIMEOUT, f"not done within {request.milliseconds / 1000:g} s", instance=request.instance)
        problem.cause = request.key
        self._answer(group, None, problem)

    def _settle(self, asked: PendingRequest, answer: Any) -> None:
        self._withdraw(asked)
        asked.fiber.asked = None
        self._ready.append((asked.fiber, answer, None))

    # --- outputs ----------------------------------------------------------------------------------------------------
    def _collect(self, turn: Step) -> None:
        """Put the effects to start and to cancel, and the subscriptions, into `turn`."""
        wanted, self._wanted = self._wanted, []
        perform = []
        for asked in wanted:
            effect = asked.request
            if isinstance(effect, Perform) and self._is_asked(asked):
                self._performing += 1
                self._journal.check(effect.instance, self._performing)
                asked.performed = True
                perform.append(effect)
        turn.perform = perform
        if self._subscribed:
            turn.subscriptions = self._subscriptions()
        turn.cancel, self._unwanted = self._unwanted, []

    def _subscriptions(self) -> list[Subscription]:
        """Return all subscriptions, after checking that they and their journal entries stay within the limits."""
        found = [each for asked in self._subscribed.values() for each in asked.subscriptions]
        instance = pointer_of(found[0].key)
        self._journal.check(instance, self._performing + len(self._subscribed))
        if len(found) > limits.MAX_SUBSCRIPTIONS or sum(each.size for each in found) > limits.MAX_SUBSCRIPTION_BYTES:
            raise fault(
                Kind.RUNTIME,
                f"an execution waits for at most {limits.MAX_SUBSCRIPTIONS} things at a time, described in at most "
                f"{limits.MAX_SUBSCRIPTION_BYTES} bytes",
                instance=instance,
            )
        return found

    def _faulted(self, problem: TaskFault) -> WorkflowFaulted:
        raising = RaiseOrigin(problem.raised_by, problem.cause) if problem.raised_by else None
        return WorkflowFaulted(replace(self._workflow.redacted(problem), raising=raising))

    def _complete(self, output: object) -> None:
        entry = self._journal.next
        try:
            if entry is not None:
                raise diverged(entry.key, f"the flow ended before {entry.key}")
            self._ending = WorkflowCompleted(json.encode_result(output, "the workflow's output"))
        except TaskFault as problem:
            self._ending = self._faulted(problem.at("/output"))


def _until(asked: PendingRequest) -> int:
    return asked.until_ms or 0
