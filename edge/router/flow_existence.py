"""Batches existence checks of unknown flow IDs, of which anybody can make up thousands a second.

The cost to the router must not depend on the number of such IDs. IDs that arrive during a call are batched into the
next one; there is one call at a time, and at most one per `PACE_SECONDS`. When too many IDs are waiting, a further
check fails at once.
"""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import Final

from edge.router.client import RouterClient
from flowhook import limits
from flowhook.errors import FlowhookError, UnavailableError
from flowhook.process import logs

# Minimum time from the start of one call to the start of the next; the first call is made at once.
PACE_SECONDS: Final = 0.02
MAX_WAITING: Final = 4 * limits.MAX_FOUND_FLOWS  # IDs that may wait for a call. At this limit the wait is some 0.1 s.

log = logs.get_logger(__name__)


class FlowExistence:
    """Looks up in batches which flows exist. An ID must not be looked up again while its lookup is pending."""

    def __init__(self, router: RouterClient, *, seconds: float, pace: float = PACE_SECONDS) -> None:
        """Allow `seconds` for a call, and make at most one call in `pace` seconds."""
        self._router = router
        self._seconds = seconds
        self._pace = pace
        self._now = asyncio.get_running_loop().time
        self._waiting: dict[str, asyncio.Future[bool]] = {}
        self._asking: asyncio.Task[None] | None = None
        self._next_at = 0.0

    async def of(self, flow_id: str, tasks: asyncio.TaskGroup) -> bool:
        """Return whether a flow exists.

        Args:
            flow_id: its ID, at most `limits.MAX_FLOW_ID_LENGTH` characters.
            tasks: group in which the task that makes the batched calls is started.

        Raises:
            FlowhookError: the check failed, or too many IDs are waiting.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise UnavailableError("too many lookups of unknown flows", reason="LOOKUPS_FULL")
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[flow_id] = answer
        if self._asking is None:
            self._asking = tasks.create_task(self._ask(), name="ask which flows there are")
        try:
            return await answer
        finally:
            if self._waiting.get(flow_id) is answer:  # the caller gave up
                del self._waiting[flow_id]

    async def _ask(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(self._next_at - self._now())
                self._next_at = self._now() + self._pace
                flow_ids = list(islice(self._waiting, limits.MAX_FOUND_FLOWS))
                lookups = {flow_id: self._waiting.pop(flow_id) for flow_id in flow_ids}
                if lookups:
                    await self._answer(lookups)
        finally:
            self._asking = None

    async def _answer(self, lookups: dict[str, asyncio.Future[bool]]) -> None:
        try:
            found = await self._router.find_flows(list(lookups), self._seconds)
        except FlowhookError as error:
            _refuse(lookups, error)
        except Exception:
            log.exception("asking which flows there are failed")
            _refuse(lookups, UnavailableError("the lookup of a flow failed"))
        else:
            for flow_id, answer in lookups.items():
                if not answer.done():
                    answer.set_result(flow_id in found)


def _refuse(lookups: dict[str, asyncio.Future[bool]], error: FlowhookError) -> None:
    for answer in lookups.values():
        if not answer.done():
            answer.set_exception(error)
