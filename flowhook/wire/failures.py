"""Conversion of errors of single events, which are data inside a successful response. See `flowhook.v1.Failure`."""

from __future__ import annotations

from typing import Final

from flowhook.errors import (
    ExhaustedError,
    FlowhookError,
    InvalidError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
)
from flowhook.v1 import failure_pb2

THROTTLED: Final = frozenset(
    {"RATE_LIMITED", "BACKLOG_FULL", "EVENT_BUFFER_FULL", "FLOW_UPLOADS_FULL", "SENDER_UPLOADS_FULL"}
)
"""Reasons that report that a limit of a flow, or of one of its senders, is reached. All other retryable reasons are
problems of the router itself."""


def failure_to_proto(error: FlowhookError) -> failure_pb2.Failure:
    """Return the error of one event as a message."""
    retry_after = error.retry_after if isinstance(error, ExhaustedError | UnavailableError) else 0
    return failure_pb2.Failure(
        reason=error.reason,
        message=error.message,
        disposition=failure_pb2.DISPOSITION_RETRYABLE if retry_after else failure_pb2.DISPOSITION_PERMANENT,
        retry_after_seconds=retry_after,
    )


def failure_from_proto(failure: failure_pb2.Failure) -> FlowhookError:
    """Return the error of one event that a message holds."""
    if failure.disposition == failure_pb2.DISPOSITION_RETRYABLE:
        kind = ExhaustedError if failure.reason in THROTTLED else UnavailableError
        return kind(failure.message, reason=failure.reason, retry_after=max(failure.retry_after_seconds, 1))
    if failure.reason == "FLOW_NOT_PERMITTED":
        return PermissionDeniedError(failure.message, reason=failure.reason)
    missing = failure.reason.endswith("_NOT_FOUND")
    return (NotFoundError if missing else InvalidError)(failure.message, reason=failure.reason)
