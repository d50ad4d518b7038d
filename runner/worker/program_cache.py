"""Fetches flow definitions from the router and caches the compiled programs; a revision never changes."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

import grpc.aio
import orjson

from flowhook.model import Event
from flowhook.security import callback_tokens
from flowhook.v1 import flow_service_pb2, flow_service_pb2_grpc
from flowhook.wire import status
from runner.interpreter.errors import Kind, fault
from runner.interpreter.execution_context import OneTimeUrls
from runner.interpreter.nodes import Compiler, Program
from runner.interpreter.program import compile_program

CACHE_SIZE: Final = 512
DEADLINE: Final = 5.0  # seconds for one call to the router


@dataclass(frozen=True, slots=True)
class LoadedFlow:
    """A compiled revision of a flow. `callback_key`: signs the tokens of its one-time URLs; empty: it has none."""

    program: Program
    callback_key: bytes = field(default=b"", repr=False)

    def one_time_urls(self, public_url: str, event: Event) -> OneTimeUrls | None:
        """Return the callback URLs (`$runtime.metadata.callbacks`) of an execution; None: the flow has no callbacks.

        `public_url` is the scheme and host that senders use; if empty, the URLs begin with the path.
        """
        names = tuple((self.program.definition.get("webhook") or {}).get("callbacks") or ())
        if not names or not self.callback_key:
            return None

        def url(name: str, number: int) -> str:
            token = callback_tokens.issue(self.callback_key, event.id, name, number)
            return f"{public_url.rstrip('/')}/hook/{event.flow_id}/{name}/{token}"

        return OneTimeUrls(names, url)


class ProgramCache:
    """LRU cache of compiled flows. Concurrent requests for one revision share a call."""

    def __init__(self, channel: grpc.aio.Channel, compiler: Compiler, *, cache_size: int = CACHE_SIZE) -> None:
        self._stub = flow_service_pb2_grpc.FlowServiceStub(channel)
        self._compiler = compiler
        self._cache_size = cache_size
        self._flows: OrderedDict[tuple[str, int], LoadedFlow] = OrderedDict()
        self._locks: dict[tuple[str, int], asyncio.Lock] = {}

    def cached(self, flow_id: str, revision: int) -> LoadedFlow | None:
        """Return a flow from the cache; None: it is not cached."""
        flow = self._flows.get((flow_id, revision))
        if flow is not None:
            self._flows.move_to_end((flow_id, revision))
        return flow

    async def load(self, flow_id: str, revision: int) -> LoadedFlow:
        """Return a flow, fetched when it is not cached.

        Raises:
            FlowhookError: the router refused, or does not answer (UnavailableError).
            TaskFault: this version can't run the definition (configuration).
        """
        key = (flow_id, revision)
        lock = self._locks.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                flow = self.cached(flow_id, revision)
                if flow is None:
                    flow = self._flows[key] = await self._fetch(flow_id, revision)
                    while len(self._flows) > self._cache_size:
                        self._flows.popitem(last=False)
                return flow
        finally:
            if not lock.locked():
                self._locks.pop(key, None)

    async def _fetch(self, flow_id: str, revision: int) -> LoadedFlow:
        request = flow_service_pb2.GetFlowRequest(flow_id=flow_id, revision=revision)
        try:
            answer = await self._stub.GetFlow(request, timeout=DEADLINE)
        except grpc.aio.AioRpcError as error:
            raise status.from_rpc_error(error) from None
        try:
            program = compile_program(orjson.loads(answer.flow.definition), self._compiler)
        except (ValueError, KeyError, TypeError, AttributeError) as problem:
            raise fault(Kind.CONFIGURATION, f"this runner can't run {flow_id}: {problem}") from None
        return LoadedFlow(program, answer.callback_key)
