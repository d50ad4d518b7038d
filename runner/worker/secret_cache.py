"""Resolves secrets through the router and caches their values for a few seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Final

import grpc.aio

from flowhook.v1 import secret_service_pb2, secret_service_pb2_grpc
from flowhook.wire import status
from runner.interpreter.errors import Kind, fault

MAX_AGE: Final = 5.0  # seconds after which a cached value is fetched again
DEADLINE: Final = 5.0
MAX_NAMES: Final = 100  # names in one request


class SecretCache:
    """Cache of secret values by name, each at most `MAX_AGE` old."""

    def __init__(self, channel: grpc.aio.Channel, clock: Callable[[], float]) -> None:
        """Resolve over `channel`; `clock` returns monotonic seconds."""
        self._stub = secret_service_pb2_grpc.SecretServiceStub(channel)
        self._clock = clock
        self._values: dict[str, tuple[float, bytes]] = {}
        self._lock = asyncio.Lock()

    def cached(self, names: Collection[str]) -> dict[str, bytes] | None:
        """Return the values if all of them are cached and fresh, else None."""
        oldest = self._clock() - MAX_AGE
        values = {}
        for name in names:
            known = self._values.get(name)
            if known is None or known[0] < oldest:
                return None
            values[name] = known[1]
        return values

    async def resolve(self, names: Collection[str], flow_id: str) -> dict[str, bytes]:
        """Return the values of all names.

        Raises:
            FlowhookError: the call to the router failed.
            TaskFault: a secret is not set (authorization). Source: dsl.md, "Secret".
        """
        known = self.cached(names)
        if known is not None:
            return known
        async with self._lock:
            requested = sorted(names)
            fetched_at = self._clock()
            values: dict[str, bytes] = {}
            for first in range(0, len(requested), MAX_NAMES):
                request = secret_service_pb2.ResolveSecretsRequest(
                    names=requested[first : first + MAX_NAMES], flow_id=flow_id
                )
                try:
                    answer = await self._stub.ResolveSecrets(request, timeout=DEADLINE)
                except grpc.aio.AioRpcError as error:
                    raise status.from_rpc_error(error) from None
                values.update(answer.values)
            self._evict_expired(fetched_at)
            self._values.update({name: (fetched_at, value) for name, value in values.items()})
        missing = [name for name in requested if name not in values]
        if missing:
            raise fault(Kind.AUTHORIZATION, f"the secret {missing[0]} is not set")
        return values

    def _evict_expired(self, now: float) -> None:
        for name in [name for name, (fetched_at, _) in self._values.items() if fetched_at < now - MAX_AGE]:
            del self._values[name]
