"""The edge's end of the AttachVerifier stream."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import grpc.aio

from flowhook.v1.rejection_service_pb2 import AttachVerifierRequest, AttachVerifierResponse
from flowhook.wire import status

Verify = Callable[[AttachVerifierResponse], Awaitable[AttachVerifierRequest]]
"""Verifies a request and returns the answer, whose `verification_id` it may leave empty. Never raises."""

Call = grpc.aio.StreamStreamCall[Any, Any]


async def serve_verifications(call: Call, verify: Verify) -> None:
    """Answer what the router asks on a stream until it ends; it asks for a few verifications at a time.

    Raises:
        FlowhookError: the stream ended with an error.
    """
    writing = asyncio.Lock()

    async def answer(request: AttachVerifierResponse) -> None:
        reply = await verify(request)
        reply.verification_id = request.verification_id
        async with writing:
            with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # the stream has ended
                await call.write(reply)

    answering: set[asyncio.Task[None]] = set()
    try:
        async for request in call:
            task = asyncio.create_task(answer(request))
            answering.add(task)
            task.add_done_callback(answering.discard)
    except grpc.aio.AioRpcError as error:
        raise status.from_rpc_error(error) from None
    finally:
        call.cancel()
        for task in answering:
            task.cancel()
