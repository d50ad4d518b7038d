"""Fetches flow definitions from the router and caches the compiled programs; a revision never changes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakValueDictionary

import attrs
import grpc.aio
import orjson
from cachetools import LRUCache

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


@attrs.define(eq=False, repr=False)
class ProgramCache:
    """LRU cache of compiled flows. Concurrent requests for one revision share a call."""

    _channel: grpc.aio.Channel
    _compiler: Compiler
    _flows: LRUCache[tuple[str, int], LoadedFlow] = attrs.field(init=False, factory=lambda: LRUCache(CACHE_SIZE))
    _locks: WeakValueDictionary[tuple[str, int], asyncio.Lock] = attrs.field(init=False, factory=WeakValueDictionary)

    def cached(self, flow_id: str, revision: int) -> LoadedFlow | None:
        """Return a flow from the cache; None: it is not cached."""
        return self._flows.get((flow_id, revision))

    async def load(self, flow_id: str, revision: int) -> LoadedFlow:
        """Return a flow, fetched when it is not cached.

        Raises:
            FlowhookError: the router refused, or does not answer (UnavailableError).
            TaskFault: this version can't run the definition (configuration).
        """
        key = (flow_id, revision)
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            flow = self._flows.get(key)
            if flow is None:
                flow = self._flows[key] = await self._fetch(flow_id, revision)
            return flow

    async def _fetch(self, flow_id: str, revision: int) -> LoadedFlow:
        request = flow_service_pb2.GetFlowRequest(flow_id=flow_id, revision=revision)
        try:
            answer = await flow_service_pb2_grpc.FlowServiceStub(self._channel).GetFlow(request, timeout=DEADLINE)
        except grpc.aio.AioRpcError as error:
            raise status.from_rpc_error(error) from None
        try:
            program = compile_program(orjson.loads(answer.flow.definition), self._compiler)
        except (ValueError, KeyError, TypeError, AttributeError) as problem:
            raise fault(Kind.CONFIGURATION, f"this runner can't run {flow_id}: {problem}") from None
        return LoadedFlow(program, answer.callback_key)
