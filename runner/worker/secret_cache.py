"""Resolves secrets through the router and caches their values for a few seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Final

import attrs
import grpc.aio

from flowhook.v1 import secret_service_pb2, secret_service_pb2_grpc
from flowhook.wire import status
from runner.interpreter.errors import Kind, fault

MAX_AGE: Final = 5.0  # seconds after which a cached value is fetched again
DEADLINE: Final = 5.0
MAX_NAMES: Final = 100  # names in one request


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
                try:
                    stub = secret_service_pb2_grpc.SecretServiceStub(self._channel)
                    answer = await stub.ResolveSecrets(request, timeout=DEADLINE)
                except grpc.aio.AioRpcError as error:
                    raise status.from_rpc_error(error) from None
                values.update(answer.values)
            # without those that have expired
            kept = {name: known for name, known in self._values.items() if known[0] >= fetched_at - MAX_AGE}
            self._values = kept | {name: (fetched_at, value) for name, value in values.items()}
        missing = [name for name in requested if name not in values]
        if missing:
            raise fault(Kind.AUTHORIZATION, f"the secret {missing[0]} is not set")
        return values
