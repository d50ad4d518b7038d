"""Reads and checks the conditions of requests that select executions."""

from __future__ import annotations

from typing import Final

from flowhook import limits
from flowhook.errors import InvalidError
from flowhook.events import ids
from flowhook.events.search_attributes import MAX_ATTRIBUTES, cut_value
from flowhook.model.execution_filter import ExecutionFilter
from flowhook.v1 import execution_service_pb2 as pb
from flowhook.wire import convert
from router.flows.admission import MAX_SECONDS

MAX_BYTES: Final = 64 * limits.KIB
"""Serialized size of a filter: jobs store theirs."""

_KNOWN: Final = frozenset(pb.Execution.Status.values()) - {pb.Execution.STATUS_UNSPECIFIED}


def read_filter(message: pb.ExecutionFilter) -> ExecutionFilter:
    """Return the conditions of a request.

    Raises:
        InvalidError: one is not acceptable (`FILTER_INVALID`).
    """
    if message.ByteSize() > MAX_BYTES:
        raise _invalid(f"the filter has more than {MAX_BYTES} bytes")
    if not _KNOWN.issuperset(message.statuses):  # taken for another one, a job would cancel or delete what it must not
        raise _invalid("`statuses` has one that this router does not know, or STATUS_UNSPECIFIED")
    if len(message.attributes) > MAX_ATTRIBUTES:
        raise _invalid(f"at most {MAX_ATTRIBUTES} `attributes` may be given")
    if any(not attribute.name for attribute in message.attributes):
        raise _invalid("each of `attributes` must have a `name`")
    for name in ("error_status", "min_attempts"):
        if getattr(message, name) < 0:
            raise _invalid(f"`{name}` must not be negative")
    for name in ("receive_from", "receive_until"):
        if not 0 <= getattr(message, name).seconds <= MAX_SECONDS:
            raise _invalid(f"`{name}` must be in the years 1970 to 9999")
    _check_id(message.caused_by)
    wanted = convert.filter_from_proto(message)
    return wanted._replace(attributes=tuple((name, cut_value(value)) for name, value in wanted.attributes))


def _check_id(caused_by: str) -> None:
    if caused_by:
        try:
            ids.decode(caused_by)
        except InvalidError as error:
            raise _invalid(f"`caused_by` must be the ID of an execution: {error.message}") from None


def _invalid(message: str) -> InvalidError:
    return InvalidError(message, reason="FILTER_INVALID")
