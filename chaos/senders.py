"""Senders: each sends events one after another, and repeats each until it is acknowledged."""

from __future__ import annotations

import asyncio
import hashlib
import io
import math
import random
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import aiohttp
import orjson

from chaos import flows
from chaos.cluster import BrokenCluster
from chaos.service import token_of

TIMEOUT: Final = aiohttp.ClientTimeout(total=20)
RETRY_SECONDS: Final = 0.1
SENDERS_OF_FLOW: Final = 4
"""Senders of each flow; each has an order key of its own, so that events of one key are sent in order."""
REPLY_PAUSE_SECONDS: Final = 0.5
JSON: Final = {"Content-Type": "application/json"}
OK: Final = 200
ACCEPTED: Final = 202
GONE: Final = 410
"""Status of a one-time URL that was used: by an earlier request for the same callback, whose answer was lost."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """An event that was answered with 2xx; times are of `time.monotonic()`.

    Attributes:
        delivery: names it among all events that were sent.
        asked: when the request that was answered began.
        at: when it was answered.
        requests: that were made for it, each of which may have been accepted.
        digest: SHA-256 of the whole body, if that is large.
    """

    flow_id: str
    event_id: str
    asked: float
    at: float
    delivery: str = ""
    requests: int = 1
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer of a flow to its sender.

    Attributes:
        event_id: of the execution that the answer names.
        right: whether it is what the flow answered.
        later: whether the sender got it by `Location`.
    """

    delivery: str
    event_id: str
    right: bool
    later: bool


@dataclass(slots=True)
class Sent:
    """What became of what was sent.

    Attributes:
        acknowledged: events.
        answers: of flows in mode reply.
        callbacks: that were acknowledged, or whose URL was used up, by delivery.
        unanswered: deliveries, replies and callbacks that were given up.
        requests: that were made.
    """

    acknowledged: list[Acknowledged] = field(default_factory=list)
    answers: list[Answered] = field(default_factory=list)
    callbacks: set[str] = field(default_factory=set)
    unanswered: list[str] = field(default_factory=list)
    requests: int = 0


class Senders:
    """Sends to all flows of the campaign, and calls them back.

    Args:
        cluster: gets the events.
        large_bytes: size of what a large body contains.
        patience: how long after `stop` a request is still repeated (s).

    Attributes:
        sent: what became of it so far.
    """

    def __init__(self, cluster: BrokenCluster, *, large_bytes: int, patience: float) -> None:
        self._cluster = cluster
        self._large_bytes = large_bytes
        self._patience = patience
        self._end = math.inf
        self._stopped = asyncio.Event()
        self._called_back: set[str] = set()
        self._callbacks: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self.sent = Sent()

    def call_back(self, delivery: str, url: str) -> None:
        """Send a flow the callback that belongs to a delivery, once, to its one-time URL or another one."""
        if delivery not in self._called_back:
            self._called_back.add(delivery)
            self._callbacks.put_nowait((delivery, url))

    def stop(self) -> None:
        """Begin no further event."""
        self._end = time.monotonic()
        self._stopped.set()

    async def run(self, *, rate: float) -> None:
        """Send at most `rate` events a second, all flows together, until `stop`."""
        weights = {flow.name: flow.rate for flow in flows.FLOWS.values() if flow.rate}
        pause = SENDERS_OF_FLOW * sum(weights.values()) / rate
        async with aiohttp.ClientSession(timeout=TIMEOUT) as session, asyncio.TaskGroup() as tasks:
            for flow_id, weight in weights.items():
                for key in range(SENDERS_OF_FLOW):
                    tasks.create_task(self._send_all(session, flow_id, key, pause / weight))

    async def run_callbacks(self) -> None:
        """Send callbacks until this is cancelled."""
        async with aiohttp.ClientSession(timeout=TIMEOUT) as session, asyncio.TaskGroup() as tasks:
            for _ in range(SENDERS_OF_FLOW):
                tasks.create_task(self._send_callbacks(session))

    async def _send_all(self, session: aiohttp.ClientSession, flow_id: str, key: int, pause: float) -> None:
        number = 0
        while (now := time.monotonic()) < self._end:
            await self._send(session, flow_id, key, number)
            number += 1
            with suppress(TimeoutError):
                async with asyncio.timeout(now + pause - time.monotonic()):
                    await self._stopped.wait()

    async def _send(self, session: aiohttp.ClientSession, flow_id: str, key: int, number: int) -> None:
        delivery = f"{flow_id}-{key}-{number}"
        event: dict[str, Any] = {"delivery": delivery, "n": number, "key": key}
        if flow_id == flows.LARGE:
            event["text"] = random.Random(delivery).randbytes(self._large_bytes // 2).hex()
            event["digest"] = hashlib.sha256(event["text"].encode()).hexdigest()
        body = orjson.dumps(event)
        digest = hashlib.sha256(body).hexdigest() if flow_id == flows.LARGE else ""
        answer = await self._until_accepted(session, f"{self._cluster.http_url}/hook/{flow_id}", body)
        if answer is None:
            self.sent.unanswered.append(f"event {delivery}")
            return
        event_id = answer.content["id"]
        self.sent.acknowledged.append(
            Acknowledged(flow_id, event_id, answer.asked, answer.at, delivery, answer.requests, digest)
        )
        if flow_id == flows.CORRELATED:
            self.call_back(delivery, f"{self._cluster.http_url}/hook/{flow_id}/decision")
        if flow_id == flows.REPLY:
            await self._take_reply(session, delivery, answer)

    async def _take_reply(self, session: aiohttp.ClientSession, delivery: str, answer: _Answer) -> None:
        later = answer.status == ACCEPTED
        if later:
            url = f"{self._cluster.http_url}{answer.location}"
            found = await self._until_accepted(session, url, None)
            if found is None:
                self.sent.unanswered.append(f"reply to {delivery}")
                return
            answer = found
        right = answer.status == OK and answer.content.get("token") == token_of(delivery)
        self.sent.answers.append(Answered(delivery, str(answer.content.get("id", "")), right, later))

    async def _send_callbacks(self, session: aiohttp.ClientSession) -> None:
        while True:
            delivery, url = await self._callbacks.get()
            if await self._until_accepted(session, url, orjson.dumps({"delivery": delivery}), used=GONE) is None:
                self.sent.unanswered.append(f"callback of {delivery}")
            else:
                self.sent.callbacks.add(delivery)

    async def _until_accepted(
        self, session: aiohttp.ClientSession, url: str, body: bytes | None, *, used: int = 0
    ) -> _Answer | None:
        """Repeat a request, as senders do, until it is answered with 2xx or `used`; None: it was given up.

        Without a body it asks for a reply, until that is there.
        """
        requests = 0
        while time.monotonic() < self._end + self._patience:
            self.sent.requests += 1
            requests += 1
            asked = time.monotonic()
            pause = RETRY_SECONDS
            try:
                method = "GET" if body is None else "POST"
                async with session.request(
                    method, url, data=None if body is None else io.BytesIO(body), headers=JSON
                ) as response:
                    content = await response.read()
                    if response.status == ACCEPTED and body is None:
                        pause = REPLY_PAUSE_SECONDS
                    elif response.ok or response.status == used:
                        location = response.headers.get("Location", "")
                        parsed = orjson.loads(content)
                        return _Answer(response.status, parsed, location, asked, time.monotonic(), requests)
            except (aiohttp.ClientError, TimeoutError, ValueError):
                pass  # as a sender does: it knows nothing, and tries again
            await asyncio.sleep(pause)
        return None


class _Answer(NamedTuple):
    status: int
    content: dict[str, Any]
    location: str
    asked: float
    at: float
    requests: int
