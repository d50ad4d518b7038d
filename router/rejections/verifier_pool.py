"""The edges that verify refused requests again when the router asks them to: it parses nothing of a sender itself."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import attrs

from flowhook.asyncio_tasks import end_tasks
from flowhook.errors import ExhaustedError, UnavailableError
from flowhook.sharing import FairQueue, Limit, current_principal
from flowhook.sharing.table import RouterLimits
from flowhook.v1 import rejection_service_pb2 as pb

MAX_VERIFIERS: Final = 1000  # most edges attached at a time
VERIFICATION_SECONDS: Final = 10.0  # timeout of a verification, by whichever edges
# how long a verification waits for an edge when none is attached: after a restart they attach again
ATTACH_SECONDS: Final = 2.0


Write = Callable[[pb.AttachVerifierResponse], Awaitable[None]]


class _VerifierLostError(Exception):
    """The stream of an edge ended before it answered."""


@attrs.define(eq=False, repr=False)
class _Verifier:
    """An attached edge: what it is to be sent, and what it is asked."""

    _asked: int = 0
    # as long as `_waiting` at most
    _outgoing: asyncio.Queue[pb.AttachVerifierResponse] = attrs.field(factory=asyncio.Queue)
    _waiting: dict[str, asyncio.Future[pb.AttachVerifierRequest]] = attrs.field(factory=dict)

    async def ask(self, request: pb.AttachVerifierResponse) -> pb.AttachVerifierRequest:
        """Send a request to the edge, and return its answer; `_VerifierLostError`: the stream ended first."""
        self._asked += 1
        asked = pb.AttachVerifierResponse()
        asked.CopyFrom(request)
        asked.verification_id = str(self._asked)
        answer: asyncio.Future[pb.AttachVerifierRequest] = asyncio.get_running_loop().create_future()
        self._waiting[asked.verification_id] = answer
        self._outgoing.put_nowait(asked)
        try:
            return await answer
        finally:
            del self._waiting[asked.verification_id]

    async def send_all(self, write: Write) -> None:
        while True:
            await write(await self._outgoing.get())

    async def read_all(self, answers: AsyncIterator[pb.AttachVerifierRequest]) -> None:
        """Receive answers until the stream ends. One that nobody waits for any more is dropped."""
        async for answer in answers:
            waiting = self._waiting.get(answer.verification_id)
            if waiting is not None and not waiting.done():
                waiting.set_result(answer)

    def end(self) -> None:
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(_VerifierLostError())


@attrs.define(eq=False, repr=False, kw_only=True)
class VerifierPool:
    """The attached edges, which are asked in turn."""

    _seconds: float = VERIFICATION_SECONDS
    _attach_seconds: float = ATTACH_SECONDS
    _limit: Limit = RouterLimits().verifications
    _attached: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _verifiers: deque[_Verifier] = attrs.field(init=False, factory=deque)
    _queue: FairQueue = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._queue = FairQueue(self._limit)

    async def serve(self, answers: AsyncIterator[pb.AttachVerifierRequest], write: Write) -> None:
        if len(self._verifiers) >= MAX_VERIFIERS:
            raise ExhaustedError("too many edges are attached", reason="TOO_MANY_VERIFIERS", retry_after=10)
        verifier = _Verifier()
        self._verifiers.append(verifier)
        self._attached.set()
        loops = [asyncio.ensure_future(verifier.send_all(write)), asyncio.ensure_future(verifier.read_all(answers))]
        try:
            await asyncio.wait(loops, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._verifiers.remove(verifier)
            if not self._verifiers:
                self._attached.clear()
            verifier.end()
            await end_tasks(loops)  # a broken stream is no news: the edge attaches again

    async def verify(self, request: pb.AttachVerifierResponse) -> pb.AttachVerifierRequest:
        """Let an edge verify a request; if its stream ends, another.

        Raises:
            ExhaustedError: too many verifications of the caller wait (`TOO_MANY_VERIFICATIONS`).
            UnavailableError: no edge is attached (`NO_VERIFIER`), none answered in time (`VERIFICATION_TIMEOUT`), or
                too many verifications wait (`VERIFICATIONS_FULL`).
        """
        try:
            async with asyncio.timeout(self._seconds), self._queue.seat(current_principal.get()):
                while True:
                    verifier = await self._next()
                    try:
                        return await verifier.ask(request)
                    except _VerifierLostError:
                        continue
        except TimeoutError:
            raise UnavailableError(
                f"no edge verified the request within {self._seconds:.0f} s: try again", reason="VERIFICATION_TIMEOUT"
            ) from None

    async def _next(self) -> _Verifier:
        try:
            async with asyncio.timeout(self._attach_seconds):
                await self._attached.wait()
        except TimeoutError:
            raise UnavailableError(
                "no edge is connected that could verify the request: start one, and try again", reason="NO_VERIFIER"
            ) from None
        self._verifiers.rotate(-1)
        return self._verifiers[-1]
