"""Accepts refused requests after the fix: an edge verifies them again, and they are stored as events.

The request of a rejection, with its credentials, is stored encrypted, and only edges ever receive it: the router parses
nothing of a sender itself.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final

import attrs

from flowhook import limits
from flowhook.asyncio_tasks import first
from flowhook.errors import ConflictError, ExhaustedError, InternalError, NotFoundError, UnavailableError
from flowhook.events import ids
from flowhook.sharing import FairQueue, current_principal
from flowhook.sharing.table import RouterLimits
from flowhook.v1 import envelope_pb2, failure_pb2
from flowhook.v1 import rejection_service_pb2 as pb
from flowhook.wire import convert
from router.calls.authorization import caller
from router.flows.intake import EventIntake, Intake
from router.storage.encryption import SecretCipher, derive_key
from router.storage.rejections import StoredRejection
from router.storage.storage import Storage

MAX_ORIGINAL_BYTES: Final = 32 * limits.KIB  # serialized size of an original request without its body
MAX_VERIFIERS: Final = 1000  # most edges attached at a time
VERIFICATION_SECONDS: Final = 10.0  # timeout of a verification, by whichever edges
# how long a verification waits for an edge when none is attached: after a restart they attach again
ATTACH_SECONDS: Final = 2.0
ACCEPTABLE: Final = pb.Rejection.ACCEPTABILITY_ACCEPTABLE
INCOMPLETE: Final = pb.Rejection.ACCEPTABILITY_INCOMPLETE

_CAUSES: Final[Mapping[int, str]] = {
    pb.Rejection.ACCEPTABILITY_NOT_AUTHENTICATION: "it was not refused for its credentials or its signature",
    pb.Rejection.ACCEPTABILITY_NOT_STORED: "the flow did not store it (webhook.keep_rejected_bodies)",
    INCOMPLETE: "not all of it was received, or it is too large to be stored",
    pb.Rejection.ACCEPTABILITY_ONE_TIME_URL: "the token of its one-time URL is not stored",
    pb.Rejection.ACCEPTABILITY_NOT_REFUSED: "it was not refused",
}

_MISSING: Final = frozenset({"FLOW_NOT_FOUND", "CALLBACK_NOT_FOUND"})

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
    _attached: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _verifiers: deque[_Verifier] = attrs.field(init=False, factory=deque)
    _queue: FairQueue = attrs.field(init=False, factory=lambda: FairQueue(RouterLimits().verifications))

    async def serve(self, answers: AsyncIterator[pb.AttachVerifierRequest], write: Write) -> None:
        if len(self._verifiers) >= MAX_VERIFIERS:
            raise ExhaustedError("too many edges are attached", reason="TOO_MANY_VERIFIERS", retry_after=10)
        verifier = _Verifier()
        self._verifiers.append(verifier)
        self._attached.set()
        try:
            # a broken stream is no news: the edge attaches again
            await first(verifier.send_all(write), verifier.read_all(answers))
        finally:
            self._verifiers.remove(verifier)
            if not self._verifiers:
                self._attached.clear()
            verifier.end()

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


class OriginalSeal:
    """Encrypts original requests, each bound to its rejection and its body."""

    def __init__(self, key: bytes) -> None:
        self._cipher = SecretCipher(derive_key(key, b"flowhook rejections"))

    def seal(self, rejection: pb.Rejection, original: pb.OriginalRequest) -> bytes:
        return self._cipher.encrypt(_name_of(rejection), original.SerializeToString())

    def open(self, rejection: pb.Rejection, sealed: bytes) -> pb.OriginalRequest:
        try:
            return pb.OriginalRequest.FromString(self._cipher.open(_name_of(rejection), sealed))
        except ConflictError:
            raise ConflictError(
                "the stored request can't be decrypted: the router's key for secrets has changed",
                reason="REJECTION_UNREADABLE",
            ) from None


@attrs.define(eq=False, repr=False, kw_only=True)
class RejectionAcceptance:
    """Verifies refused requests again, and stores those that pass."""

    _storage: Storage
    _intake: EventIntake
    _now_ms: Callable[[], int]
    seal: OriginalSeal
    verifiers: VerifierPool = attrs.field(init=False, factory=VerifierPool)

    async def accept(self, found: StoredRejection) -> pb.AcceptRejectionResponse:
        """Accept a refused request, and return its event. Accepting it again returns the same event.

        Raises:
            FlowhookError: it does not pass; see protos/flowhook/v1/rejection_service.proto.
        """
        rejection = pb.Rejection.FromString(found.content)
        if found.accept_time_ms is not None:
            return _response(rejection, found.accepted_id, duplicate=True)
        event = await self._verified(rejection, await self._original(rejection))
        if (event.flow_id, event.callback) != (found.flow_id, rejection.callback):
            raise InternalError("an edge returned the event of another endpoint", reason="VERIFICATION_INVALID")
        # made of the rejection's ID, so that accepting it twice is one event, also when the router ends in between
        event.id = ids.PREFIX + rejection.id.partition("_")[2]
        intake = Intake(event, rejection.id)
        await self._intake.store([intake])
        if intake.error is not None:
            raise intake.error
        await self._storage.rejections.accepted(
            rejection.id, intake.execution_id, by=caller.get().name, now_ms=self._now_ms()
        )
        return _response(rejection, intake.execution_id, duplicate=intake.duplicate)

    async def _original(self, rejection: pb.Rejection) -> pb.OriginalRequest:
        sealed = await self._storage.rejections.sealed(rejection.id) if rejection.acceptability == ACCEPTABLE else None
        if sealed is None:
            cause = _CAUSES.get(rejection.acceptability, "what is needed to verify it again is not stored")
            raise ConflictError(f"the request can't be accepted: {cause}", reason="REJECTION_NOT_ACCEPTABLE")
        return self.seal.open(rejection, sealed)

    async def _verified(self, rejection: pb.Rejection, original: pb.OriginalRequest) -> envelope_pb2.Event:
        answer = await self.verifiers.verify(
            pb.AttachVerifierResponse(
                flow_id=rejection.flow_id,
                time=rejection.time,
                original=original,
                body=rejection.body,
                registry_revision=await self._storage.registry.revision(),
            )
        )
        if answer.HasField("event"):
            return answer.event
        refusal = answer.refusal
        if refusal.reason in _MISSING:
            raise NotFoundError(refusal.message, reason=refusal.reason)
        if refusal.disposition == failure_pb2.DISPOSITION_RETRYABLE:
            raise UnavailableError(refusal.message, reason=refusal.reason, retry_after=refusal.retry_after_seconds or 1)
        raise ConflictError(
            f"the request is still refused: {refusal.reason}: {refusal.message}",
            reason="STILL_REFUSED",
            metadata={"reason": refusal.reason},
        )


def pop_original(rejection: pb.Rejection) -> pb.OriginalRequest | None:
    """Remove the original request from a report and return it; None: there is none that could be verified again."""
    original = pb.OriginalRequest()
    original.CopyFrom(rejection.original)
    rejection.ClearField("original")
    if rejection.acceptability != ACCEPTABLE:
        return None
    if not original.target or original.ByteSize() > MAX_ORIGINAL_BYTES:
        rejection.acceptability = INCOMPLETE
        return None
    return original


def resolved(found: StoredRejection) -> pb.Rejection:
    rejection = pb.Rejection.FromString(found.content)
    if found.accept_time_ms is not None:
        rejection.accepted_event_id = found.accepted_id
        rejection.accepted_by = found.accepted_by
        rejection.accept_time.CopyFrom(convert.timestamp(found.accept_time_ms))
    return rejection


def _response(rejection: pb.Rejection, event_id: str, *, duplicate: bool) -> pb.AcceptRejectionResponse:
    execution_id = "" if rejection.callback else event_id
    return pb.AcceptRejectionResponse(event_id=event_id, execution_id=execution_id, duplicate=duplicate)


def _name_of(rejection: pb.Rejection) -> str:
    return f"{rejection.id} {rejection.flow_id} {hashlib.sha256(rejection.body).hexdigest()}"
