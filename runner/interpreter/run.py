"""One execution: `start`, then `resume` with the result of each effect, and `go_on`, until a turn has its ending.

No I/O. A *fiber* is a generator of `tasks` that runs concurrently with others; it stops at a request (`requests`).
Only when all fibers have stopped does something come in from outside: one result, one look at the clock, one moment
that has come. Each is an entry of the journal, and so the order of entries decides every race. A replay brings in what
the journal has, in that order, and comes to the same state; what fits no request is a fault, not a guess. Events, and
ends of other executions, come in like results while something is under way; else they are written into the journal by
the router while nobody runs the execution, and replayed.

::

    ready --run--> stopped --the journal has more: its next entry-----------------------+
      ^              |                                                                  |
      |              +--else: a result that came, a look at the clock, a moment: write--+
      +---------------------------------------------------------------------------------+
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any

from flowhook import limits
from flowhook.model import JournalEntry, Subscription, WorkflowError
from runner.interpreter import data as json
from runner.interpreter.effects import Came, Completed, Faulted, Perform, Result, Turn, Write
from runner.interpreter.errors import Exhausted, Kind, TaskFault, fault
from runner.interpreter.fibers import Answered, Asked, Fiber, Group
from runner.interpreter.history import History
from runner.interpreter.journal import Journal, diverged, event_of, moment_entry, moment_of, place, tells
from runner.interpreter.nodes import Program
from runner.interpreter.observing import Observer
from runner.interpreter.requests import Arrived, AwaitEnd, Branch, Fork, Listen, Now, Pause, Request, Sleep, Within
from runner.interpreter.retrying import is_transient
from runner.interpreter.scope import Workflow
from runner.interpreter.state import Shared
from runner.interpreter.tasks import run_workflow
from runner.interpreter.telling import Teller


class Run:
    """An execution of a program for one input.

    Blocking: expressions are evaluated in all of its methods.

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
        workflow: Workflow,
        journal: Sequence[JournalEntry] = (),
        observer: Observer | None = None,
        chance: Callable[[], float] = random.random,
        *,
        wanted: Collection[str] = (),
    ) -> None:
        """Prepare an execution.

        Args:
            program: to be run.
            workflow: for which input; with the clock.
            journal: what earlier attempts wrote, from the last snapshot at the latest.
            observer: is told of each task when it ends.
            chance: gives numbers in [0, 1).
            wanted: see `want`.
        """
        self._journal = Journal(journal, History(workflow.clock))
        self._workflow = workflow
        self._chance = chance
        self._ready: deque[tuple[Fiber, Any, TaskFault | None]] = deque()
        self._inbox: deque[tuple[Perform, Result] | Came] = deque()
        self._asked: dict[str, Asked] = {}
        self._unfixed: deque[Asked] = deque()
        self._subscribed: dict[str, Asked] = {}
        self._wanted: list[Asked] = []
        self._unwanted: list[str] = []
        self._performing = 0
        # until then no effect is asked for: the journal may have its result, or have decided the race that it loses
        self._caught_up = False
        self._ending: Completed | Faulted | None = None
        self.started = False
        self._shared = Shared(workflow, self._journal, observer)
        if wanted or observer is not None:
            self.want(wanted)
        self._ready.append((Fiber(run_workflow(program, self._shared)), None, None))

    def want(self, types: Collection[str]) -> None:
        """Tell lifecycle events of these types from now on, of tasks that begin."""
        shared = self._shared
        shared.teller = Teller(self._journal, self._workflow, types) if types else None
        shared.attended = shared.teller is not None or shared.observer is not None

    def start(self) -> Turn:
        """Run until something is to be done by others."""
        self.started = True
        return self.go_on()

    @property
    def has_news(self) -> bool:
        """Whether something came that it has yet to go on with; it may not be in the journal."""
        return bool(self._inbox)

    def hand_in(self, effect: Perform, result: Result) -> Sequence[Write]:
        """Take in the result of an effect for the next `go_on`, and return what there is to be journaled at once.

        What is computed with a result may take this process along, and then the effect would be performed again. Of
        several results that nothing was computed with yet, only the first one can be journaled: what the others mean,
        and whether they are wanted still, depends on it. They are when it is their turn.
        """
        asked = self._asked.get(effect.key)
        is_first = self._caught_up and self._ending is None and not self._inbox and not self._ready
        self._inbox.append((effect, result))
        if is_first and asked is not None and asked.request is effect:
            self._record(asked, effect, result)
        writes, self._journal.writes = self._journal.writes, []
        return writes

    def resume(self, effect: Perform, result: Result) -> Turn:
        """Go on with the result of an effect that was asked for; one that is wanted no more is passed over."""
        self._inbox.append((effect, result))
        return self.go_on()

    def take_in(self, came: Came) -> Turn:
        """Go on with something that was waited for; what is not waited for any more is passed over."""
        self._inbox.append(came)
        return self.go_on()

    def go_on(self) -> Turn:
        """Go on after a pause, or because time has passed."""
        turn = Turn()
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
            turn = Turn(self._ending, turn.writes)
        if self._journal.told:
            turn.told = self._journal.take_told()
        return turn

    def take_history(self) -> bytes:
        """Take what tasks came to since the last entry, for the end of the attempt; see `history`."""
        return self._journal.history.take()

    def fault(self, problem: WorkflowError) -> Turn:
        """End by an error that nothing may catch, with what was written before; the last turn was broken off."""
        self._ending = Faulted(problem)
        return self.go_on()

    # --- fibers ---------------------------------------------------------------------------------------------------
    def _run_ready(self) -> bool:
        """Run all fibers that can; whether all have stopped."""
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
                    ready.appendleft((fiber, None, None))  # in front: when it pauses must not change any order
                    return False
                self._ask(fiber, request)
        return True

    def _ask(self, fiber: Fiber, request: Answered | Fork) -> None:
        if isinstance(request, Fork | Within):
            group = fiber.children = Group(fiber, request)
            if isinstance(request, Within):
                group.limit = self._expect(request, fiber, group)
                group.limit.until_ms = request.until_ms
            self._ready.extend((branch, None, None) for branch in group.live.values())
            if not group.live:
                self._answer(group, [])
            return
        fiber.asked = self._expect(request, fiber)

    def _expect(self, request: Answered, fiber: Fiber, group: Group | None = None) -> Asked:
        asked = Asked(request, fiber, group)
        for key in asked.keys:
            if key in self._asked:
                raise AssertionError(f"{key} is asked twice")
            self._asked[key] = asked
        match request:
            case Perform():
                self._wanted.append(asked)
            case Listen() | AwaitEnd():
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
        branch: Branch = output
        del group.live[fiber.index]
        group.outputs[fiber.index] = branch
        if branch.ends or isinstance(group.request, Within) or group.request.compete:
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

    def _answer(self, group: Group, answer: Any, problem: TaskFault | None = None) -> None:
        self._close(group)
        group.parent.children = None
        self._ready.append((group.parent, answer, problem))

    def _close(self, group: Group) -> None:
        """Cancel what still runs in a group."""
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

    def _forget(self, asked: Asked) -> None:
        if self._is_asked(asked):
            self._withdraw(asked)
            if asked.performed:
                self._unwanted.append(asked.request.key)

    def _is_asked(self, asked: Asked) -> bool:
        return self._asked.get(asked.keys[0]) is asked

    def _withdraw(self, asked: Asked) -> None:
        for key in asked.keys:
            del self._asked[key]
        self._subscribed.pop(asked.keys[0], None)
        self._performing -= asked.performed

    # --- what comes in from outside ---------------------------------------------------------------------------------
    def _take_in(self, turn: Turn) -> bool:
        """Take in one thing, of which fibers may become ready; whether there was one."""
        if self._ending is not None:
            return False
        entry = self._journal.next
        if entry is not None:
            self._journal.read()
            self._replay(entry)
            return True
        self._caught_up = True
        while self._inbox:
            news = self._inbox.popleft()
            if isinstance(news, Came):
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

    def _end(self, asked: Asked, effect: Perform, result: Result) -> None:
        if not asked.recorded:
            self._record(asked, effect, result)
        self._settle(asked, result)

    def _record(self, asked: Asked, effect: Perform, result: Result) -> None:
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
                self._settle(asked, Result(entry.output, entry.error))
            case Now():
                self._settle(asked, moment_of(entry, "now"))
            case AwaitEnd():
                self._settle(asked, Result(entry.output, entry.error))
            case Listen(key=key):
                self._settle(asked, Arrived(event_of(entry), callback=entry.key != f"{key}:event"))
            case _ if tells(entry, "over"):  # of a limit of time that a replay began anew it may be all there is
                self._be_over(asked, moment_of(entry, "over"))
            case _:
                asked.fix(moment_of(entry, "until"))

    def _look_at_clock(self) -> bool:
        """Fix the moments that are asked for, in order; whether that was an answer for somebody."""
        now = self._workflow.clock()
        while self._unfixed:
            asked = self._unfixed.popleft()
            request = asked.request
            if not self._is_asked(asked) or asked.until_ms is not None or not isinstance(request, Now | Sleep | Within):
                continue
            self._journal.check(place(request.key))
            if isinstance(request, Now):
                self._journal.write(moment_entry(request.key, "now", now))
                self._settle(asked, now)
                return True
            spread = int(request.spread * self._chance()) if isinstance(request, Sleep) else 0
            until = now + request.milliseconds + spread
            asked.fix(until)
            self._journal.write(moment_entry(request.key, "until", until), binding=False)
        return False

    def _let_be_over(self, turn: Turn) -> bool:
        """Let the earliest moment be over if it has come; else it is when to go on. Whether it has."""
        timers = [asked for asked in self._asked.values() if asked.until_ms is not None]
        if not timers:
            return False
        first = min(timers, key=_until)
        now = self._workflow.clock()
        if now < _until(first):
            turn.wake_at_ms, turn.wakes = first.until_ms, first.request.key
            return False
        self._journal.check(place(first.request.key))
        self._journal.write(moment_entry(first.request.key, "over", now))
        self._be_over(first, now)
        return True

    def _be_over(self, asked: Asked, now: int) -> None:
        group, request = asked.group, asked.request
        if group is None or not isinstance(request, Within):
            self._settle(asked, now)
            return
        detail = f"not done within {request.milliseconds / 1000:g} s"
        self._answer(group, None, fault(Kind.TIMEOUT, detail, instance=request.instance))

    def _settle(self, asked: Asked, answer: Any) -> None:
        self._withdraw(asked)
        asked.fiber.asked = None
        self._ready.append((asked.fiber, answer, None))

    # --- what goes out ----------------------------------------------------------------------------------------------
    def _collect(self, turn: Turn) -> None:
        """Ask for the effects that are still wanted, and call off those that are no more."""
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
        """Return what is waited for, as long as there is room for it and for what comes of it."""
        found = [each for asked in self._subscribed.values() for each in asked.subscriptions]
        instance = place(found[0].key)
        self._journal.check(instance, self._performing + len(self._subscribed))
        if len(found) > limits.MAX_SUBSCRIPTIONS or sum(each.size for each in found) > limits.MAX_SUBSCRIPTION_BYTES:
            raise fault(
                Kind.RUNTIME,
                f"an execution waits for at most {limits.MAX_SUBSCRIPTIONS} things at a time, described in at most "
                f"{limits.MAX_SUBSCRIPTION_BYTES} bytes",
                instance=instance,
            )
        return found

    def _faulted(self, problem: TaskFault) -> Faulted:
        return Faulted(self._workflow.presentable(problem))

    def _complete(self, output: object) -> None:
        entry = self._journal.next
        try:
            if entry is not None:
                raise diverged(entry.key, f"the flow ended before {entry.key}")
            self._ending = Completed(json.encode_result(output, "the workflow's output"))
        except TaskFault as problem:
            self._ending = self._faulted(problem.at("/output"))


def _until(asked: Asked) -> int:
    return asked.until_ms or 0
