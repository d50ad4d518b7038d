"""Searches the events of executions with conditions in jq, newest first, within a time budget.

`search_conditions` evaluates them in separate processes with limits (`flowhook.sandbox`), which are started when they
are needed: an endless program is ended with its process. The next page is read while a process evaluates the condition
on the last one. The router only hands out the events.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

import attrs
import orjson

from flowhook import limits
from flowhook.client import Page, ScannedExecution
from flowhook.client.aio.executions import Executions
from flowhook.errors import InvalidError
from flowhook.expressions.paths import MAX_PROGRAM_LENGTH
from flowhook.model import Execution
from flowhook.model.execution_filter import ExecutionFilter
from flowhook.sandbox.offload import Offload
from flowhook.sandbox.worker import TooCostlyError

CPU_SECONDS: Final = 2.0  # CPU time for the events of one call
MEMORY_BYTES: Final = 512 * limits.MIB


class Evaluation(NamedTuple):
    """Executions that meet a condition, the number of those that it failed on, and how it did first."""

    found: list[ScannedExecution]
    failures: int
    failure: str


@attrs.define(eq=False, repr=False, kw_only=True)
class ConditionEvaluator:
    """Evaluates conditions. Close it with `aclose`."""

    _seconds: float = CPU_SECONDS  # CPU time for the events of one call
    # waits until the caller may have a condition evaluated, within the block
    _turn: Callable[[], AbstractAsyncContextManager[None]] = nullcontext
    _offload: Offload = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._offload = Offload("evaluating conditions", seconds=self._seconds, memory=MEMORY_BYTES)

    async def aclose(self) -> None:
        await self._offload.aclose()

    async def evaluate(self, program: str, executions: Sequence[ScannedExecution]) -> Evaluation:
        """Return which executions meet a condition; all of them have an event.

        Raises:
            InvalidError: the program does not compile or is too long (`CONDITION_INVALID`), or takes too much time or
                memory (`CONDITION_TOO_COSTLY`).
            ExhaustedError: too many conditions are being evaluated (`OVERLOADED`).
        """
        from operations.search_conditions import HAS_WEBHOOK, RAW, evaluate  # noqa: PLC0415 - it imports jq

        if len(program) > MAX_PROGRAM_LENGTH:
            raise InvalidError(f"a condition has at most {MAX_PROGRAM_LENGTH} characters", reason="CONDITION_INVALID")
        forms = bytes(each.has_webhook * HAS_WEBHOOK | each.raw * RAW for each in executions)
        events = [each.event or b"" for each in executions]
        source = program.encode("utf-8", "surrogatepass")
        try:
            async with self._turn():
                (result,) = await self._offload.run(program, evaluate, source, forms, *events)
        except TooCostlyError as error:
            raise InvalidError(
                f"the condition can't be evaluated for {len(executions)} events: {error.message}; does it end?",
                reason="CONDITION_TOO_COSTLY",
            ) from None
        found, failures, failure = orjson.loads(result)
        return Evaluation([executions[number] for number in found], failures, failure)


# time after which a search ends with what it has found: a page shall be there within a second
BUDGET_SECONDS: Final = 0.75
FIRST_BATCH: Final = 50  # executions that are looked at first: a condition that takes long is then known soon
MAX_BATCH: Final = 1000

SHORT_SECONDS: Final = 0.15  # a batch that took less is followed by one four times as large
T = TypeVar("T")


class SearchResult(NamedTuple):
    """What a search found, and how far it came."""

    found: list[Execution]  # executions whose events meet the condition, newest first
    scanned: int  # number of executions that were looked at
    # how many of these have events that are stored apart, because they are large: they are not looked into
    left_out: int
    failures: int  # on how many the condition failed
    failure: str  # message of the first of these failures; may be empty
    last: Execution | None  # the last execution that was looked at; None: there was none
    next_page_token: str  # where the search continues; empty: it is complete


async def search(
    source: Executions,
    evaluator: ConditionEvaluator,
    execution_filter: ExecutionFilter,
    program: str,
    *,
    limit: int,
    page_token: str = "",
    seconds: float = BUDGET_SECONDS,
) -> SearchResult:
    """Search the events of filtered executions until `limit` meet the condition, or the time is over.

    Args:
        source: where events are read.
        evaluator: evaluates the condition.
        execution_filter: other conditions, which storage checks.
        program: condition in jq, with or without `${ }`.
        limit: executions to find at most.
        page_token: `next_page_token` of the result before; empty: begin with the newest execution.
        seconds: time after which no further batch is read; the start of a process does not count.

    Raises:
        InvalidError: a condition is not acceptable, takes too much time or memory (`CONDITION_TOO_COSTLY`), or the
            token is not one of a page (`PAGE_TOKEN_INVALID`).
        ExhaustedError: too many conditions are being evaluated (`OVERLOADED`).
        UnavailableError: the router can't be reached.
    """
    result = SearchResult([], 0, 0, 0, "", None, page_token)
    size, batch_seconds = FIRST_BATCH, 0.0
    deadline = time.monotonic() + seconds
    page = await source.scan(execution_filter, page_size=size, page_token=page_token)  # fails without a valid token
    began = time.monotonic()
    await evaluator.evaluate(program, ())  # a process takes long to start, on a busy machine longer than `seconds`
    deadline += time.monotonic() - began
    while True:
        began = time.monotonic()
        next_page = partial(source.scan, execution_filter, page_size=size, page_token=page.next_page_token)
        ahead = page.next_page_token and began + batch_seconds < deadline
        async with _started(next_page() if ahead else None) as reading:
            evaluation = await evaluator.evaluate(program, [each for each in page.items if each.event is not None])
            result = _extended(result, page, limit, evaluation)
            if not result.next_page_token or len(result.found) >= limit or time.monotonic() >= deadline:
                return result
            page = await (next_page() if reading is None else reading)
        batch_seconds = time.monotonic() - began
        if batch_seconds < SHORT_SECONDS:
            size = min(MAX_BATCH, size * 4)


@asynccontextmanager
async def _started(reading: Coroutine[Any, Any, T] | None) -> AsyncIterator[Awaitable[T] | None]:
    """Run a coroutine, if there is one, beside the block; it is cancelled if the block ends first."""
    if reading is None:
        yield None
        return
    task = asyncio.create_task(reading, name="read the next page of events")
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _extended(result: SearchResult, page: Page[ScannedExecution], limit: int, evaluation: Evaluation) -> SearchResult:
    """Return a result with that of one more page; what is beyond the limit is left to the next search."""
    found = evaluation.found
    room = limit - len(result.found)
    items, token = page.items, page.next_page_token
    if len(found) > room or (len(found) == room and token):
        last = found[room - 1]
        items = items[: items.index(last) + 1]
        token = last.next_page_token
    return SearchResult(
        [*result.found, *(each.execution for each in found[:room])],
        result.scanned + len(items),
        result.left_out + sum(each.event is None for each in items),
        result.failures + evaluation.failures,
        result.failure or evaluation.failure,
        items[-1].execution if items else result.last,
        token,
    )
