"""Errors, classed by what the caller can do next.

Each carries a stable `reason` in UPPER_SNAKE_CASE that programs branch on, and a message for people. `wire.status`
holds the one table that maps the classes to gRPC codes and back; the edge maps them to HTTP statuses. The module that
uses a driver (apsw, grpc, OSError) translates its errors into these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


class FlowhookError(Exception):
    """Base class of all errors that are reported to a caller.

    Attributes:
        reason: stable cause in UPPER_SNAKE_CASE, at most 63 characters.
        message: explanation for developers, without secrets.
        metadata: the variable parts of the message, keyed in lower_snake_case.
    """

    default_reason = "INTERNAL"

    def __init__(self, message: str, *, reason: str | None = None, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.metadata: Mapping[str, str] = dict(metadata or {})


class InvalidError(FlowhookError):
    """The request is invalid and can never succeed: correct it."""

    default_reason = "INVALID"


class UnauthenticatedError(FlowhookError):
    """The caller is not authenticated: present credentials."""

    default_reason = "UNAUTHENTICATED"


class PermissionDeniedError(FlowhookError):
    """The caller lacks permission: use other credentials."""

    default_reason = "PERMISSION_DENIED"


class NotFoundError(FlowhookError):
    """The resource that the request names does not exist."""

    default_reason = "NOT_FOUND"


class ConflictError(FlowhookError):
    """The request conflicts with the current state: read that again, then decide."""

    default_reason = "CONFLICT"


class OutOfRangeError(FlowhookError):
    """The requested position is no longer available: start over from a current one."""

    default_reason = "OUT_OF_RANGE"


class ExhaustedError(FlowhookError):
    """A limit is reached: try again after `retry_after` seconds."""

    default_reason = "EXHAUSTED"

    def __init__(self, message: str, *, reason: str | None = None, retry_after: int = 1) -> None:
        super().__init__(message, reason=reason, metadata={"retry_after": str(retry_after)})
        self.retry_after = retry_after


class UnavailableError(FlowhookError):
    """A dependency is unavailable: try again after `retry_after` seconds."""

    default_reason = "UNAVAILABLE"

    def __init__(self, message: str, *, reason: str | None = None, retry_after: int = 1) -> None:
        super().__init__(message, reason=reason, metadata={"retry_after": str(retry_after)})
        self.retry_after = retry_after


class InternalError(FlowhookError):
    """A defect of Flowhook: report it."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One error in a flow file."""

    file: str  # name of the file as the user gave it
    line: int  # line of the offending key or value, from 1; 0 when it concerns the whole file
    key: str  # dotted path of the key, for example `do[0].announce.call`; empty for the whole file
    cause: str  # what is wrong and, where possible, what would be right
    code: str = ""  # stable word for programs (`flowhook.document.diagnostics.problems`); empty: unknown

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.key}: {self.cause}" if self.key else f"{where}: {self.cause}"


class InvalidFlowError(InvalidError):
    """A flow file can't be applied; carries all faults that were found in it."""

    default_reason = "FLOW_INVALID"

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = faults
