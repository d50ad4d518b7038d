"""Services and their methods: described by .proto files or by server reflection, and conversion of JSON to messages.

The client in grpcio-reflection blocks, so it is not used. The messages of v1 are those of v1alpha, under another name.

Source: https://protobuf.dev/programming-guides/json/ (ProtoJSON);
https://github.com/grpc/grpc/blob/master/doc/server-reflection.md.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final

import attrs
import grpc
import grpc.aio
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from flowhook import limits
from flowhook.errors import ExhaustedError, InvalidError
from flowhook.process.settings import RunnerSettings
from flowhook.sandbox.offload import Offload
from flowhook.sandbox.worker import TooCostlyError
from runner.components.base import Context
from runner.components.connection_pool import ServerAddress
from runner.components.resource import Cache, Resource, fetch, fingerprint
from runner.interpreter.errors import Kind, fault
from runner.protoc import compile_source

_SHOWN: Final = 20  # methods that an error lists at most
_FIELD: Final = re.compile(r"Failed to parse ([^\s:]+) field: ")
_UNKNOWN: Final = re.compile(r'has no field named "([^"]*)"')
MAX_SOURCE_BYTES: Final = 256 * limits.KIB
CPU_SECONDS: Final = 5.0  # CPU time for one source
MEMORY_BYTES: Final = limits.GIB  # memory of a process
MAX_FILES: Final = 500
MAX_BYTES: Final = 2 * limits.MIB  # limit for the serialized descriptors of one service and of all its dependencies
_VERSIONS: Final = ("v1", "v1alpha")
KEPT_SECONDS: Final = 300.0
# limit for the serialized descriptors of all cached schemas; in memory they take several times as much
KEPT_BYTES: Final = 16 * limits.MIB


@dataclass(frozen=True, slots=True)
class GrpcMethod:
    """A method of a service."""

    path: str  # of its requests, `/package.Service/Method`
    streams_requests: bool  # whether it takes a stream of messages
    streams_responses: bool  # whether it answers with a stream of messages
    _input: Descriptor
    _output: Descriptor
    _pool: DescriptorPool

    def encode(self, value: Any) -> bytes:
        """Return a request message, serialized. Blocking.

        Raises:
            TaskFault: `value` does not fit the message type, or is too large (configuration); the error shows no data.
        """
        message = message_factory.GetMessageClass(self._input)()
        try:
            json_format.ParseDict(value, message, descriptor_pool=self._pool)
            encoded: bytes = message.SerializeToString()
        except (json_format.ParseError, TypeError, ValueError) as problem:
            raise fault(Kind.CONFIGURATION, f"grpc: with.arguments{_explain(str(problem))}") from None
        if len(encoded) > limits.MAX_RESULT_BYTES:
            raise fault(Kind.CONFIGURATION, f"grpc: with.arguments is larger than {limits.MAX_RESULT_BYTES} bytes")
        return encoded

    def decode(self, data: bytes) -> Any:
        """Return a response message as JSON: fields by their JSON names, without those at their default. Blocking."""
        try:
            message = message_factory.GetMessageClass(self._output).FromString(data)
            return json_format.MessageToDict(message, descriptor_pool=self._pool)
        except DecodeError:
            detail = f"{self.path} returned a message that is not a valid {self._output.full_name}"
        except (json_format.Error, TypeError, ValueError):  # the latter: an Any of a type that the schema lacks
            detail = f"{self.path} answered with a {self._output.full_name} that has no form in JSON"
        raise fault(Kind.COMMUNICATION, detail)


class ServiceSchema:
    """Services that a set of .proto files describes."""

    def __init__(self, files: Iterable[FileDescriptorProto], shown: str) -> None:
        """Load the files, each after those that it imports; `shown` is the name of their origin in errors."""
        self._shown = shown
        self._pool = DescriptorPool()
        try:
            for file in files:
                self._pool.Add(file)
        except (TypeError, ValueError):
            raise fault(Kind.CONFIGURATION, f"the descriptors of {shown} are inconsistent") from None

    def method(self, service: str, name: str) -> GrpcMethod:
        """Return a method by the full name of its service; raises a fault (`configuration`) if there is none."""
        try:
            found = self._pool.FindServiceByName(service)
        except KeyError:
            raise fault(Kind.CONFIGURATION, f"there is no service {service} in {self._shown}") from None
        method = found.methods_by_name.get(name)
        if method is None:
            known = ", ".join(list(found.methods_by_name)[:_SHOWN])
            raise fault(Kind.CONFIGURATION, f"{service} has no method {name}; it has {known or 'none'}")
        return GrpcMethod(
            f"/{service}/{name}",
            method.client_streaming,
            method.server_streaming,
            method.input_type,
            method.output_type,
            self._pool,
        )


def _explain(problem: str) -> str:
    """Return which field is invalid, from protobuf's message, without the value that the message holds."""
    path = "".join(f".{name}" for name in _FIELD.findall(problem))
    unknown = _UNKNOWN.search(problem)
    return f"{path}: there is no field {unknown[1]!r}" if unknown else f"{path} does not fit its type"


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


@attrs.define(eq=False, repr=False)
class _Inquiry:
    """The requests and responses for one service.

    Each request has its own stream, which ends with the request: when a server ends a stream that is still being
    written, grpc.aio may lose the status (https://github.com/grpc/grpc/issues/36066).
    """

    _channel: grpc.aio.Channel
    _version: str
    _metadata: Metadata
    _seconds: float
    _files: dict[str, FileDescriptorProto] = attrs.field(init=False, factory=dict)
    _size: int = attrs.field(init=False, default=0)

    async def describe(self, service: str) -> tuple[list[FileDescriptorProto], int]:
        await self._ask(ServerReflectionRequest(file_containing_symbol=service), f"the service {service}")
        while missing := {name for file in self._files.values() for name in file.dependency} - self._files.keys():
            name = min(missing)
            await self._ask(ServerReflectionRequest(file_by_filename=name), name)
        try:
            order = [*TopologicalSorter({name: file.dependency for name, file in self._files.items()}).static_order()]
        except CycleError:
            detail = "grpc: the server's reflection returned files that import each other in a circle"
            raise fault(Kind.COMMUNICATION, detail) from None
        return [self._files[name] for name in order], self._size

    async def _ask(self, request: ServerReflectionRequest, what: str) -> None:
        method: Any = self._channel.unary_stream(
            f"/grpc.reflection.{self._version}.ServerReflection/ServerReflectionInfo",
            request_serializer=ServerReflectionRequest.SerializeToString,
            response_deserializer=ServerReflectionResponse.FromString,
        )
        call = method(request, metadata=self._metadata, timeout=self._seconds)
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
                detail = "grpc: the server's reflection did not return a valid file descriptor"
                raise fault(Kind.COMMUNICATION, detail) from None
            self._files.setdefault(file.name, file)
        if len(self._files) == known:
            raise fault(Kind.COMMUNICATION, f"grpc: the server's reflection did not return {what}")
        if len(self._files) > MAX_FILES or self._size > MAX_BYTES:
            detail = f"grpc: the service's description has more than {MAX_FILES} files or {MAX_BYTES} bytes"
            raise fault(Kind.COMMUNICATION, detail)


class SchemaCache:
    """The schema cache of a process, with a few processes that compile .proto files; see `SharedResources`."""

    def __init__(self, _settings: RunnerSettings) -> None:
        self._schemas: Cache[ServiceSchema] = Cache(seconds=KEPT_SECONDS, weight=KEPT_BYTES)
        self._offload = Offload("compiling .proto files", seconds=CPU_SECONDS, memory=MEMORY_BYTES)

    async def close(self) -> None:
        await self._offload.aclose()

    async def compiled(self, proto: Resource, context: Context) -> ServiceSchema:
        """Return the schema of a .proto.

        Raises:
            TaskFault: the source can't be fetched, is too large or does not compile (configuration), or that takes too
                long (timeout).
        """
        key, shown = fingerprint(proto.model_dump(mode="json")), proto.name or "with.proto"

        async def load() -> tuple[ServiceSchema, int]:
            source = await fetch(proto, context, "grpc: with.proto.endpoint")
            if len(source) > MAX_SOURCE_BYTES:
                raise fault(Kind.CONFIGURATION, f"{shown} is larger than {MAX_SOURCE_BYTES} bytes")
            try:
                (compiled,) = await self._offload.run(key.hex(), compile_source, source)
            except (TooCostlyError, ExhaustedError) as problem:
                raise fault(Kind.TIMEOUT, f"{shown}: {problem.message}") from None
            except InvalidError as problem:
                raise fault(Kind.CONFIGURATION, f"{shown} does not compile: {problem.message}") from None
            files = FileDescriptorSet.FromString(compiled).file  # imported files first
            return await asyncio.to_thread(ServiceSchema, files, shown), len(compiled)

        return await self._schemas.get(key, load)

    async def reflected(
        self, channel: grpc.aio.Channel, target: ServerAddress, service: str, metadata: Metadata, seconds: float
    ) -> ServiceSchema:
        async def load() -> tuple[ServiceSchema, int]:
            files, size = await reflect(channel, service, metadata, seconds)
            return await asyncio.to_thread(ServiceSchema, files, str(target)), size

        return await self._schemas.get((target, service, fingerprint(metadata)), load)
