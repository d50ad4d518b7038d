"""Notifies callers that wait for an execution to reply, or to end without a reply."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import attrs

from flowhook import limits
from flowhook.sharing import Principal, SharedLimit, current_principal
from flowhook.sharing.table import RouterLimits
from router.storage.model import Ended, Replied

CALL_BYTES: Final = 25 * limits.KIB
"""Memory of a waiting call beside its request, which stays in memory until the call is answered."""

WaitResult = Replied | Ended
"""The result of a wait: a reply, or the end of an execution that gave none."""


@attrs.define(eq=False, repr=False)
class ReplyWaiter:
    """The registration of one waiting caller."""

    _waiters: dict[int, list[asyncio.Future[WaitResult]]]
    _seq: int = attrs.field(init=False, default=0)
    _future: asyncio.Future[WaitResult] | None = attrs.field(init=False, default=None)

    def wait_for(self, seq: int) -> asyncio.Future[WaitResult]:
        """Return a future of an execution's next reply, or its end. Call it once; an earlier reply is not seen."""
        self._seq, self._future = seq, asyncio.get_running_loop().create_future()
        self._waiters.setdefault(seq, []).append(self._future)
        return self._future

    def leave(self) -> None:
        """Unregister."""
        waiting = self._waiters.get(self._seq, [])
        if self._future in waiting:
            waiting.remove(self._future)
            if not waiting:
                del self._waiters[self._seq]


class ReplyWaiters:
    """Callers that wait for executions to reply, or to end without a reply."""

    def __init__(self, limits: RouterLimits) -> None:
        self._of_flow = SharedLimit(limits.replies_of_flow)
        self._of_token = SharedLimit(limits.replies_of_token)
        self._waiters: dict[int, list[asyncio.Future[WaitResult]]] = {}

    @contextmanager
    def place(self, flow_id: str, size: int = 0) -> Iterator[ReplyWaiter]:
        """Reserve capacity for a waiting caller, before any irreversible work; freed when the block is left.

        Args:
            flow_id: the flow whose reply it waits for.
            size: size of the caller's request in bytes.

        Raises:
            ExhaustedError: callers of the flow, or those with the same token, have their share (`TOO_MANY_WAITERS`).
            UnavailableError: there is no room for more callers (`WAITERS_FULL`).
        """
        size += CALL_BYTES
        flow, token = Principal("flow", flow_id), current_principal.get()
        with self._of_flow.acquire(flow, size), self._of_token.acquire(token, size):
            waiter = ReplyWaiter(self._waiters)
            try:
                yield waiter
            finally:
                waiter.leave()

    def ended(self, end: Ended) -> None:
        """Notify callers that wait for this execution."""
        self._answer(end)

    def replied(self, reply: Replied) -> None:
        """Pass a reply, which must be durable, to callers that wait for its execution."""
        self._answer(reply)

    def _answer(self, answer: WaitResult) -> None:
        for future in self._waiters.pop(answer.seq, ()) if self._waiters else ():
            if not future.done():
                future.set_result(answer)
