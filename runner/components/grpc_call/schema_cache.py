"""Cache of service schemas, obtained from a .proto or from the server itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import grpc.aio
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from flowhook import limits
from flowhook.process.settings import RunnerSettings
from runner.components.cache import Cache, fingerprint
from runner.components.grpc_call.channels import GrpcTarget
from runner.components.grpc_call.proto_compiler import ProtoCompiler
from runner.components.grpc_call.reflection import Metadata, reflect
from runner.components.grpc_call.service_schema import ServiceSchema

KEPT_SECONDS: Final = 300.0
KEPT_BYTES: Final = 16 * limits.MIB
"""Limit for the serialized descriptors of all cached schemas; in memory they take several times as much."""


class SchemaCache:
    """The schema cache of a process; see `SharedResources`."""

    def __init__(self, _settings: RunnerSettings) -> None:
        self._schemas: Cache[ServiceSchema] = Cache(seconds=KEPT_SECONDS, weight=KEPT_BYTES)

    async def close(self) -> None:
        """Do nothing: the cache holds nothing but memory."""

    async def compiled(
        self, key: bytes, fetch: Callable[[], Awaitable[bytes]], shown: str, compiler: ProtoCompiler
    ) -> ServiceSchema:
        """Return the schema of a .proto.

        Args:
            key: `fingerprint` of its URI and of the credentials for fetching it.
            fetch: fetches the source.
            shown: name of the source in errors.
            compiler: compiles it.

        Raises:
            TaskFault: the source can't be fetched, or does not compile.
        """

        async def load() -> tuple[ServiceSchema, int]:
            source = await fetch()
            compiled = await compiler.compile(source, shown, key.hex())
            files = FileDescriptorSet.FromString(compiled).file
            return await asyncio.to_thread(ServiceSchema, files, shown), len(compiled)

        return await self._schemas.get(key, load)

    async def reflected(
        self, channel: grpc.aio.Channel, target: GrpcTarget, service: str, metadata: Metadata, seconds: float
    ) -> ServiceSchema:
        """Return the schema of a service from its server; see `reflect`."""

        async def load() -> tuple[ServiceSchema, int]:
            files, size = await reflect(channel, service, metadata, seconds)
            return await asyncio.to_thread(ServiceSchema, files, str(target)), size

        return await self._schemas.get((target, service, fingerprint(metadata)), load)
