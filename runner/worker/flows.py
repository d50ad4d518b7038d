"""Programs by flow and revision, fetched once and kept: a revision never changes."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

import grpc.aio
import orjson

from flowhook.errors import FlowhookError
from flowhook.v1 import flow_service_pb2, flow_service_pb2_grpc
from flowhook.wire import status
from runner.interpreter.errors import Kind, fault
from runner.interpreter.nodes import Program
from runner.interpreter.ports import Compiler
from runner.interpreter.program import compile_program

CACHE_SIZE: Final = 512
DEADLINE: Final = 5.0
"""Seconds for one call to the router."""


class Flows:
    """Programs that executions run. Concurrent requests for one revision share a call."""

    def __init__(self, channel: grpc.aio.Channel, compiler: Compiler, *, cache_size: int = CACHE_SIZE) -> None:
        self._stub = flow_service_pb2_grpc.FlowServiceStub(channel)
        self._compiler = compiler
        self._cache_size = cache_size
        self._programs: OrderedDict[tuple[str, int], Program] = OrderedDict()
        self._locks: dict[tuple[str, int], asyncio.Lock] = {}

    def cached(self, flow_id: str, revision: int) -> Program | None:
        """Return a program that is here already, else None."""
        program = self._programs.get((flow_id, revision))
        if program is not None:
            self._programs.move_to_end((flow_id, revision))
        return program

    async def load(self, flow_id: str, revision: int) -> Program:
        """Return a program, fetched when it is not here.

        Raises:
            FlowhookError: the router says no, or doesn't say anything (UnavailableError).
            TaskFault: the definition is beyond this version (configuration).
        """
        key = (flow_id, revision)
        lock = self._locks.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                program = self.cached(flow_id, revision)
                if program is None:
                    program = self._programs[key] = await self._fetch(flow_id, revision)
                    while len(self._programs) > self._cache_size:
                        self._programs.popitem(last=False)
                return program
        finally:
            if not lock.locked():
                self._locks.pop(key, None)

    async def _fetch(self, flow_id: str, revision: int) -> Program:
        request = flow_service_pb2.GetFlowRequest(flow_id=flow_id, revision=revision)
        try:
            answer = await self._stub.GetFlow(request, timeout=DEADLINE)
        except grpc.aio.AioRpcError as error:
            raise _translated(error) from None
        try:
            return compile_program(orjson.loads(answer.flow.definition), self._compiler)
        except (ValueError, KeyError, TypeError, AttributeError) as problem:
            raise fault(Kind.CONFIGURATION, f"this runner can't run {flow_id}: {problem}") from None


def _translated(error: grpc.aio.AioRpcError) -> FlowhookError:
    return status.from_rpc_error(error)
