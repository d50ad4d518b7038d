"""A shared limit for which callers wait: its seats go to the principals in turn."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from flowhook.sharing.limit import Limit, Principal, Seat, SharedLimit


class FairQueue:
    """Seats of a limit, handed to waiting principals round robin.

    A principal that has its share of the seats waits, even if others are free. Those that wait are limited in the same
    way: `Limit.waiting` of all principals together, with the same shares and the same part reserved.
    """

    def __init__(self, limit: Limit) -> None:
        self.seats = SharedLimit(limit)  # the seats that are held
        reserved = limit.waiting * limit.reserved // limit.total
        # the requests that have a seat or wait for one
        self.waiting = SharedLimit(
            replace(limit, total=limit.total + limit.waiting, reserved=limit.reserved + reserved)
        )
        self._lines: dict[bool, OrderedDict[Principal, deque[asyncio.Future[Seat]]]] = {
            essential: OrderedDict() for essential in (True, False)
        }
        """Waiting requests by principal, of essential ones and of others; whose turn it is comes first."""

    @asynccontextmanager
    async def seat(self, principal: Principal) -> AsyncIterator[None]:
        """Hold a seat for the duration of the block, after waiting for it.

        Raises:
            ExhaustedError: too many requests of the principal wait (`Limit.reason`).
            UnavailableError: too many requests of all wait (`Limit.full`).
        """
        with self.waiting.acquire(principal):
            seat = await self._wait(principal)
            try:
                yield
            finally:
                seat.release()
                self._hand_over()

    async def _wait(self, principal: Principal) -> Seat:
        lines = self._lines[principal.essential]
        if principal not in lines and self.seats.has_room(principal):
            return self.seats.acquire(principal)
        future: asyncio.Future[Seat] = asyncio.get_running_loop().create_future()
        lines.setdefault(principal, deque()).append(future)
        try:
            return await future
        except asyncio.CancelledError:
            if not future.cancelled():  # it got a seat in the turn of the loop in which it was cancelled
                future.result().release()
                self._hand_over()
            raise

    def _hand_over(self) -> None:
        """Give free seats to the principals that wait, the essential ones first."""
        for essential, lines in self._lines.items():
            passed_over = 0  # principals that have their share; there are at most as many as seats
            while passed_over < len(lines) and self.seats.free(essential=essential):
                principal, line = next(iter(lines.items()))
                lines.move_to_end(principal)
                while line and line[0].cancelled():
                    line.popleft()
                if not line:
                    del lines[principal]
                elif self.seats.has_room(principal):
                    line.popleft().set_result(self.seats.acquire(principal))
                    if not line:
                        del lines[principal]
                else:
                    passed_over += 1
