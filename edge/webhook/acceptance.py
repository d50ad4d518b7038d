"""Decides whether a flow wants a request (`webhook.accept`), before anything of it is stored.

A filter that is a plain program (`flowhook.expressions.plain_programs`) is evaluated in place, about a small body. All
else is in separate processes: each flow has one of them at a time at most. Large bodies have processes of their own,
and flows whose conditions take long have one that works when there is nothing else to do, until they are quick again.
So these delay nobody else.

Nothing is lost in silence. A request that can't be decided, because its filter fails or its conditions take too much
CPU time, is refused with 503, so that its sender tries again, and operators can accept it after the fix.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

import orjson

from edge.http import responses
from edge.http.responses import Response
from edge.webhook.offloaded import QUICK, SECONDS, SLOW, STEADY, Verdict, decide
from flowhook.document.models.webhook import Accept
from flowhook.errors import ExhaustedError, FlowhookError, InvalidError
from flowhook.expressions.plain_programs import Undecided, compile_plain
from flowhook.expressions.syntax import ExpressionTypeError, strip_markers
from flowhook.limits import MIB
from flowhook.payloads.parsing import encode_json
from flowhook.sandbox.offload import WAIT_SECONDS, Offload
from flowhook.sandbox.worker import TooCostlyError
from flowhook.sharing.table import OffloadLimits

SLOW_NS: Final = 50_000_000  # CPU time of one decision (ns) from which a flow is among the slow ones
SLOW_SECONDS: Final = 60.0  # for how long it is, after its latest such decision; twice as long when it is slow again,
MAX_SLOW_SECONDS: Final = 3600.0  # and so long at most

MAX_WAITING: Final = 1000  # decisions of one flow that wait for their turn
MAX_WAITING_BYTES: Final = 8 * MIB  # JSON of what they are about; the values in memory may be thirty times as large

FILTERED: Final = "FILTERED"
SCHEMA_VIOLATED: Final = "SCHEMA_VIOLATED"
FILTER_FAILED: Final = responses.FILTER_FAILED.reason
TOO_COSTLY: Final = responses.ACCEPT_TOO_COSTLY.reason
UNDECIDED: Final = frozenset({FILTER_FAILED, TOO_COSTLY})
"""Reasons of requests that could not be decided."""

DECIDED: Final = UNDECIDED | {FILTERED, SCHEMA_VIOLATED}
"""Reasons of requests that are listed, whatever the status of their answer."""

STORED: Final = UNDECIDED | {SCHEMA_VIOLATED}
"""Reasons of requests that operators can accept after the fix: their senders are authenticated."""

_CAUSES: Final = {
    FILTERED: "the flow's filter is false",
    TOO_COSTLY: f"the flow's conditions take more than {SECONDS:g} s of CPU time, or too much memory",
}


class Refused(Exception):  # noqa: N818 - carries a response, not an error
    """The request is refused with a response. `error` is what operators learn of the cause, if that is more."""

    def __init__(self, response: Response, error: FlowhookError | None = None) -> None:
        super().__init__(response.status, response.reason)
        self.response = response
        self.error = error


class CompiledAcceptance:
    """What one flow accepts."""

    def __init__(self, accept: Accept) -> None:
        program = None if accept.filter is None else strip_markers(accept.filter)
        schema = None if accept.schema_ is None else accept.schema_.document
        self.conditions = orjson.dumps([program, schema])  # for `offloaded.decide`
        # the same without the filter; None: there is no schema
        self.schema_alone = None if schema is None else orjson.dumps([None, schema])
        # of decisions that may be quick: one at a time, so that the next ones know it if one is not
        self.turn = asyncio.Lock()
        self.waiting = self.waiting_bytes = 0  # decisions that wait for their turn, and bytes that they are about
        self._slow_seconds = SLOW_SECONDS / 2
        self._slow_until = 0.0  # by the monotonic clock
        # the filter as a closure; None: there is none, or it is not plain
        self._filter = None if program is None else compile_plain(f"${{{program}}}")
        self._filtered = responses.build_response(accept.otherwise.filtered, (), b"", reason=FILTERED)
        self._invalid = accept.otherwise.invalid

    @property
    def is_slow(self) -> bool:
        return time.monotonic() < self._slow_until

    def took(self, cpu_ns: float) -> None:
        """Note the CPU time of a decision."""
        if cpu_ns > SLOW_NS:
            if not self.is_slow:  # to find that out has cost others a process
                self._slow_seconds = min(2 * self._slow_seconds, MAX_SLOW_SECONDS)
            self._slow_until = time.monotonic() + self._slow_seconds

    def decide_plain(self, view: Any) -> bool | None:
        """Return whether the filter passes a value of `.`; None: jq has to decide that."""
        if self._filter is None:
            return None
        try:
            value = self._filter(view, {})
        except (Undecided, ExpressionTypeError, RecursionError):
            return None
        return value is not None and value is not False

    def refusal(self, verdict: Verdict) -> Refused:
        """Return how a request is refused that is not wanted, and the cause for operators."""
        reason = verdict.reason
        if reason == FILTERED:
            response = self._filtered
        elif reason == SCHEMA_VIOLATED:
            errors = [
                {"pointer": f"#{pointer}", "detail": f"does not meet {rule}"} for pointer, rule in verdict.violations
            ]
            response = responses.problem(
                self._invalid, reason, f"The request is not what this URL accepts: {verdict.detail}.", errors=errors
            )
        else:
            response = responses.FILTER_FAILED if reason == FILTER_FAILED else responses.ACCEPT_TOO_COSTLY
            reason = response.reason
        return Refused(response, InvalidError(verdict.detail or _CAUSES[reason], reason=reason))

    @asynccontextmanager
    async def wait_turn(self, size: int) -> AsyncIterator[None]:
        """Wait for the turn of a decision about so many bytes; ExhaustedError: too many wait, or for too long."""
        if self.waiting >= MAX_WAITING or self.waiting_bytes + size > MAX_WAITING_BYTES:
            raise ExhaustedError("too many decisions are waiting", reason="OVERLOADED")
        self.waiting += 1
        self.waiting_bytes += size
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self.turn.acquire()
        except TimeoutError:
            raise ExhaustedError("too many decisions are waiting", reason="OVERLOADED") from None
        finally:
            self.waiting -= 1
            self.waiting_bytes -= size
        try:
            yield
        finally:
            self.turn.release()


class AcceptanceChecks:
    """Decides what flows accept, in processes for small and large bodies and for slow flows. Close it at the end."""

    def __init__(self) -> None:
        imports, shared = "flowhook.json.schemas", OffloadLimits()
        one = replace(shared, processes=replace(shared.processes, total=1))
        self._small = Offload("deciding what flows accept", imports=imports)
        self._large = Offload("deciding what flows accept of large bodies", imports=imports)
        self._slow = Offload("deciding what slow flows accept", imports=imports, shared=one)

    async def check(self, flow_id: str, acceptance: CompiledAcceptance, view: dict[str, Any]) -> None:
        """Decide about a small request, given the value of `.`.

        Raises:
            Refused: the flow does not want it, or that can't be decided.
            ExhaustedError: too many of the flow wait.
        """
        passes = acceptance.decide_plain(view)
        if passes is False:
            raise acceptance.refusal(Verdict(FILTERED))
        if passes and acceptance.schema_alone is None:
            return
        conditions = (acceptance.schema_alone if passes else None) or acceptance.conditions
        text = encode_json(view)
        if not acceptance.is_slow:
            async with acceptance.wait_turn(len(text)):
                if not acceptance.is_slow:
                    with contextlib.suppress(TooCostlyError):
                        await self._decide(flow_id, acceptance, self._small, QUICK, conditions, text)
                        return
                    acceptance.took(math.inf)
        await self._decide_within_bounds(flow_id, acceptance, self._slow, SLOW, conditions, text)

    async def check_unparsed(
        self, flow_id: str, acceptance: CompiledAcceptance, kind: bytes, view: bytes, body: bytes
    ) -> None:
        """Do the same for a large or compressed body; see `decide`, whose InvalidError may be raised too."""
        offload, pace = (self._slow, SLOW) if acceptance.is_slow else (self._large, STEADY)
        await self._decide_within_bounds(flow_id, acceptance, offload, pace, acceptance.conditions, view, kind, body)

    async def _decide_within_bounds(
        self, flow_id: str, acceptance: CompiledAcceptance, offload: Offload, *parts: bytes
    ) -> None:
        try:
            await self._decide(flow_id, acceptance, offload, *parts)
        except TooCostlyError:
            acceptance.took(math.inf)
            raise acceptance.refusal(Verdict(TOO_COSTLY)) from None

    async def _decide(self, flow_id: str, acceptance: CompiledAcceptance, offload: Offload, *parts: bytes) -> None:
        (answer,) = await offload.run(flow_id, decide, *parts)
        verdict = Verdict(*orjson.loads(answer))
        acceptance.took(verdict.cpu_ns)
        if verdict.reason:
            raise acceptance.refusal(verdict)

    async def aclose(self) -> None:
        for offload in (self._small, self._large, self._slow):
            await offload.aclose()
