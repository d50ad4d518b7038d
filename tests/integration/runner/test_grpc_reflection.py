"""Servers whose reflection answers with nonsense, or with more than anybody needs."""

from __future__ import annotations

from itertools import count

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, MethodDescriptorProto, ServiceDescriptorProto
from grpc_reflection.v1alpha import reflection_pb2
from support.calls import kind

from runner.components.grpc_call import schemas


@pytest.fixture
async def reflecting():
    """Serve reflection that answers each question with files; returns what a call needs."""
    servers = []

    async def start(answer):
        async def info(requests, _context):
            async for request in requests:
                files = [f if isinstance(f, bytes) else f.SerializeToString() for f in answer(request)]
                described = reflection_pb2.FileDescriptorResponse(file_descriptor_proto=files)
                yield reflection_pb2.ServerReflectionResponse(file_descriptor_response=described)

        handler = grpc.stream_stream_rpc_method_handler(
            info,
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        name = "grpc.reflection.v1.ServerReflection"
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": handler})])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        servers.append(server)
        return {"name": "shop.Pets", "host": "127.0.0.1", "port": port}

    yield start
    for server in servers:
        await server.stop(None)


NUMBERS = count()
UNKNOWN_TYPES = ServiceDescriptorProto(
    name="Pets", method=[MethodDescriptorProto(name="Get", input_type=".no.Such", output_type=".no.Such")]
)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (lambda _: [b"\xff\xff"], ("communication", "file descriptor")),
        (lambda _: [], ("communication", "the service shop.Pets")),
        (
            lambda _: [
                FileDescriptorProto(name="a", dependency=["b"]),
                FileDescriptorProto(name="b", dependency=["a"]),
            ],
            ("communication", "import each other"),
        ),
        (lambda _: [FileDescriptorProto(name="a", dependency=["a"])], ("communication", "import each other")),
        (
            lambda _: [FileDescriptorProto(name=f"f{(n := next(NUMBERS))}", dependency=[f"f{n + 1}"])],
            ("communication", "500000 bytes"),
        ),
        (lambda _: [FileDescriptorProto(name="a" * 600_000)], ("communication", "500000 bytes")),
        (lambda _: [FileDescriptorProto(name="a", package="shop")], ("configuration", "there is no service")),
        (
            lambda _: [FileDescriptorProto(name="a", package="shop", service=[UNKNOWN_TYPES])],
            ("configuration", "inconsistent"),
        ),
    ],
)
async def test_reflection_that_makes_no_sense_is_an_error(call, reflecting, monkeypatch, answer, expected):
    monkeypatch.setattr(schemas, "MAX_FILES", 5)
    monkeypatch.setattr(schemas, "MAX_BYTES", 500_000)
    error = await call("grpc", service=await reflecting(answer), method="Get")
    assert kind(error)[0] == expected[0]
    assert expected[1] in error.detail
