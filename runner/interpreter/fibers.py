"""Fibers of a running execution, the groups they belong to, and their pending requests."""

from __future__ import annotations

from collections import deque
from typing import Any

import attrs

from flowhook.model import Subscription
from runner.interpreter import requests
from runner.interpreter.effects import Perform
from runner.interpreter.errors import Exhausted, TaskFault


@attrs.define(eq=False, repr=False)
class Fiber:
    """A running generator, the group it is a branch of, and the request it waits for."""

    steps: requests.Steps
    group: FiberGroup | None = None
    index: int = 0
    pending: PendingRequest | None = attrs.field(init=False, default=None)
    children: FiberGroup | None = attrs.field(init=False, default=None)
    closed: bool = attrs.field(init=False, default=False)

    @property
    def races(self) -> bool:
        """Whether it runs within a fork, where order matters, even that of failures which end the execution."""
        group = self.group
        return group is not None and (isinstance(group.request, requests.RunBranches) or group.parent.races)


@attrs.define(eq=False, repr=False)
class FiberGroup:
    """Branches that a fiber waits for."""

    parent: Fiber
    request: requests.RunBranches | requests.WithTimeout
    limit: PendingRequest | None = attrs.field(init=False, default=None)  # their timeout
    live: dict[int, Fiber] = attrs.field(init=False)
    outputs: list[requests.BranchResult | None] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        request = self.request
        branches = request.branches if isinstance(request, requests.RunBranches) else (request.branch,)
        self.live = {index: Fiber(steps, self, index) for index, steps in enumerate(branches)}
        self.outputs = [None] * len(branches)


@attrs.define(eq=False, repr=False)
class PendingRequest:
    """A pending request that is answered from outside."""

    request: requests.ExternalRequest
    fiber: Fiber
    group: FiberGroup | None = None
    # at the router, if it waits for events or other executions
    subscriptions: tuple[Subscription, ...] = attrs.field(init=False, default=())
    keys: tuple[str, ...] = attrs.field(init=False)  # of the journal entries that answer it
    until_ms: int | None = attrs.field(init=False, default=None)  # its deadline in Unix milliseconds, once set
    performed: bool = attrs.field(init=False, default=False)  # the driver was asked to perform it
    recorded: bool = attrs.field(init=False, default=False)  # its result is in the journal, but not processed yet

    def __attrs_post_init__(self) -> None:
        self.keys = (self.request.key,)
        if isinstance(self.request, requests.Listen | requests.AwaitCompletion):
            self.subscriptions = self.request.subscriptions
            self.keys = tuple(each.key for each in self.subscriptions)

    def set_deadline(self, until_ms: int) -> None:
        self.until_ms = until_ms
        if isinstance(self.request, requests.WithTimeout):
            self.request.until_ms = until_ms


@attrs.define(eq=False, repr=False)
class FiberScheduler:
    """The fibers of one execution, run in the order in which they became ready; at first one, with the workflow."""

    _steps: requests.Steps
    # pending requests by the keys of the journal entries that answer them. Read-only for others
    pending: dict[str, PendingRequest] = attrs.field(init=False, factory=dict)
    # requests that need the time: `Now`, and those whose deadline is not set yet. In order of request
    undated: deque[PendingRequest] | tuple[()] = attrs.field(init=False, default=())
    # pending requests that have subscriptions at the router, by their first key
    subscribed: dict[str, PendingRequest] = attrs.field(init=False, factory=dict)
    performing: int = attrs.field(init=False, default=0)  # pending effects that the driver was asked to perform
    is_over: bool = attrs.field(init=False, default=False)  # the workflow has ended; see `result`
    _output: Any = attrs.field(init=False, default=None)
    _problem: TaskFault | None = attrs.field(init=False, default=None)
    _effects: list[tuple[PendingRequest, Perform]] = attrs.field(init=False, factory=list)
    _cancelled: list[str] = attrs.field(init=False, factory=list)
    _ready: deque[tuple[Fiber, Any, TaskFault | None]] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._ready = deque([(Fiber(self._steps), None, None)])

    @property
    def has_ready(self) -> bool:
        return bool(self._ready)

    def result(self) -> Any:
        """Return the output of the workflow, which is over; raises the TaskFault with which it ended."""
        if self._problem is not None:
            raise self._problem
        return self._output

    def run(self) -> bool:
        """Run all ready fibers; returns whether all have stopped, else one pauses. Blocking: evaluates expressions."""
        ready = self._ready
        while ready and not self.is_over:
            fiber, answer, problem = ready.popleft()
            if fiber.closed:
                continue
            try:
                request: requests.Request = fiber.steps.send(answer) if problem is None else fiber.steps.throw(problem)
            except StopIteration as end:
                self._returned(fiber, end.value)
            except TaskFault as fault_:
                self._failed(fiber, fault_)
            else:
                if isinstance(request, requests.Pause):
                    ready.appendleft((fiber, None, None))  # in front: a pause must not change the order
                    return False
                self._request(fiber, request)
        return True

    def answer(self, pending: PendingRequest, answer: Any) -> None:
        self._withdraw(pending)
        pending.fiber.pending = None
        self._ready.append((pending.fiber, answer, None))

    def is_pending(self, pending: PendingRequest) -> bool:
        return self.pending.get(pending.keys[0]) is pending

    def take_new_effects(self) -> list[tuple[PendingRequest, Perform]]:
        """Remove and return the effects that were requested since the last call and are not cancelled."""
        effects, self._effects = self._effects, []
        return [each for each in effects if self.is_pending(each[0])]

    def take_cancelled(self) -> list[str]:
        """Remove and return the keys of the effects that were cancelled while they were performed."""
        cancelled, self._cancelled = self._cancelled, []
        return cancelled

    def _request(self, fiber: Fiber, request: requests.ExternalRequest | requests.RunBranches) -> None:
        if isinstance(request, requests.RunBranches | requests.WithTimeout):
            group = fiber.children = FiberGroup(fiber, request)
            if isinstance(request, requests.WithTimeout):
                group.limit = self._add(request, fiber, group)
                group.limit.until_ms = request.until_ms
            self._ready.extend((branch, None, None) for branch in group.live.values())
            if not group.live:
                self.answer_group(group, [])
            return
        fiber.pending = self._add(request, fiber)

    def _add(self, request: requests.ExternalRequest, fiber: Fiber, group: FiberGroup | None = None) -> PendingRequest:
        pending = PendingRequest(request, fiber, group)
        for key in pending.keys:
            if key in self.pending:
                raise AssertionError(f"{key} is requested twice")
            self.pending[key] = pending
        match request:
            case Perform():
                self._effects.append((pending, request))
            case requests.Listen() | requests.AwaitCompletion():
                self.subscribed[pending.keys[0]] = pending
            case requests.Now() | requests.Sleep() | requests.WithTimeout():  # the journal answers `GivenOutput`
                self.undated = self.undated or deque()
                self.undated.append(pending)
        return pending

    def _returned(self, fiber: Fiber, output: Any) -> None:
        fiber.closed = True
        group = fiber.group
        if group is None:
            self._output, self.is_over = output, True
            return
        branch: requests.BranchResult = output
        del group.live[fiber.index]
        group.outputs[fiber.index] = branch
        # `then: end` in a branch ends the flow, whatever the other branches do
        if branch.ends or isinstance(group.request, requests.WithTimeout) or group.request.compete:
            self.answer_group(group, [branch])
        elif not group.live:
            self.answer_group(group, group.outputs)

    def _failed(self, fiber: Fiber, fault: TaskFault) -> None:
        fiber.closed = True
        group = fiber.group
        if group is None:
            self._problem, self.is_over = fault, True
            return
        del group.live[fiber.index]
        # in a race the first success counts, and an error only when it is the last one; else the first error ends the
        # fork
        racing = isinstance(group.request, requests.RunBranches) and group.request.compete
        if group.live and racing and not isinstance(fault, Exhausted):
            return  # others are still in the race
        self.answer_group(group, None, fault)

    def answer_group(self, group: FiberGroup, answer: Any, fault: TaskFault | None = None) -> None:
        """Cancel the branches that still run, and answer, or raise `fault`, where they were requested."""
        self._close(group)
        group.parent.children = None
        self._ready.append((group.parent, answer, fault))

    def _close(self, group: FiberGroup) -> None:
        if group.limit is not None:
            self._cancel(group.limit)
        for fiber in group.live.values():
            fiber.closed = True
            if fiber.pending is not None:
                self._cancel(fiber.pending)
            if fiber.children is not None:
                self._close(fiber.children)
            fiber.steps.close()
        group.live.clear()

    def _cancel(self, pending: PendingRequest) -> None:
        if self.is_pending(pending):
            self._withdraw(pending)
            if pending.performed:
                self._cancelled.append(pending.request.key)

    def _withdraw(self, pending: PendingRequest) -> None:
        for key in pending.keys:
            del self.pending[key]
        self.subscribed.pop(pending.keys[0], None)
        self.performing -= pending.performed
