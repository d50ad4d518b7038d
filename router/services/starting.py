"""RunnerService.StartExecution: a flow runs another one."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import orjson

from flowhook import ids, limits
from flowhook.errors import FlowhookError, InvalidError, NotFoundError
from flowhook.model import Origin
from flowhook.v1 import runner_service_pb2 as pb
from router.services.ingest import Acceptance
from router.triggers.starter import Start, Starter

MAX_IDEMPOTENCY_KEY: Final = 255
"""Characters."""

LATEST: Final = frozenset({"", "latest"})
"""Versions that any document has."""


async def start_execution(
    request: pb.StartExecutionRequest, *, acceptance: Acceptance, starter: Starter
) -> pb.StartExecutionResponse:
    """Start an execution that another one asks for, once for each idempotency key.

    Raises:
        FlowhookError: see protos/flowhook/v1/runner_service.proto; and what `Starter.start` says.
    """
    _check(request)
    flow_id, version = request.flow_id, request.version
    entry = acceptance.known(flow_id) or await acceptance.flow(flow_id)
    if version not in LATEST and version != entry.version:
        raise NotFoundError(
            f"{flow_id} has version {entry.version}, and not {version[:40]}", reason="FLOW_VERSION_NOT_FOUND"
        )
    event_id = derived_id(flow_id, request.idempotency_key, request.parent_execution_id, "run")
    start = Start(event_id, flow_id, Origin.WORKFLOW, request.input or b"{}", request.parent_depth + 1)
    (appended,) = await starter.start([start])
    if isinstance(appended, FlowhookError):
        raise appended
    return pb.StartExecutionResponse(execution_id=event_id)


def derived_id(flow_id: str, idempotency_key: str, execution_id: str, cause: str) -> str:
    """Return the ID of what an effect causes in a flow: one that only these tell from others.

    Args:
        flow_id: the flow that it is for.
        idempotency_key: of the effect; it begins with the ID of the execution that it belongs to.
        execution_id: the execution that performs it: that one, or a replay which took the effect over.
        cause: what kind of effect it is.

    Raises:
        InvalidError: the key has no or too many characters (`IDEMPOTENCY_KEY_INVALID`), or the execution's ID is none.
    """
    if not 0 < len(idempotency_key) <= MAX_IDEMPOTENCY_KEY or not idempotency_key.isascii():
        raise InvalidError(
            f"an idempotency key has 1 to {MAX_IDEMPOTENCY_KEY} ASCII characters", reason="IDEMPOTENCY_KEY_INVALID"
        )
    began_ms = ids.time_ms_of(execution_id)
    with suppress(InvalidError):
        began_ms = ids.time_ms_of(idempotency_key[: ids.LENGTH])
    return ids.derive(ids.slot_of(flow_id), began_ms, f"{cause} {flow_id} {idempotency_key}")


def _check(request: pb.StartExecutionRequest) -> None:
    if request.parent_depth < 0:
        raise InvalidError("the depth of an execution is at least 0", reason="DEPTH_INVALID")
    if request.parent_depth >= limits.MAX_WORKFLOW_DEPTH:
        raise InvalidError(
            f"at most {limits.MAX_WORKFLOW_DEPTH} flows run within one another", reason="WORKFLOW_TOO_DEEP"
        )
    if len(request.input) > limits.MAX_RESULT_BYTES:
        raise InvalidError(f"an input has at most {limits.MAX_RESULT_BYTES} bytes", reason="INPUT_TOO_LARGE")
    try:
        orjson.loads(request.input or b"{}")
    except orjson.JSONDecodeError:
        raise InvalidError("the input is not JSON", reason="INPUT_INVALID") from None
