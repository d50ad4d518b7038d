"""Accepts refused requests after the fix: an edge verifies them again, and they are stored as events.

The request of a rejection, with its credentials, is stored encrypted, and only edges ever receive it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Final

import attrs

from flowhook import limits
from flowhook.errors import ConflictError, InternalError, NotFoundError, UnavailableError
from flowhook.events import ids
from flowhook.v1 import envelope_pb2, failure_pb2
from flowhook.v1 import rejection_service_pb2 as pb
from flowhook.wire import convert
from router.calls.authorization import caller_name
from router.flows.intake import EventIntake, Intake
from router.rejections.verifier_pool import VerifierPool
from router.storage.encryption import SecretCipher, derive_key
from router.storage.registry import Registry
from router.storage.rejections import RejectionLog, StoredRejection

MAX_ORIGINAL_BYTES: Final = 32 * limits.KIB  # serialized size of an original request without its body
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

    _rejections: RejectionLog
    _registry: Registry
    _verifiers: VerifierPool
    _seal: OriginalSeal
    _intake: EventIntake
    _now_ms: Callable[[], int]

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
        await self._rejections.accepted(rejection.id, intake.execution_id, by=caller_name.get(), now_ms=self._now_ms())
        return _response(rejection, intake.execution_id, duplicate=intake.duplicate)

    async def _original(self, rejection: pb.Rejection) -> pb.OriginalRequest:
        sealed = await self._rejections.sealed(rejection.id) if rejection.acceptability == ACCEPTABLE else None
        if sealed is None:
            cause = _CAUSES.get(rejection.acceptability, "what is needed to verify it again is not stored")
            raise ConflictError(f"the request can't be accepted: {cause}", reason="REJECTION_NOT_ACCEPTABLE")
        return self._seal.open(rejection, sealed)

    async def _verified(self, rejection: pb.Rejection, original: pb.OriginalRequest) -> envelope_pb2.Event:
        answer = await self._verifiers.verify(
            pb.AttachVerifierResponse(
                flow_id=rejection.flow_id,
                time=rejection.time,
                original=original,
                body=rejection.body,
                registry_revision=await self._registry.revision(),
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
