"""Senders: each sends events one after another, and repeats each until it is acknowledged."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Final

import aiohttp

from chaos import flows
from chaos.cluster import BrokenCluster

TIMEOUT: Final = aiohttp.ClientTimeout(total=20)
RETRY_SECONDS: Final = 0.1
SENDERS_OF_FLOW: Final = 4
"""Senders of each flow; each has an order key of its own, so that events of one key are sent in order."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """An event that was answered with 2xx.

    Attributes:
        asked: `time.monotonic()` at which the request that was answered began.
        at: `time.monotonic()` at which it was answered.
    """

    flow_id: str
    event_id: str
    asked: float
    at: float


class Senders:
    """Sends to all flows of the campaign."""

    def __init__(self, cluster: BrokenCluster) -> None:
        self._cluster = cluster
        self._stopping = False
        self.acknowledged: list[Acknowledged] = []
        self.requests = 0

    async def run(self, seconds: float, *, rate: float) -> None:
        """Send for some time at most `rate` events a second, all flows together."""
        pause = len(flows.FLOWS) * SENDERS_OF_FLOW / rate
        end = time.monotonic() + seconds
        async with aiohttp.ClientSession(timeout=TIMEOUT) as session, asyncio.TaskGroup() as tasks:
            for flow_id in flows.FLOWS:
                for key in range(SENDERS_OF_FLOW):
                    tasks.create_task(self._send_all(session, flow_id, key, pause, end))

    async def _send_all(self, session: aiohttp.ClientSession, flow_id: str, key: int, pause: float, end: float) -> None:
        number = 0
        while (now := time.monotonic()) < end:
            await self._send(session, flow_id, key, number)
            number += 1
            await asyncio.sleep(max(0.0, now + pause - time.monotonic()))

    async def _send(self, session: aiohttp.ClientSession, flow_id: str, key: int, number: int) -> None:
        event = {"delivery": f"{flow_id}-{key}-{number}", "n": number, "key": key}
        while True:
            self.requests += 1
            asked = time.monotonic()
            try:
                async with session.post(f"{self._cluster.http_url}/hook/{flow_id}", json=event) as response:
                    answer = await response.json()
                    if response.ok:
                        self.acknowledged.append(Acknowledged(flow_id, answer["id"], asked, time.monotonic()))
                        return
            except (aiohttp.ClientError, TimeoutError, ValueError):
                pass  # as a sender does: it knows nothing, and tries again
            await asyncio.sleep(RETRY_SECONDS)
