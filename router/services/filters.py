"""Reads and checks the conditions of requests that select executions."""

from __future__ import annotations

from flowhook.errors import InvalidError
from flowhook.execution_filter import ExecutionFilter
from flowhook.search_attributes import MAX_ATTRIBUTES, cut_value
from flowhook.v1 import execution_service_pb2 as pb
from flowhook.wire import convert
from router.admission import MAX_SECONDS


def read_filter(message: pb.ExecutionFilter) -> ExecutionFilter:
    """Return the conditions of a request.

    Raises:
        InvalidError: one is not acceptable (`FILTER_INVALID`).
    """
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
    wanted = convert.filter_from_proto(message)
    return wanted._replace(attributes=tuple((name, cut_value(value)) for name, value in wanted.attributes))


def _invalid(message: str) -> InvalidError:
    return InvalidError(message, reason="FILTER_INVALID")
