"""RunnerService.EmitEvent: publishes an event that a flow emits."""

from __future__ import annotations

from flowhook.v1 import runner_service_pb2 as pb
from router.triggers.effects import Effect
from router.triggers.publisher import Publisher


async def emit_event(request: pb.EmitEventRequest, *, publisher: Publisher) -> pb.EmitEventResponse:
    """Publish an event, once for each idempotency key.

    Raises:
        FlowhookError: see `Publisher.publish`, and `Effect`.
    """
    effect = Effect(request.idempotency_key, request.execution_id)
    receivers = await publisher.publish(request.event, effect, depth=request.depth, emitter=request.execution_id)
    return pb.EmitEventResponse(receivers=receivers)
