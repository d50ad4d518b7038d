"""Errors in gRPC: of calls, as google.rpc.Status with ErrorInfo, and of single events, as data in a response.

Source: AIP-193 (errors), google/rpc/error_details.proto. Faults of a flow file travel as BadRequest violations whose
field is `INDEX:LINE:KEY`, INDEX being the document's position in the request; the reason is the fault's code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NoReturn, cast

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2

from flowhook import errors
from flowhook.v1 import failure_pb2

DOMAIN: Final = "flowhook"
_DETAILS: Final = "grpc-status-details-bin"  # trailing metadata that carries a google.rpc.Status
MAX_MESSAGE: Final = 512  # bytes of one text in an error that are sent
# serialized faults of flow files that are sent; a status is sent as metadata, which gRPC limits to 8 KiB in total
MAX_FAULT_BYTES: Final = 4096
MORE_FAULTS: Final = "MORE_PROBLEMS"  # code of the fault that stands for those that are not sent

CODES: Final[Sequence[tuple[type[errors.FlowhookError], grpc.StatusCode]]] = (
    (errors.InvalidError, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.UnauthenticatedError, grpc.StatusCode.UNAUTHENTICATED),
    (errors.PermissionDeniedError, grpc.StatusCode.PERMISSION_DENIED),
    (errors.NotFoundError, grpc.StatusCode.NOT_FOUND),
    (errors.ConflictError, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.OutOfRangeError, grpc.StatusCode.OUT_OF_RANGE),
    (errors.ExhaustedError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.UnavailableError, grpc.StatusCode.UNAVAILABLE),
    (errors.InternalError, grpc.StatusCode.INTERNAL),
)
"""Error classes in the order in which they are tried, with the code of each."""

_KINDS: Final[Mapping[grpc.StatusCode, type[errors.FlowhookError]]] = {
    **{code: kind for kind, code in CODES},
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.UnavailableError,
    grpc.StatusCode.CANCELLED: errors.UnavailableError,
    grpc.StatusCode.ABORTED: errors.ConflictError,
    grpc.StatusCode.ALREADY_EXISTS: errors.ConflictError,
}

assert all(code.value[0] == code_pb2.Code.Value(code.name) for _, code in CODES)  # noqa: S101 - one numbering, two enums

THROTTLED: Final = frozenset(
    {"RATE_LIMITED", "RATE_KEYS_FULL", "BACKLOG_FULL", "EVENT_BUFFER_FULL", "FLOW_UPLOADS_FULL", "SENDER_UPLOADS_FULL"}
)
"""Reasons that report that a limit of a flow, or of one of its senders, is reached. All other retryable reasons are
problems of the router itself."""

_CAUSES: Final = (
    (
        "Hostname Verification Check failed",
        ": its certificate is not valid for this host name; connect by a name that the certificate contains",
    ),
    (
        "Tls handshake failed",
        ": the TLS handshake failed; check that it uses TLS, with a certificate of an authority in the CA file",
    ),
    # of a connection on which the other end never spoke HTTP/2; one that is reset met a router that just died
    (
        "failed to connect .*Socket closed",
        ": it closed the connection; check whether it requires TLS, or a client certificate",
    ),
    ("Socket closed|Connection reset by peer", ": it closed the connection"),
)
"""What gRPC's messages match, with the probable cause of each; the first one counts."""
_UNTRUSTED: Final = re.compile(r"CERTIFICATE_VERIFY_FAILED: ([a-z -]+)")


def code_of(error: errors.FlowhookError) -> grpc.StatusCode:
    return next((code for kind, code in CODES if isinstance(error, kind)), grpc.StatusCode.INTERNAL)


def to_status(error: errors.FlowhookError) -> status_pb2.Status:
    """Return an error as google.rpc.Status with ErrorInfo, and with BadRequest if it has faults."""
    packed = [_pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=dict(error.metadata)))]
    if isinstance(error, errors.InvalidFlowError):
        packed.append(_pack(_violations(error.faults)))
    return status_pb2.Status(code=code_of(error).value[0], message=_short(error.message), details=packed)


def _violations(faults: Sequence[errors.Fault]) -> error_details_pb2.BadRequest:
    """Return faults as violations: as many as fit `MAX_FAULT_BYTES`, and the number of the others."""
    violations: list[error_details_pb2.BadRequest.FieldViolation] = []
    left = MAX_FAULT_BYTES
    for fault in faults:
        violation = _violation(fault)
        left -= violation.ByteSize()
        if left < 0 and violations:
            more = f"and {len(faults) - len(violations)} more faults"
            violations.append(_violation(errors.Fault(fault.file, 0, "", more, MORE_FAULTS)))
            break
        violations.append(violation)
    return error_details_pb2.BadRequest(field_violations=violations)


def _violation(fault: errors.Fault) -> error_details_pb2.BadRequest.FieldViolation:
    return error_details_pb2.BadRequest.FieldViolation(
        field=f"{fault.file}:{fault.line}:{_short(fault.key)}", description=_short(fault.cause), reason=fault.code
    )


def _short(text: str) -> str:
    return text.encode()[:MAX_MESSAGE].decode(errors="ignore")


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: errors.FlowhookError) -> NoReturn:
    from grpc_status import rpc_status  # noqa: PLC0415 - only servers have it, the client's package does not

    status = rpc_status.to_status(to_status(error))
    await context.abort(status.code, status.details, status.trailing_metadata)
    raise AssertionError("abort raises")


def reason_of(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """Return the reason in the trailing metadata of a call that failed; empty if it has none."""
    info = error_details_pb2.ErrorInfo()
    return next((str(info.reason) for detail in _status_in(metadata).details if detail.Unpack(info)), "")


def to_rpc_error(error: errors.FlowhookError) -> grpc.aio.AioRpcError:
    """Return an error as a call raises it that a router refused with it."""
    packed = to_status(error)
    details = grpc.aio.Metadata((_DETAILS, packed.SerializeToString()))
    return grpc.aio.AioRpcError(code_of(error), grpc.aio.Metadata(), details, packed.message, None)


def from_rpc_error(error: grpc.RpcError | grpc.aio.AioRpcError) -> errors.FlowhookError:
    """Return the error of a failed call.

    Failures without our ErrorInfo (an unreachable router, a foreign server) are classed by their code alone.
    """
    # every RpcError that a stub raises is also a Call, but the type does not say so
    call = cast("grpc.Call", error)
    code = call.code()
    message: str = call.details() or code.name
    reason, metadata, faults = None, {}, []
    for detail in _status_in(call.trailing_metadata() or ()).details:
        info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if detail.Unpack(info):
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(bad_request):
            faults = [_fault(violation) for violation in bad_request.field_violations]
    if faults:
        return errors.InvalidFlowError(faults)
    kind: type[errors.FlowhookError] = _KINDS.get(code, errors.InternalError)
    if issubclass(kind, errors.ExhaustedError | errors.UnavailableError):
        retry_after = metadata.get("retry_after", "1")
        return kind(message, reason=reason, retry_after=int(retry_after) if retry_after.isdecimal() else 1)
    return kind(message, reason=reason, metadata=metadata)


def _status_in(metadata: Iterable[tuple[str, str | bytes]]) -> status_pb2.Status:
    """Return the status in trailing metadata; an empty one if it has none that can be parsed."""
    packed = next((value for key, value in metadata if key == _DETAILS), b"")
    try:
        return status_pb2.Status.FromString(packed if isinstance(packed, bytes) else b"")
    except DecodeError:
        return status_pb2.Status()


def _fault(violation: error_details_pb2.BadRequest.FieldViolation) -> errors.Fault:
    file, _, rest = violation.field.partition(":")
    line, _, key = rest.partition(":")
    return errors.Fault(file, int(line) if line.isdecimal() else 0, key, violation.description, violation.reason)


def _pack(detail: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(detail)
    return packed


def failure_to_proto(error: errors.FlowhookError) -> failure_pb2.Failure:
    retry_after = error.retry_after if isinstance(error, errors.ExhaustedError | errors.UnavailableError) else 0
    return failure_pb2.Failure(
        reason=error.reason,
        message=error.message,
        disposition=failure_pb2.DISPOSITION_RETRYABLE if retry_after else failure_pb2.DISPOSITION_PERMANENT,
        retry_after_seconds=retry_after,
    )


def failure_from_proto(failure: failure_pb2.Failure) -> errors.FlowhookError:
    if failure.disposition == failure_pb2.DISPOSITION_RETRYABLE:
        kind = errors.ExhaustedError if failure.reason in THROTTLED else errors.UnavailableError
        return kind(failure.message, reason=failure.reason, retry_after=max(failure.retry_after_seconds, 1))
    if failure.reason == "FLOW_NOT_PERMITTED":
        return errors.PermissionDeniedError(failure.message, reason=failure.reason)
    missing = failure.reason.endswith("_NOT_FOUND")
    return (errors.NotFoundError if missing else errors.InvalidError)(failure.message, reason=failure.reason)


def probable_cause(details: str) -> str:
    """Return the cause for the details of a gRPC status, to append to an error message; empty if it is unknown."""
    if untrusted := _UNTRUSTED.search(details):
        return f": its certificate can't be verified ({untrusted[1]}); check that an authority in the CA file issued it"
    return next((cause for part, cause in _CAUSES if re.search(part, details)), "")
