"""Reads from the router what executions need: flows, which are compiled and cached, secrets, and stored bodies."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakValueDictionary

import attrs
import grpc.aio
import orjson
from cachetools import LRUCache

from flowhook.errors import UnavailableError
from flowhook.events.workflow_input import inlined_indexes, stored_attachments
from flowhook.model import Event, Part
from flowhook.model.own_urls import below, own_url_in, shown_url
from flowhook.security import callback_tokens
from flowhook.v1 import (
    flow_service_pb2,
    flow_service_pb2_grpc,
    runner_service_pb2_grpc,
    secret_service_pb2,
    secret_service_pb2_grpc,
)
from flowhook.v1 import runner_service_pb2 as pb
from flowhook.wire import status
from runner.interpreter.errors import Kind, fault
from runner.interpreter.execution_context import OneTimeUrls
from runner.interpreter.nodes import Compiler, Program
from runner.interpreter.program import compile_program

DEADLINE: Final = 5.0  # seconds for one call
CACHED_FLOWS: Final = 512
MAX_AGE: Final = 5.0  # seconds after which a cached secret is fetched again
MAX_NAMES: Final = 100  # secrets in one request
READ_SECONDS: Final = 10.0  # deadline for reading one slice of a body that is part of an execution's input
# gap between two parts up to which both are read in one call: the size of a boundary and headers
GAP_BYTES: Final = 1024


@contextlib.contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise status.from_rpc_error(error) from None


@dataclass(frozen=True, slots=True)
class LoadedFlow:
    """A compiled revision of a flow. `callback_key`: signs the tokens of its one-time URLs; empty: it has none."""

    program: Program
    callback_key: bytes = field(default=b"", repr=False)

    def one_time_urls(self, public_url: str, event: Event) -> OneTimeUrls | None:
        """Return the callback URLs (`$runtime.metadata.callbacks`) of an execution; None: the flow has no callbacks.

        `public_url` is the scheme and host that senders use; if empty, the URLs begin with the path.
        """
        names = self.program.callbacks
        if not names or not self.callback_key:
            return None

        base = below(shown_url(public_url.rstrip("/"), event.flow_id, own_url_in(self.program.definition)))

        def url(name: str, number: int) -> str:
            return f"{base}{name}/{callback_tokens.issue(self.callback_key, event.id, name, number)}"

        return OneTimeUrls(names, url)


@attrs.define(eq=False, repr=False)
class ProgramCache:
    """LRU cache of compiled flows, whose revisions never change. Concurrent requests for one share a call."""

    _channel: grpc.aio.Channel
    _compiler: Compiler
    _flows: LRUCache[tuple[str, int], LoadedFlow] = attrs.field(init=False, factory=lambda: LRUCache(CACHED_FLOWS))
    _locks: WeakValueDictionary[tuple[str, int], asyncio.Lock] = attrs.field(init=False, factory=WeakValueDictionary)

    def cached(self, flow_id: str, revision: int) -> LoadedFlow | None:
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
        with _translated_errors():
            answer = await flow_service_pb2_grpc.FlowServiceStub(self._channel).GetFlow(request, timeout=DEADLINE)
        try:
            program = compile_program(orjson.loads(answer.flow.definition), self._compiler)
        except (ValueError, KeyError, TypeError, AttributeError) as problem:
            raise fault(Kind.CONFIGURATION, f"this runner can't run {flow_id}: {problem}") from None
        return LoadedFlow(program, answer.callback_key)


@attrs.define(eq=False, repr=False)
class SecretCache:
    """Cache of secret values by name, each at most `MAX_AGE` old."""

    _channel: grpc.aio.Channel
    _clock: Callable[[], float]  # monotonic seconds
    _values: dict[str, tuple[float, bytes]] = attrs.field(init=False, factory=dict)
    _lock: asyncio.Lock = attrs.field(init=False, factory=asyncio.Lock)

    async def resolve(self, names: Collection[str], flow_id: str) -> dict[str, bytes]:
        """Return the values of all names.

        Raises:
            FlowhookError: the call to the router failed.
            TaskFault: a secret is not set (authorization). Source: dsl.md, "Secret".
        """
        oldest = self._clock() - MAX_AGE
        known = {name: self._values[name] for name in names if name in self._values}
        if known.keys() >= set(names) and all(fetched_at >= oldest for fetched_at, _ in known.values()):
            return {name: value for name, (_, value) in known.items()}
        async with self._lock:
            requested = sorted(names)
            fetched_at = self._clock()
            values: dict[str, bytes] = {}
            for first in range(0, len(requested), MAX_NAMES):
                some = requested[first : first + MAX_NAMES]
                request = secret_service_pb2.ResolveSecretsRequest(names=some, flow_id=flow_id)
                with _translated_errors():
                    stub = secret_service_pb2_grpc.SecretServiceStub(self._channel)
                    values.update((await stub.ResolveSecrets(request, timeout=DEADLINE)).values)
            # without those that have expired
            kept = {name: known for name, known in self._values.items() if known[0] >= fetched_at - MAX_AGE}
            self._values = kept | {name: (fetched_at, value) for name, value in values.items()}
        missing = [name for name in requested if name not in values]
        if missing:
            raise fault(Kind.AUTHORIZATION, f"the secret {missing[0]} is not set")
        return values


@attrs.define(eq=False, repr=False)
class BodyFetcher:
    """Reads bodies over a channel that the caller owns."""

    _channel: grpc.aio.Channel

    async def read(
        self, execution_id: str, offset: int, size: int, *, seconds: float | None = None
    ) -> AsyncIterator[bytes]:
        """Yield a slice of the body of an execution's event in chunks, with back-pressure.

        Raises:
            NotFoundError: the body is no longer stored.
            UnavailableError: the router is not reachable, or the stream broke off.
        """
        request = pb.ReadAttachmentRequest(execution_id=execution_id, offset=offset, size=size)
        stub = runner_service_pb2_grpc.RunnerServiceStub(self._channel)
        call = stub.ReadAttachment(request, timeout=seconds, wait_for_ready=True)
        missing = size
        try:
            with _translated_errors():
                async for message in call:
                    missing -= len(message.chunk)
                    yield message.chunk
        finally:
            call.cancel()
        if missing:
            raise UnavailableError("the router sent less of the body than it should have")

    async def contents(self, event: Event, *, raw: bool) -> dict[int, bytes]:
        """Return the attachment contents that belong in the input, by index; empty if the body is inline.

        Raises as `read` does.
        """
        parts = stored_attachments(event, raw=raw)
        found: dict[int, bytes] = {}
        for indexes in _neighbours(parts, inlined_indexes(parts)):
            start = parts[indexes[0]].offset
            size = parts[indexes[-1]].offset + parts[indexes[-1]].size - start
            pieces = [piece async for piece in self.read(event.id, start, size, seconds=READ_SECONDS)] if size else []
            data = b"".join(pieces)
            for index in indexes:
                begin = parts[index].offset - start
                found[index] = data[begin : begin + parts[index].size]
        return found


def _neighbours(parts: Sequence[Part], indexes: Sequence[int]) -> list[list[int]]:
    """Return the indexes in groups, each of which is read in one call."""
    groups: list[list[int]] = []
    end = -1
    for index in indexes:
        part = parts[index]
        if groups and 0 <= part.offset - end <= GAP_BYTES:
            groups[-1].append(index)
        else:
            groups.append([index])
        end = part.offset + part.size
    return groups
