"""Fetches the descriptors of a service from its server, by gRPC server reflection.

The client in grpcio-reflection blocks, so it is not used. The messages of v1 are those of v1alpha, under another name.

Source: https://github.com/grpc/grpc/blob/master/doc/server-reflection.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from flowhook import limits
from runner.interpreter.errors import Kind, fault

MAX_FILES: Final = 500
MAX_BYTES: Final = 2 * limits.MIB
"""Limit for the serialized descriptors of one service and of all its dependencies."""

_VERSIONS: Final = ("v1", "v1alpha")

Metadata = tuple[tuple[str, str], ...]


async def reflect(
    channel: grpc.aio.Channel, service: str, metadata: Metadata, seconds: float
) -> tuple[list[FileDescriptorProto], int]:
    """Return the files that describe a service, imported files first, and their size in bytes.

    Raises:
        TaskFault: the server does not know the service, or offers no reflection (configuration); its response is
            invalid, or too large (communication).
        grpc.aio.AioRpcError: the call failed.
    """
    for version in _VERSIONS:
        try:
            return await _Inquiry(channel, version, metadata, seconds).describe(service)
        except grpc.aio.AioRpcError as problem:
            if problem.code() is not grpc.StatusCode.UNIMPLEMENTED:
                raise
    raise fault(Kind.CONFIGURATION, "grpc: the server does not support reflection; set `with.proto`")


class _Inquiry:
    """The requests and responses for one service.

    Each request has its own stream, which ends with the request: when a server ends a stream that is still being
    written, grpc.aio may lose the status (https://github.com/grpc/grpc/issues/36066).
    """

    def __init__(self, channel: grpc.aio.Channel, version: str, metadata: Metadata, seconds: float) -> None:
        self._method: Any = channel.unary_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=ServerReflectionRequest.SerializeToString,
            response_deserializer=ServerReflectionResponse.FromString,
        )
        self._metadata = metadata
        self._seconds = seconds
        self._files: dict[str, FileDescriptorProto] = {}
        self._size = 0

    async def describe(self, service: str) -> tuple[list[FileDescriptorProto], int]:
        """See `reflect`."""
        await self._ask(ServerReflectionRequest(file_containing_symbol=service), f"the service {service}")
        while (name := next(self._missing(), None)) is not None:
            await self._ask(ServerReflectionRequest(file_by_filename=name), name)
        try:
            order = [*TopologicalSorter({name: file.dependency for name, file in self._files.items()}).static_order()]
        except CycleError:
            raise fault(
                Kind.COMMUNICATION, "grpc: the server's reflection returned files that import each other in a circle"
            ) from None
        return [self._files[name] for name in order], self._size

    def _missing(self) -> Iterator[str]:
        return (name for file in self._files.values() for name in file.dependency if name not in self._files)

    async def _ask(self, request: ServerReflectionRequest, what: str) -> None:
        call = self._method(request, metadata=self._metadata, timeout=self._seconds)
        try:
            response = await call.read()
        finally:
            call.cancel()
        if not isinstance(response, ServerReflectionResponse):
            raise fault(Kind.COMMUNICATION, "grpc: the server ended the reflection stream early")
        if response.WhichOneof("message_response") == "error_response":
            raise fault(Kind.CONFIGURATION, f"grpc: the server's reflection has no {what}")
        known = len(self._files)
        for data in response.file_descriptor_response.file_descriptor_proto:
            self._size += len(data)
            try:
                file = FileDescriptorProto.FromString(data)
            except DecodeError:
                raise fault(
                    Kind.COMMUNICATION, "grpc: the server's reflection did not return a valid file descriptor"
                ) from None
            self._files.setdefault(file.name, file)
        if len(self._files) == known:
            raise fault(Kind.COMMUNICATION, f"grpc: the server's reflection did not return {what}")
        if len(self._files) > MAX_FILES or self._size > MAX_BYTES:
            raise fault(
                Kind.COMMUNICATION,
                f"grpc: the service's description has more than {MAX_FILES} files or {MAX_BYTES} bytes",
            )
