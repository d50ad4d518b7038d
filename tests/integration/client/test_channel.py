"""The channel that adds a token: every kind of call carries it, whatever else is sent along."""

from __future__ import annotations

import grpc
import pytest

from flowhook.client import channel


def reply(context):
    metadata = dict(context.invocation_metadata())
    return f"{metadata['authorization']} {metadata.get('extra', '-')}".encode()


async def unary(_request, context):
    return reply(context)


async def stream(_request, context):
    yield reply(context)


@pytest.fixture
async def connection():
    """A channel to a server that answers every method with the metadata it got."""
    server = grpc.aio.server(options=channel.SERVER_OPTIONS)
    handlers = {
        "UnaryUnary": grpc.unary_unary_rpc_method_handler(unary),
        "UnaryStream": grpc.unary_stream_rpc_method_handler(stream),
        "StreamUnary": grpc.stream_unary_rpc_method_handler(unary),
        "StreamStream": grpc.stream_stream_rpc_method_handler(stream),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with channel.connect(f"127.0.0.1:{port}", "fhk_t") as connected:
        yield connected
    await server.stop(0)


async def requests():
    yield b""


@pytest.mark.parametrize(("metadata", "extra"), [({}, "-"), ({"metadata": (("extra", "1"),)}, "1")])
async def test_every_kind_of_call_carries_the_token(connection, metadata, extra):
    expected = f"Bearer fhk_t {extra}".encode()
    assert await connection.unary_unary("/test.Echo/UnaryUnary")(b"", **metadata) == expected
    assert [item async for item in connection.unary_stream("/test.Echo/UnaryStream")(b"", **metadata)] == [expected]
    assert await connection.stream_unary("/test.Echo/StreamUnary")(requests(), **metadata) == expected
    answers = connection.stream_stream("/test.Echo/StreamStream")(requests(), **metadata)
    assert [item async for item in answers] == [expected]


async def test_it_reports_the_state_of_its_connection(connection):
    await connection.channel_ready()
    assert connection.get_state() is grpc.ChannelConnectivity.READY


def test_clients_ping_no_more_often_than_servers_permit():
    client, server = dict(channel.CHANNEL_OPTIONS), dict(channel.SERVER_OPTIONS)
    assert client["grpc.keepalive_time_ms"] >= server["grpc.http2.min_recv_ping_interval_without_data_ms"]
    assert client["grpc.max_send_message_length"] == server["grpc.max_receive_message_length"]
