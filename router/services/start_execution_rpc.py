"""RunnerService.StartExecution: starts an execution of another flow."""

from __future__ import annotations

from typing import Final

import orjson

from flowhook import limits
from flowhook.errors import FlowhookError, InvalidError
from flowhook.model import Origin
from flowhook.v1 import runner_service_pb2 as pb
from router.flows.admission import AdmissionControl
from router.triggers.execution_starter import ExecutionStart, ExecutionStarter
from router.triggers.idempotent_ids import EffectIds, check_depth

LATEST: Final = frozenset({"", "latest"})
"""Versions that mean the latest revision, whatever its document's version."""


async def start_execution(
    request: pb.StartExecutionRequest, *, admission: AdmissionControl, starter: ExecutionStarter
) -> pb.StartExecutionResponse:
    """Start an execution requested by another one, once for each idempotency key.

    Raises:
        FlowhookError: see protos/flowhook/v1/runner_service.proto, and `ExecutionStarter.start`.
    """
    _check(request)
    check_depth(request.parent_depth)
    flow_id, version = request.flow_id, request.version
    entry = admission.known(flow_id) or await admission.flow(flow_id)
    revision = 0 if version in LATEST else await admission.revision(entry, version)
    quiet = await starter.is_quiet(request.parent_execution_id)
    event_id = EffectIds(request.idempotency_key, request.parent_execution_id).derive("run", flow_id)
    start = ExecutionStart(
        event_id,
        flow_id,
        Origin.WORKFLOW,
        request.input or b"{}",
        request.parent_depth + 1,
        quiet,
        revision,
        request.parent_execution_id,
    )
    (appended,) = await starter.start([start])
    if isinstance(appended, FlowhookError):
        raise appended
    return pb.StartExecutionResponse(execution_id=event_id)


def _check(request: pb.StartExecutionRequest) -> None:
    if len(request.input) > limits.MAX_RESULT_BYTES:
        raise InvalidError(f"`input` must have at most {limits.MAX_RESULT_BYTES} bytes", reason="INPUT_TOO_LARGE")
    try:
        orjson.loads(request.input or b"{}")
    except orjson.JSONDecodeError:
        raise InvalidError("`input` must be JSON", reason="INPUT_INVALID") from None
