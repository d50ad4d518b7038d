"""The writer thread, its group commit, and the log in which a transaction is recorded before it commits.

Calls that arrive while a transaction runs form the next one. Their futures are resolved on the event loop with one
wake-up per transaction, after it is on stable storage. While many executions make progress, the writer pauses between
transactions, so that these are fewer and larger.

A transaction fails in one of two ways. If storage failed, all its calls fail, and nothing of them is stored; but if
storage was full, the calls that finish work are retried without those that add work. If one call was faulty, each call
is retried in a separate transaction, so that only the faulty one fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import apsw
import attrs
from typing_extensions import override

from flowhook.errors import FlowhookError
from flowhook.process.metrics import Histogram
from router.storage.errors import STORAGE_FULL, CallRefusedError, StorageError, translate
from router.storage.limits import DEFAULT_LIMITS, StorageLimits


class TransactionLog:
    """Records each transaction (writer thread): `begin`, then `append`; `roll_back` at any time undoes the rest.

    COMMIT comes after `append` and may fail, since it writes the file: then `roll_back` follows, though the log has the
    transaction. What is recorded can't be taken back, so an owner whose COMMIT failed has to read it from the log.

    This one records nothing: the database is the only copy, and durable once its transaction is committed.
    """

    def begin(self, connection: apsw.Connection) -> None:
        """Record changes from now on; the transaction is about to begin, which may fail."""

    def append(self) -> None:
        """Store what was recorded; COMMIT is the next statement, unless this raises a FlowhookError."""

    def roll_back(self) -> FlowhookError | None:
        """Discard what was recorded and not appended, if anything; must not raise. Also called without a `begin`.

        Returns the error for the callers of a transaction that was appended, so that it may be in effect elsewhere;
        None if nothing of it is stored anywhere.
        """
        return None

    def room(self) -> int | None:
        """Return the bytes that new events may take in the log; None: unlimited. No I/O."""
        return None


T = TypeVar("T")

RESERVE: Final = 4
"""Calls that finish work may queue up to this many times the limits: refusing them would not shorten the queue."""


# Changes of executions in one transaction from which on the writer pauses after it, and seconds of that pause, which
# ends at once for a call that is not patient. Each transaction costs some 20 wake-ups of threads: under load an
# execution takes 10 % less CPU time with the pause, in all processes together. Acceptance alone never waits.
BUSY_CHANGES: Final = 20
PAUSE_SECONDS: Final = 0.003


class WriterOperation(ABC):
    """A kind of write. Calls of one kind in one transaction are applied together, kinds in ascending `order`."""

    order: int
    changes_executions = False  # its calls' arguments are sequences of changes of executions

    @abstractmethod
    def apply(self, connection: apsw.Connection, arguments: Sequence[Any]) -> list[Any]:
        """Write within the open transaction (writer thread), and return one result per argument.

        One that is a FlowhookError is raised to its caller, the others still count.
        """

    def reload(self, connection: apsw.Connection) -> None:  # noqa: B027 - most have no such state
        """Reload state cached from the database: before the first transaction, and after one was rolled back."""

    def committed(self, results: Sequence[Any]) -> None:  # noqa: B027 - most have no listeners
        """Notify listeners, before the callers receive their results (event loop)."""


class FunctionOperation(WriterOperation):
    """Runs functions in the order of their calls, after events and state changes.

    One that raises a FlowhookError, for its caller, has written nothing.
    """

    order = 4

    @override
    def apply(self, connection: apsw.Connection, arguments: Sequence[Callable[[apsw.Connection], Any]]) -> list[Any]:
        results: list[Any] = []
        for function in arguments:
            try:
                results.append(function(connection))
            except FlowhookError as error:
                results.append(error)
        return results


@attrs.define(eq=False, repr=False)
class QueuedWrite:
    """One queued write."""

    operation: WriterOperation
    argument: Any
    future: asyncio.Future[Any]
    size: int = attrs.field(kw_only=True)
    refusable: bool = attrs.field(kw_only=True)
    result: Any = attrs.field(init=False, default=None)
    error: FlowhookError | None = attrs.field(init=False, default=None)


class Writer:
    """Runs calls in transactions, on its own thread, which alone uses the connection from `start` to `close`."""

    def __init__(
        self,
        connection: apsw.Connection,
        operations: Sequence[WriterOperation],
        transaction_log: TransactionLog,
        *,
        limits: StorageLimits = DEFAULT_LIMITS,
    ) -> None:
        self._connection = connection
        self._log = transaction_log
        self._functions = FunctionOperation()
        self._operations = sorted([*operations, self._functions], key=lambda operation: operation.order)
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[QueuedWrite] = deque()
        self._waiting_bytes = 0
        self._between: deque[tuple[Callable[[], Any], asyncio.Future[Any]]] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._urgent = False
        self._pausing = False
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, name="storage-writer", daemon=True)
        self._limits = limits
        self.commit_seconds = Histogram("flowhook_storage_commit_duration_seconds")
        self.commit_writes = Histogram("flowhook_storage_commit_batch_writes")
        self.failing = False  # whether the last transaction failed because of storage
        self._stale = True

    def start(self) -> None:
        self._thread.start()

    async def call(
        self,
        operation: WriterOperation,
        argument: Any,
        *,
        size: int = 0,
        refusable: bool = False,
        patient: bool = False,
    ) -> Any:
        """Run one call and return its result once it is durable. Cancelling stops the waiting, not the write.

        `size`: approximate bytes of the argument. `refusable`: the call adds work, and is refused first when the queue
        is full. `patient`: it does not end a pause.

        Raises:
            UnavailableError: closed, the queue is full (`STORAGE_UNAVAILABLE`), or storage failed.
            FlowhookError: the error the operation returned.
        """
        share = 1 if refusable else RESERVE
        future = self._loop.create_future()
        with self._wake:
            if self._closing:
                raise CallRefusedError("storage is closed")
            if (
                len(self._waiting) >= share * self._limits.waiting_calls
                or self._waiting_bytes + size > share * self._limits.waiting_bytes
            ):
                raise CallRefusedError("too many writes are waiting")
            self._waiting.append(QueuedWrite(operation, argument, future, size=size, refusable=refusable))
            self._waiting_bytes += size
            self._urgent = self._urgent or not patient
            if self._urgent or not self._pausing:
                self._wake.notify()
        return await future

    async def write(self, function: Callable[[apsw.Connection], T], *, size: int = 0, refusable: bool = False) -> T:
        """Run a function in a transaction (see `FunctionOperation`), and return its result, as `call` does."""
        result: T = await self.call(self._functions, function, size=size, refusable=refusable)
        return result

    async def run_between(self, function: Callable[[], T]) -> T:
        """Run a function on the writer's thread between two transactions, and return its result; raises as `call`."""
        future: asyncio.Future[T] = self._loop.create_future()
        with self._wake:
            if self._closing:
                raise CallRefusedError("storage is closed")
            self._between.append((function, future))
            self._wake.notify()
        return await future

    async def close(self) -> None:
        """Run queued calls, then end the thread. The connection stays open."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread.is_alive():
            await asyncio.shield(self._ended)
            self._thread.join()

    def _run(self) -> None:
        while (batch := self._next()) or self._between:
            if batch:
                began = time.monotonic()
                self._commit(batch)
                self._on_loop(self._deliver, batch)
                self.commit_seconds.observe(time.monotonic() - began)
                self.commit_writes.observe(len(batch))
                if _changes(batch) >= BUSY_CHANGES:
                    self._pause()
            if self._between:
                self._run_next_between()
        self._on_loop(_settle, self._ended, None, None)

    def _pause(self) -> None:
        with self._wake:
            self._pausing = True
            self._wake.wait_for(lambda: self._urgent or self._between or self._closing, PAUSE_SECONDS)
            self._pausing = False

    def _run_next_between(self) -> None:
        function, future = self._between.popleft()
        result: Any = None
        error: FlowhookError | None = None
        try:
            result = function()
        except Exception as failure:  # noqa: BLE001 - whatever it is, its caller gets it and the thread goes on
            error = translate(failure)
        self._on_loop(_settle, future, result, error)

    def _next(self) -> list[QueuedWrite]:
        batch: list[QueuedWrite] = []
        size = 0
        with self._wake:
            while not self._waiting and not self._between and not self._closing:
                self._wake.wait()
            while self._waiting and size <= self._limits.transaction_bytes:
                call = self._waiting.popleft()
                size += call.size
                batch.append(call)
            self._waiting_bytes -= size
            self._urgent = bool(self._waiting)
        return batch

    def _commit(self, batch: Sequence[QueuedWrite]) -> None:
        try:
            self._transact(batch)
        except Exception as error:  # noqa: BLE001 - whatever it is, the calls must fail with it and the thread go on
            failure = self._roll_back() or translate(error)
            essential = [call for call in batch if not call.refusable]
            full = failure.reason == STORAGE_FULL and 0 < len(essential) < len(batch)
            if isinstance(failure, StorageError) or len(batch) == 1:
                self.failing = self.failing or isinstance(failure, StorageError)
                for call in batch:
                    if call.refusable or not full:
                        call.error = failure
                if full:
                    self._commit(essential)
            else:
                for call in batch:
                    self._commit([call])

    def _transact(self, batch: Sequence[QueuedWrite]) -> None:
        connection = self._connection
        self._log.begin(connection)
        connection.execute("BEGIN IMMEDIATE")
        if self._stale:
            for operation in self._operations:
                operation.reload(connection)
            self._stale = False
        for operation in self._operations:
            calls = [call for call in batch if call.operation is operation]
            if calls:
                results = operation.apply(connection, [call.argument for call in calls])
                for call, result in zip(calls, results, strict=True):
                    call.result = result
        self._log.append()
        connection.execute("COMMIT")
        self.failing = False

    def _roll_back(self) -> FlowhookError | None:
        # A rollback may fail for the same reason as the transaction; SQLite then rolls back by itself.
        with contextlib.suppress(apsw.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        self._stale = True
        return self._log.roll_back()

    def _on_loop(self, function: Callable[..., None], *arguments: Any) -> None:
        # On a closed loop no caller is left waiting.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    def _deliver(self, batch: Sequence[QueuedWrite]) -> None:
        try:
            for operation in self._operations:
                results = [call.result for call in batch if call.operation is operation and call.error is None]
                if results:
                    operation.committed(results)
        finally:
            for call in batch:
                error = call.error or (call.result if isinstance(call.result, FlowhookError) else None)
                _settle(call.future, call.result, error)


def _changes(batch: Sequence[QueuedWrite]) -> int:
    return sum(len(call.argument) for call in batch if call.operation.changes_executions)


def _settle(future: asyncio.Future[Any], result: Any, error: FlowhookError | None) -> None:
    if future.done():  # cancelled
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
