"""RunnerService.EmitEvent: publishes an event that a flow emits."""

from __future__ import annotations

from flowhook.v1 import runner_service_pb2 as pb
from router.triggers.event_publisher import EventPublisher
from router.triggers.idempotent_ids import EffectIds


async def emit_event(request: pb.EmitEventRequest, *, publisher: EventPublisher) -> pb.EmitEventResponse:
    """Publish an event, once for each idempotency key.

    Raises:
        FlowhookError: see `EventPublisher.publish`, and `EffectIds`.
    """
    effect = EffectIds(request.idempotency_key, request.execution_id)
    receivers = await publisher.publish(request.event, effect, depth=request.depth, emitter=request.execution_id)
    return pb.EmitEventResponse(receivers=receivers)
