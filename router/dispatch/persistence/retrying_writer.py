"""Storage writes that are retried until they succeed, and tasks that outlive the calls that started them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import attrs

from flowhook.errors import UnavailableError
from flowhook.process import logs
from router.dispatch.persistence.lifecycle_outbox import LifecycleOutbox
from router.storage.interface import ShardState
from router.storage.model import LifecycleRecorded, StateChange

T = TypeVar("T")

RETRY_DELAY: Final = 0.5
"""Seconds between retries of a write while storage is unavailable."""

log = logs.get_logger(__name__)


@attrs.define(eq=False, repr=False)
class RetryingWriter:
    """Retrying writer of a shard's state, and the shard runtime's task group."""

    _state: ShardState
    _outbox: LifecycleOutbox
    _notified: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _tasks: asyncio.TaskGroup | None = attrs.field(init=False, default=None)
    _closing: bool = attrs.field(init=False, default=False)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.TaskGroup]:
        """Accept tasks in the block, and wait for them when it is left."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                yield tasks
        finally:
            self._tasks = None

    def close(self) -> None:
        """Let the shard runtime stop: a write that fails is not retried any more."""
        self._closing = True

    @property
    def is_running(self) -> bool:
        """Whether the shard runtime runs, so that tasks are accepted."""
        return self._tasks is not None

    @property
    def is_closing(self) -> bool:
        """Whether the shard runtime is about to stop, or has stopped."""
        return self._closing

    @property
    def is_open(self) -> bool:
        """Whether the shard runtime runs and is not about to stop."""
        return self._tasks is not None and not self._closing

    async def write(self, changes: Sequence[StateChange]) -> None:
        """Store changes, retrying while storage is unavailable: they must not be lost while this process lives."""
        await self.call_with_retry(lambda: self.write_once(changes))

    async def write_once(self, changes: Sequence[StateChange]) -> None:
        """Store changes, with the lifecycle events that report them, without a retry.

        Raises:
            UnavailableError: storage can't serve.
        """
        if not self._outbox.wanted:
            await self._state.write(changes)
            return
        occurred = self._outbox.of(changes)
        await self._state.write([*occurred, *(each for each in changes if not isinstance(each, LifecycleRecorded))])
        if occurred:
            self._outbox.stored(len(occurred))

    async def try_write(self, changes: Sequence[StateChange]) -> None:
        """Store changes that may be lost without harm: one try, errors are logged."""
        try:
            await self.write_once(changes)
        except UnavailableError as error:
            log.warning("starts of attempts not stored", reason=error.reason)

    async def call_with_retry(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call storage, retrying while it is unavailable."""
        while True:
            try:
                return await call()
            except UnavailableError as error:
                await self.pause(error)

    async def pause(self, error: UnavailableError) -> None:
        """Sleep before a retry; raise the error instead when the shard runtime is closing."""
        log.warning("storage is away; trying again", reason=error.reason)
        if self._closing:
            raise error
        await asyncio.sleep(RETRY_DELAY)

    def notify(self) -> None:
        """Notify callers of `until` that something became durable."""
        self._notified.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition, which is checked again after each `notify`."""
        while not condition():
            self._notified.clear()
            await self._notified.wait()

    async def run_shielded(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` and wait for it; it goes on when the waiting call is cancelled."""
        await asyncio.shield(self.spawn(work))

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` as a task of the shard runtime.

        Raises:
            UnavailableError: the shard runtime does not run, or is shutting down after a failure (`ROUTER_STOPPED`).
        """
        if self._tasks is not None:
            try:
                return self._tasks.create_task(work)
            except RuntimeError:  # the group is shutting down
                pass
        work.close()
        raise UnavailableError("the router is not running", reason="ROUTER_STOPPED")
