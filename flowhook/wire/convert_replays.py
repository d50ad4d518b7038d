"""Conversion of the options of replays, which a message holds in another form."""

from __future__ import annotations

from flowhook.errors import InvalidError
from flowhook.model.replays import ReplayOptions
from flowhook.v1 import execution_service_pb2 as pb

_Request = pb.ReplayExecutionRequest


def replay_to_proto(options: ReplayOptions, execution_id: str = "") -> pb.ReplayExecutionRequest:
    """Return a request for a replay with these options.

    Raises:
        InvalidError: they do not go together (`START_INVALID`, `BODY_MISSING`).
    """
    if options.from_failed + bool(options.from_task) + options.auto > 1:
        raise InvalidError("give one of `from_failed`, `from_task` and `auto`", reason="START_INVALID")
    if options.body is None and options.content_type is not None:
        raise InvalidError("`content_type` needs `body`", reason="BODY_MISSING")
    start = _Request.START_AUTO if options.auto else _Request.START_BEGINNING
    if options.from_task or options.from_failed:
        start = _Request.START_TASK if options.from_task else _Request.START_FAILED_TASK
    edited = None
    if options.body is not None:
        edited = pb.EditedInput(body=options.body, content_type=options.content_type)
    return _Request(
        execution_id=execution_id,
        revision=_Request.REVISION_LATEST if options.latest else _Request.REVISION_PINNED,
        start=start,
        task=options.from_task,
        output=options.output,
        input=edited,
    )


def options_from_proto(message: pb.ReplayExecutionRequest) -> ReplayOptions:
    """Return the options that a request holds, which a router has checked."""
    has_type = message.input.HasField("content_type")
    return ReplayOptions(
        latest=message.revision == _Request.REVISION_LATEST,
        from_failed=message.start == _Request.START_FAILED_TASK,
        from_task=message.task,
        output=message.output if message.HasField("output") else None,
        body=message.input.body if message.HasField("input") else None,
        content_type=message.input.content_type if has_type else None,
        auto=message.start == _Request.START_AUTO,
    )
