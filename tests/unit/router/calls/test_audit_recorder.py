"""The audit recorder: a call that was begun is recorded, whatever its caller or storage does."""

from __future__ import annotations

import asyncio
import gc

import grpc
import pytest

from flowhook.errors import InternalError, UnavailableError
from flowhook.v1 import flow_service_pb2 as pb
from router.calls.audit_recorder import AuditRecorder


class Details:
    method = "/flowhook.v1.FlowService/PauseFlow"
    invocation_metadata = ()


class Log:
    """Entries, each of which is stored when the test lets it."""

    def __init__(self, error=None):
        self.entries = []
        self.reached = asyncio.Event()
        self.storable = asyncio.Event()
        self._error = error

    async def add(self, entry):
        self.reached.set()
        await self.storable.wait()
        if self._error is not None:
            raise self._error
        self.entries.append((entry.action, entry.target, entry.error))


class Context:
    """The context of a call whose caller is gone, which raises whatever it likes then."""

    def peer(self):
        return "ipv4:127.0.0.1:50000"

    async def abort(self, *_arguments):
        raise RuntimeError("the call has ended")


async def recorded(log, perform):
    async def continuation(_details):
        return grpc.unary_unary_rpc_method_handler(perform)

    handler = await AuditRecorder(log, now_ms=lambda: 1).intercept_service(continuation, Details())
    return asyncio.create_task(handler.unary_unary(pb.PauseFlowRequest(flow_id="orders"), Context()))


async def stored(log):
    log.storable.set()
    while not log.entries:
        await asyncio.sleep(0)
    return log.entries


async def test_a_call_that_is_cancelled_is_performed_to_its_end_and_recorded():
    begun, go_on, performed = asyncio.Event(), asyncio.Event(), []

    async def perform(_request, _context):
        begun.set()
        await go_on.wait()
        performed.append(1)

    log = Log()
    call = await recorded(log, perform)
    await begun.wait()
    call.cancel()
    await asyncio.wait([call])
    assert (call.cancelled(), performed) == (True, [])
    go_on.set()
    assert await stored(log) == [("FlowService/PauseFlow", "orders", "")]
    assert performed == [1]


async def test_a_call_that_is_cancelled_while_it_is_recorded_is_recorded(caplog):
    async def perform(_request, context):
        await context.abort(grpc.StatusCode.NOT_FOUND)

    log = Log()
    call = await recorded(log, perform)
    await log.reached.wait()
    call.cancel()
    await asyncio.wait([call])
    assert await stored(log) == [("FlowService/PauseFlow", "orders", "NOT_FOUND")]
    del call
    await asyncio.sleep(0)
    gc.collect()
    assert caplog.text == ""


@pytest.mark.parametrize("error", [UnavailableError("storage is away"), InternalError("a statement failed")])
async def test_a_call_whose_entry_can_not_be_stored_is_answered(error):
    async def perform(_request, _context):
        return "done"

    log = Log(error)
    log.storable.set()
    assert await (await recorded(log, perform)) == "done"
