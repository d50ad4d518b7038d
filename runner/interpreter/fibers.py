"""Fibers of a running execution, the groups they belong to, and their pending requests."""

from __future__ import annotations

from flowhook.model import Subscription
from runner.interpreter.effects import Perform
from runner.interpreter.requests import (
    AwaitCompletion,
    BranchResult,
    Fork,
    GivenOutput,
    Listen,
    Now,
    Sleep,
    Steps,
    WithTimeout,
)

ExternalRequest = Perform | Now | Sleep | WithTimeout | Listen | AwaitCompletion | GivenOutput
"""Requests that are answered from outside."""


class Fiber:
    """A running generator, the group it is a branch of, and the request it waits for."""

    __slots__ = ("children", "closed", "group", "index", "pending", "steps")

    def __init__(self, steps: Steps, group: FiberGroup | None = None, index: int = 0) -> None:
        self.steps = steps
        self.group = group
        self.index = index
        self.pending: PendingRequest | None = None
        self.children: FiberGroup | None = None
        self.closed = False

    @property
    def races(self) -> bool:
        """Whether it runs within a fork, where order matters, even that of failures which end the execution."""
        group = self.group
        return group is not None and (isinstance(group.request, Fork) or group.parent.races)


class FiberGroup:
    """Branches that a fiber waits for; `limit` is their timeout."""

    __slots__ = ("limit", "live", "outputs", "parent", "request")

    def __init__(self, parent: Fiber, request: Fork | WithTimeout) -> None:
        self.parent = parent
        self.request = request
        branches = request.branches if isinstance(request, Fork) else (request.branch,)
        self.live = {index: Fiber(steps, self, index) for index, steps in enumerate(branches)}
        self.outputs: list[BranchResult | None] = [None] * len(branches)
        self.limit: PendingRequest | None = None


class PendingRequest:
    """A pending request that is answered from outside.

    Attributes:
        keys: keys of the journal entries that answer it.
        subscriptions: its subscriptions at the router, if it waits for events or other executions.
        until_ms: its deadline in Unix milliseconds, once set.
        performed: whether the driver was asked to perform it.
        recorded: whether its result is in the journal, but not processed yet.
    """

    __slots__ = ("fiber", "group", "keys", "performed", "recorded", "request", "subscriptions", "until_ms")

    def __init__(self, request: ExternalRequest, fiber: Fiber, group: FiberGroup | None = None) -> None:
        self.request = request
        self.subscriptions: tuple[Subscription, ...] = ()
        self.keys: tuple[str, ...] = (request.key,)
        if isinstance(request, Listen | AwaitCompletion):
            self.subscriptions = request.subscriptions
            self.keys = tuple(each.key for each in self.subscriptions)
        self.fiber = fiber
        self.group = group
        self.until_ms: int | None = None
        self.performed = self.recorded = False

    def set_deadline(self, until_ms: int) -> None:
        """Set its deadline, in Unix milliseconds."""
        self.until_ms = until_ms
        if isinstance(self.request, WithTimeout):
            self.request.until_ms = until_ms
