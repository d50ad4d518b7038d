"""Whether there are flows of IDs that nobody has heard of: anybody can make up thousands of those a second.

What such IDs cost the router must not depend on how many there are. Those that come while a call is under way go
together with the next one, there is one call at a time, and no more than one in `PACE_SECONDS`. What comes when too
many wait is told that nobody can say now.
"""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import Final

from edge.router import Router
from flowhook import limits, logs
from flowhook.errors import FlowhookError, UnavailableError

PACE_SECONDS: Final = 0.02
"""From the start of one call to that of the next; the first one is made at once."""

MAX_WAITING: Final = 4 * limits.MAX_FOUND_FLOWS
"""IDs that wait for a call. They wait for some 0.1 s then."""

log = logs.get_logger(__name__)


class Existence:
    """Asks the router. Every ID is asked for once at a time; see to that."""

    def __init__(self, router: Router, *, seconds: float, pace: float = PACE_SECONDS) -> None:
        """Let a call take `seconds`, and make one in `pace` seconds."""
        self._router = router
        self._seconds = seconds
        self._pace = pace
        self._now = asyncio.get_running_loop().time
        self._waiting: dict[str, asyncio.Future[bool]] = {}
        self._asking: asyncio.Task[None] | None = None
        self._next_at = 0.0

    async def of(self, flow_id: str, tasks: asyncio.TaskGroup) -> bool:
        """Return whether there is a flow.

        Args:
            flow_id: its ID, at most `limits.MAX_FLOW_ID_LENGTH` characters.
            tasks: for a task that asks for all.

        Raises:
            FlowhookError: nobody can say now.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise UnavailableError("too many flows that nobody knows are asked for", reason="LOOKUPS_FULL")
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[flow_id] = answer
        if self._asking is None:
            self._asking = tasks.create_task(self._ask(), name="ask which flows there are")
        try:
            return await answer
        finally:
            if self._waiting.get(flow_id) is answer:  # whoever asked gave up
                del self._waiting[flow_id]

    async def _ask(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(self._next_at - self._now())
                self._next_at = self._now() + self._pace
                flow_ids = list(islice(self._waiting, limits.MAX_FOUND_FLOWS))
                asked = {flow_id: self._waiting.pop(flow_id) for flow_id in flow_ids}
                if asked:
                    await self._answer(asked)
        finally:
            self._asking = None

    async def _answer(self, asked: dict[str, asyncio.Future[bool]]) -> None:
        try:
            found = await self._router.find_flows(list(asked), self._seconds)
        except FlowhookError as error:
            _refuse(asked, error)
        except Exception:
            log.exception("asking which flows there are failed")
            _refuse(asked, UnavailableError("the lookup of a flow failed"))
        else:
            for flow_id, answer in asked.items():
                if not answer.done():
                    answer.set_result(flow_id in found)


def _refuse(asked: dict[str, asyncio.Future[bool]], error: FlowhookError) -> None:
    for answer in asked.values():
        if not answer.done():
            answer.set_exception(error)
