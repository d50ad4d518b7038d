"""What runners ask of a router beside Attach: to start executions, and to publish events."""

from __future__ import annotations

from contextlib import asynccontextmanager

import grpc.aio
import orjson
from support.patience import PATIENCE
from support.runners import runner_stub

from flowhook.events import ids
from flowhook.v1 import runner_service_pb2 as pb
from flowhook.wire import status

CALLER = ids.mint(0, now_ms=1_795_521_600_000)
"""ID of an execution that asks for effects."""


class Effects:
    """Calls of one runner. `key` tells effects apart."""

    def __init__(self, stub):
        self._stub = stub

    async def start(self, flow_id="child", key=f"{CALLER}:/do/0/run#0", caller=CALLER, **fields):
        """Start an execution and return its ID."""
        request = pb.StartExecutionRequest(flow_id=flow_id, parent_execution_id=caller, idempotency_key=key, **fields)
        return (await self._call(self._stub.StartExecution, request)).execution_id

    async def emit(self, event, key=f"{CALLER}:/do/0/emit#0", caller=CALLER, depth=0):
        """Publish an event and return how many flows got it."""
        encoded = event if isinstance(event, bytes) else orjson.dumps(event)
        request = pb.EmitEventRequest(event=encoded, execution_id=caller, idempotency_key=key, depth=depth)
        return (await self._call(self._stub.EmitEvent, request)).receivers

    async def _call(self, method, request):
        try:
            return await method(request, timeout=PATIENCE)
        except grpc.aio.AioRpcError as error:
            raise status.from_rpc_error(error) from None


@asynccontextmanager
async def effects_of(router):
    async with runner_stub(router) as stub:
        yield Effects(stub)
