"""Mapping of gRPC statuses to errors of the DSL.

Source: https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto (statuses of HTTP),
https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto (RetryInfo).
"""

from __future__ import annotations

from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

from runner.interpreter.errors import Kind, TaskFault, fault
from runner.outbound.retry_after import to_delay_ms

MEANINGS: Final = {
    StatusCode.CANCELLED: (Kind.COMMUNICATION, 499),
    StatusCode.UNKNOWN: (Kind.COMMUNICATION, 500),
    StatusCode.INVALID_ARGUMENT: (Kind.COMMUNICATION, 400),
    StatusCode.DEADLINE_EXCEEDED: (Kind.TIMEOUT, 408),
    StatusCode.NOT_FOUND: (Kind.COMMUNICATION, 404),
    StatusCode.ALREADY_EXISTS: (Kind.COMMUNICATION, 409),
    StatusCode.PERMISSION_DENIED: (Kind.AUTHORIZATION, 403),
    StatusCode.RESOURCE_EXHAUSTED: (Kind.COMMUNICATION, 429),
    StatusCode.FAILED_PRECONDITION: (Kind.COMMUNICATION, 400),
    StatusCode.ABORTED: (Kind.COMMUNICATION, 409),
    StatusCode.OUT_OF_RANGE: (Kind.COMMUNICATION, 400),
    StatusCode.UNIMPLEMENTED: (Kind.COMMUNICATION, 501),
    StatusCode.INTERNAL: (Kind.COMMUNICATION, 500),
    StatusCode.UNAVAILABLE: (Kind.COMMUNICATION, 503),
    StatusCode.DATA_LOSS: (Kind.COMMUNICATION, 500),
    StatusCode.UNAUTHENTICATED: (Kind.AUTHENTICATION, 401),
}

_DETAILS: Final = "grpc-status-details-bin"
_TOO_LARGE: Final = "CLIENT: Received message larger than max"
"""Message of the local gRPC client, reported as if the server had sent it."""


def fault_of(problem: grpc.aio.AioRpcError, what: str) -> TaskFault:
    """Return the error for a failed call; `what` names the called method."""
    code, said = problem.code(), problem.details() or ""
    if code is StatusCode.RESOURCE_EXHAUSTED and _TOO_LARGE in said:
        return fault(Kind.COMMUNICATION, f"{what}: a message of the response is too large")
    kind, status = MEANINGS[code]
    detail = f"{what} answered {code.name}" + (f": {said}" if said else "")
    return fault(kind, detail, status=status, retry_after_ms=_retry_after_ms(problem))


def _retry_after_ms(problem: grpc.aio.AioRpcError) -> int:
    """Return the wait before a retry that the server asks for; 0: none."""
    try:
        metadata: Any = problem.trailing_metadata() or ()
        for key, value in metadata:
            if key == _DETAILS and isinstance(value, bytes):
                for detail in status_pb2.Status.FromString(value).details:
                    info = error_details_pb2.RetryInfo()
                    if detail.Unpack(info):
                        return to_delay_ms(info.retry_delay.ToTimedelta().total_seconds())
    except (DecodeError, ValueError, OverflowError):
        pass  # invalid details don't change how the call fails
    return 0
