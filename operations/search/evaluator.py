"""Evaluates jq conditions in separate processes, which are started when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Final, NamedTuple

import attrs
import orjson

from flowhook import limits
from flowhook.client import ScannedExecution
from flowhook.errors import InvalidError
from flowhook.expressions.paths import MAX_PROGRAM_LENGTH
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
        from operations.search.conditions import HAS_WEBHOOK, RAW, evaluate  # noqa: PLC0415 - it imports jq

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
