"""Storing what must not be lost, however long storage is away, and tasks that outlive the calls that caused them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

from flowhook import logs
from flowhook.errors import UnavailableError
from router.dispatch.occurrences import Occurrences
from router.storage.interface import ShardState
from router.storage.model import Occurred, StateChange

T = TypeVar("T")

RETRY_DELAY: Final = 0.5
"""Seconds between tries to store what must not be lost, while storage is away."""

log = logs.get_logger(__name__)


class Durable:
    """A shard's state as the host writes it, and the host's tasks.

    Attributes:
        tasks: the group that spawned tasks belong to, while the host runs.
        closing: what can't be stored now will not be tried again.
    """

    def __init__(self, state: ShardState, occurrences: Occurrences) -> None:
        self._state = state
        self._occurrences = occurrences
        self._news = asyncio.Event()
        self.tasks: asyncio.TaskGroup | None = None
        self.closing = False

    @property
    def is_open(self) -> bool:
        """Whether the host runs and is not about to stop."""
        return self.tasks is not None and not self.closing

    async def write(self, changes: Sequence[StateChange]) -> None:
        """Store changes, however long storage is away: they must not be lost while this process lives."""
        await self.insist(lambda: self.write_once(changes))

    async def write_once(self, changes: Sequence[StateChange]) -> None:
        """Store changes, with what is to be told of them.

        Raises:
            UnavailableError: storage can't serve.
        """
        if not self._occurrences.wanted:
            await self._state.write(changes)
            return
        occurred = self._occurrences.of(changes)
        await self._state.write([*occurred, *(each for each in changes if not isinstance(each, Occurred))])
        if occurred:
            self._occurrences.stored(len(occurred))

    async def try_write(self, changes: Sequence[StateChange]) -> None:
        """Store changes that do no harm when they are missing."""
        try:
            await self.write_once(changes)
        except UnavailableError as error:
            log.warning("starts not written down", reason=error.reason)

    async def insist(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call storage until it can serve."""
        while True:
            try:
                return await call()
            except UnavailableError as error:
                await self.pause(error)

    async def pause(self, error: UnavailableError) -> None:
        """Wait before storage is tried again; raise the error when there is no time left for that."""
        log.warning("storage is away; trying again", reason=error.reason)
        if self.closing:
            raise error
        await asyncio.sleep(RETRY_DELAY)

    def tell(self) -> None:
        """Say that something became durable, to those who wait `until` something is."""
        self._news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until what is stored meanwhile makes a condition true."""
        while not condition():
            self._news.clear()
            await self._news.wait()

    async def outlive(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait for `work`, which goes on when the waiting call is cancelled."""
        await asyncio.shield(self.spawn(work))

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` beside the caller.

        Raises:
            UnavailableError: the host does not run, or is about to end because it failed (`ROUTER_STOPPED`).
        """
        if self.tasks is not None:
            try:
                return self.tasks.create_task(work)
            except RuntimeError:  # the group is shutting down
                pass
        work.close()
        raise UnavailableError("the router is not running", reason="ROUTER_STOPPED")
