"""A gRPC server of pets, made of a .proto when it starts."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
import grpc.aio
from google.protobuf import message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.rpc import error_details_pb2, status_pb2
from grpc_reflection.v1alpha import reflection
from support.ports import free_port

from runner.protoc import compile_source

PROTO = """
syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
import "google/api/annotations.proto";
enum Kind { KIND_UNSPECIFIED = 0; CAT = 1; }
message Pet {
  string name = 1;
  int64 age_in_days = 2;
  Kind kind = 3;
  google.protobuf.Timestamp born_at = 4;
  bytes photo = 5;
  repeated Pet kittens = 6;
}
message Query { string name = 1; int32 count = 2; int32 size = 3; }
message Summary { repeated string names = 1; map<string, string> metadata = 2; }
service Pets {
  rpc Greet(Query) returns (Pet) { option (google.api.http) = { get: "/pets" }; }
  rpc Echo(Pet) returns (Pet);
  rpc Fail(Query) returns (Pet);
  rpc Hang(Query) returns (Pet);
  rpc List(Query) returns (stream Pet);
  rpc Register(stream Pet) returns (Summary);
  rpc Chat(stream Pet) returns (stream Pet);
}
"""
NAME = "shop.Pets"


@dataclass
class Pets:
    """A running server.

    Attributes:
        calls: metadata of the calls of methods, in order.
        error: code and details that `Fail` ends with, and after how long to try again.
        cancelled: set when a caller gave up on `Hang`.
        accepts: the only `authorization` that `Greet` takes; None: any.
    """

    port: int = 0
    calls: list[dict[str, str]] = field(default_factory=list)
    error: tuple[grpc.StatusCode, str, float | None] = (grpc.StatusCode.NOT_FOUND, "no such pet", None)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    accepts: str | None = None
    pool: DescriptorPool = field(default_factory=DescriptorPool)

    def __post_init__(self):
        self.connected = set()

    def message(self, name):
        return message_factory.GetMessageClass(self.pool.FindMessageTypeByName(f"shop.{name}"))

    @property
    def service(self):
        """What a call needs to reach it."""
        return {"name": NAME, "host": "127.0.0.1", "port": self.port}

    def record(self, context):
        self.calls.append(dict(context.invocation_metadata()))
        self.connected.add(context.peer())

    async def greet(self, query, context):
        self.record(context)
        if self.accepts not in (None, self.calls[-1].get("authorization")):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")
        return self.message("Pet")(name=f"Hello {query.name}", photo=bytes(query.size))

    async def echo(self, pet, context):
        self.record(context)
        return pet

    async def fail(self, query, context):
        self.record(context)
        code, details, seconds = self.error
        if seconds is not None:
            status = status_pb2.Status(code=code.value[0], message=details)
            info = error_details_pb2.RetryInfo()
            info.retry_delay.FromNanoseconds(int(seconds * 1e9))
            status.details.add().Pack(info)
            context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        await context.abort(code, details)

    async def hang(self, query, context):
        self.record(context)
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()

    async def list(self, query, context):
        self.record(context)
        for number in range(query.count):
            yield self.message("Pet")(name=f"{query.name}{number}", photo=bytes(query.size))

    async def register(self, pets, context):
        self.record(context)
        return self.message("Summary")(names=[pet.name async for pet in pets])

    async def chat(self, pets, context):
        self.record(context)
        async for pet in pets:
            pet.name = pet.name.upper()
            yield pet


_SHAPES = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


@asynccontextmanager
async def pets_server(*, reflects=True, certificate=None, port=0):
    """Serve; `certificate` is a pair of PEM files."""
    pets = Pets()
    (compiled,) = compile_source(PROTO.encode())
    for file in FileDescriptorSet.FromString(compiled).file:
        pets.pool.Add(file)
    handlers = {}
    for method in pets.pool.FindServiceByName(NAME).methods:
        handlers[method.name] = _SHAPES[method.client_streaming, method.server_streaming](
            getattr(pets, method.name.lower()),
            request_deserializer=message_factory.GetMessageClass(method.input_type).FromString,
            response_serializer=message_factory.GetMessageClass(method.output_type).SerializeToString,
        )
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(NAME, handlers)])
    if reflects:
        reflection.enable_server_reflection((NAME,), server, pool=pets.pool)
    if certificate is None:
        pets.port = server.add_insecure_port(f"127.0.0.1:{port or free_port()}")
    else:
        pair = [(certificate[1].read_bytes(), certificate[0].read_bytes())]
        pets.port = server.add_secure_port(f"127.0.0.1:{port}", grpc.ssl_server_credentials(pair))
    await server.start()
    try:
        yield pets
    finally:
        await server.stop(None)
