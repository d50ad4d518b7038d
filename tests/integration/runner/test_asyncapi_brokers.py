"""`call: asyncapi` over Kafka, AMQP, MQTT and WebSocket.

The brokers are in the process of the tests: librdkafka's mock cluster for Kafka, amqtt for MQTT 3.1.1, and one of the
tests' own for AMQP.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
from dataclasses import replace

import aiomqtt
import pytest
from aiohttp import web
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from support.amqp_broker import PASSWORD, USER
from support.asyncapi_documents import document
from support.calls import kind
from support.patience import PATIENCE

from flowhook.attach.messages import DestinationState, DestinationUpdate
from flowhook.process.settings import RunnerSettings
from flowhook.security.address_policy import AddressPolicy
from flowhook.sharing import Principal, current_principal
from flowhook.sharing.table import RunnerLimits
from runner.components import base
from runner.components.asyncapi.kafka import KafkaConnection
from runner.components.base import SharedResources
from runner.components.connection_pool import ConnectionPool
from runner.components.registry import components
from runner.interpreter.effects import Perform
from runner.interpreter.errors import TaskFault
from runner.outbound.destinations import CallGate, Destinations
from runner.outbound.http_client import HttpClient
from runner.worker.effect_executor import EffectExecutor

KEY = "evt_1:/do/0/ask#0"
LOGIN = {"basic": {"username": USER, "password": PASSWORD}}
PAID = {"payload": {"order": 7}, "headers": {"trace": "t1"}}


async def test_kafka_stores_a_message_with_its_key(call, documents, kafka):
    described = await documents(document(kafka, "kafka", address="stored.{order}"))
    given = {"document": described, "operation": "announce", "protocol": "kafka", "seconds": PATIENCE}
    stored = await call("asyncapi", message=PAID, **given)
    assert (stored["topic"], stored["offset"]) == ("stored.7", 0)
    consumer = AIOKafkaConsumer("stored.7", bootstrap_servers=kafka, auto_offset_reset="earliest")
    await consumer.start()
    async with asyncio.timeout(PATIENCE):
        record = await consumer.getone()
    await consumer.stop()
    assert (record.value, dict(record.headers)) == (
        b'{"order":7}',
        {"content-type": b"application/json", "Idempotency-Key": KEY.encode(), "trace": b"t1"},
    )


async def test_a_kafka_broker_at_a_private_address_is_not_called(perform, documents, kafka):
    described = document(kafka, "kafka", address="stored")
    result = await perform(
        "asyncapi",
        allow=False,
        operation="announce",
        message=PAID,
        protocol="kafka",
        document=await documents(described),
    )
    assert kind(result.error)[1] == 403


async def test_a_kafka_broker_that_is_not_there_is_a_communication_error(call, documents):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        host = f"127.0.0.1:{closed.getsockname()[1]}"
    described = await documents(document(host, "kafka", address="stored"))
    error = await call(
        "asyncapi", operation="announce", message=PAID, protocol="kafka", document=described, seconds=PATIENCE
    )
    assert kind(error)[0] == "communication"
    assert host in error.detail


@pytest.mark.parametrize(("protocol", "scheme"), [("amqp", "amqp"), ("nats", "nats"), ("ws", "http")])
async def test_a_broker_that_is_not_there_is_a_destination_that_is_down(documents, protocol, scheme):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        host = f"127.0.0.1:{closed.getsockname()[1]}"
    described = await documents(document(host, protocol, address="stored"))
    arguments = {"document": described, "operation": "announce", "message": PAID, "protocol": protocol}
    effect = Perform("/do/0/ask#0", "asyncapi", arguments, "/do/0/ask", timeout=PATIENCE)
    reports = []
    destinations = Destinations(reports.append)
    settings = RunnerSettings(allow_private_addresses=True)
    async with HttpClient(address_policy=AddressPolicy.ALL) as http, SharedResources(settings) as shared:
        runner = EffectExecutor(components(), http, settings, shared)
        failed = await runner.perform("evt_1", effect, None, gate=CallGate(destinations, "f"))
        assert kind(failed.error)[0] == "communication"
        assert [(each.origin, each.failures) for each in reports] == [(f"{scheme}://{host}", 1)]
        down = DestinationUpdate("f", f"{scheme}://{host}", DestinationState.PARKS)
        destinations.update([down], renewed=False)
        parked = await runner.perform("evt_1", effect, None, gate=CallGate(destinations, "f"))
    assert (parked.destination, len(reports)) == (f"{scheme}://{host}", 1)


async def test_amqp_confirms_a_message_with_its_key(call, documents, amqp):
    amqp.declared["orders"] = {}
    bindings = {"amqp": {"is": "queue", "queue": {"name": "orders"}, "priority": 3}}
    described = await documents(document(amqp.address, "amqp", address="anything", bindings=bindings))
    given = {"document": described, "operation": "announce", "protocol": "amqp", "authentication": LOGIN}
    assert await call("asyncapi", message=PAID, seconds=PATIENCE, **given) is None
    (message,) = amqp.queues["orders"]
    properties = message["properties"]
    assert (message["body"], properties.message_id, properties.priority) == (b'{"order":7}', KEY, 3)
    assert (properties.content_type, properties.delivery_mode) == ("application/json", 2)
    assert properties.headers == {"Idempotency-Key": KEY, "trace": "t1"}


async def test_amqp_routes_by_exchange_and_key_and_what_no_queue_takes_is_an_error(call, documents, amqp):
    amqp.bindings["shop", "paid.7"].add("orders")
    bindings = {"amqp": {"is": "routingKey", "exchange": {"name": "shop", "type": "topic"}}}
    described = await documents(document(amqp.address, "amqp", address="paid.{order}", bindings=bindings))
    given = {"document": described, "operation": "announce", "protocol": "amqp", "authentication": LOGIN}
    assert await call("asyncapi", message=PAID, seconds=PATIENCE, **given) is None
    assert len(amqp.queues["orders"]) == 1
    error = await call("asyncapi", message={"payload": {"order": 8}}, seconds=PATIENCE, **given)
    assert (kind(error), error.detail) == (
        ("communication", 404),
        f"{amqp.address}: no queue takes messages to 'paid.8'",
    )


async def test_amqp_refuses_wrong_credentials(call, documents, amqp):
    described = await documents(document(amqp.address, "amqp", address="orders"))
    wrong = {"basic": {"username": USER, "password": "s3cret"}}
    given = {"document": described, "operation": "announce", "protocol": "amqp", "message": PAID}
    error = await call("asyncapi", authentication=wrong, seconds=PATIENCE, **given)
    assert kind(error) == ("authentication", 401)
    error = await call("asyncapi", authentication=wrong, allow=False, **given)
    assert kind(error)[1] == 403


async def test_mqtt_publishes_with_the_quality_of_the_operation(call, documents, mqtt):
    host, port = mqtt.split(":")
    async with aiomqtt.Client(host, int(port)) as client:
        await client.subscribe("orders/#", qos=1)
        bindings = {"mqtt": {"qos": 1, "retain": False}}
        described = await documents(document(mqtt, "mqtt", bindings=bindings))
        given = {"document": described, "operation": "announce", "protocol": "mqtt", "seconds": PATIENCE}
        assert await call("asyncapi", message={"payload": {"order": 7}}, **given) is None
        async with asyncio.timeout(PATIENCE):
            message = await anext(aiter(client.messages))
    assert (str(message.topic), message.payload, message.qos) == ("orders/7", b'{"order":7}', 1)
    error = await call("asyncapi", message=PAID, **given)
    assert kind(error) == ("configuration", 400)
    assert "MQTT 3.1.1 can't carry headers" in error.detail
    error = await call("asyncapi", message={"payload": {"order": 7}}, allow=False, **given)
    assert kind(error)[1] == 403


@pytest.mark.skipif(
    shutil.which("mosquitto") is None, reason="amqtt speaks MQTT 3.1.1 only; mosquitto speaks 5 as well"
)
async def test_mqtt_5_carries_key_content_type_and_headers(call, documents, mqtt):
    host, port = mqtt.split(":")
    async with aiomqtt.Client(host, int(port), protocol=aiomqtt.ProtocolVersion.V5) as client:
        await client.subscribe("orders/#", qos=1)
        described = await documents(document(mqtt, "mqtt5"))
        given = {"document": described, "operation": "announce", "protocol": "mqtt5", "seconds": PATIENCE}
        assert await call("asyncapi", message=PAID, **given) is None
        async with asyncio.timeout(PATIENCE):
            message = await anext(aiter(client.messages))
    assert message.properties.ContentType == "application/json"
    assert message.properties.UserProperty == [("Idempotency-Key", KEY), ("trace", "t1")]


async def test_a_message_over_websocket_has_its_key_in_the_handshake(call, documents, http_server):
    received = []

    async def handle(request):
        accepted = web.WebSocketResponse()
        await accepted.prepare(request)
        messages = [message.data async for message in accepted]
        received.append((request.path, dict(request.headers), messages))
        return accepted

    host = (await http_server(handle)).removeprefix("http://")
    described = await documents(document(host, "ws", pathname="/live"))
    given = {"document": described, "operation": "announce", "protocol": "ws", "seconds": PATIENCE}
    bearer = {"bearer": {"token": "t0ken"}}
    assert await call("asyncapi", message=PAID, authentication=bearer, **given) is None
    ((path, headers, messages),) = received
    assert (path, messages) == ("/live/orders/7", ['{"order":7}'])
    assert (headers["Idempotency-Key"], headers["trace"]) == (KEY, "t1")
    assert headers["Authorization"] == "Bearer t0ken"
    error = await call("asyncapi", message=PAID, allow=False, **given)
    assert kind(error) == ("communication", 403)


async def test_a_server_without_websocket_is_a_communication_error(call, documents, http_server):
    async def refuse(_request):
        return web.Response(status=404)

    host = (await http_server(refuse)).removeprefix("http://")
    given = {"document": await documents(document(host, "ws")), "operation": "announce", "protocol": "ws"}
    error = await call("asyncapi", message=PAID, **given)
    assert kind(error)[0] == "communication"


async def test_a_websocket_server_can_not_send_the_credentials_elsewhere(call, documents, http_server):
    received = []

    async def take(request):
        received.append(dict(request.headers))
        accepted = web.WebSocketResponse()
        await accepted.prepare(request)
        return accepted

    elsewhere = await http_server(take)

    async def redirect(_request):
        raise web.HTTPTemporaryRedirect(elsewhere)

    host = (await http_server(redirect)).removeprefix("http://")
    given = {"document": await documents(document(host, "ws")), "operation": "announce", "protocol": "ws"}
    message = {"payload": {"order": 7}, "headers": {"X-Api-Key": "s3cret"}}
    error = await call("asyncapi", message=message, **given)
    assert (kind(error)[0], received) == ("communication", [])
    assert "the server does not accept the WebSocket connection" in error.detail


@pytest.mark.parametrize("protocol", ["mqtt", "nats"])
async def test_a_server_that_says_nothing_is_left(call, documents, protocol):
    opened, left = [], asyncio.Queue()

    async def listen(reader, writer):
        opened.append(writer)
        while await reader.read(1000):
            pass
        writer.close()
        left.put_nowait(writer)

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    described = await documents(document(host, protocol, address="orders"))
    error = await call(
        "asyncapi", operation="announce", message={"payload": 1}, protocol=protocol, document=described, seconds=1.5
    )
    assert kind(error)[0] in ("communication", "timeout")
    assert len(opened) > 1  # the first connection only finds the address
    async with asyncio.timeout(PATIENCE):
        for _ in range(len(opened)):
            await left.get()
    server.close()


async def test_a_connection_to_a_kafka_broker_that_does_not_answer_is_closed(kafka):
    producer = AIOKafkaProducer(bootstrap_servers=kafka, request_timeout_ms=3000)
    await producer.start()
    connection = KafkaConnection(producer, None)
    await producer.send_and_wait("stalled", b"1", partition=0)
    for each in producer.client._conns.values():
        each._writer.write = lambda _request: None
    sending = asyncio.create_task(connection.send("stalled", b"2", []))
    async with asyncio.timeout(PATIENCE):
        while not producer._sender._in_flight:
            await asyncio.sleep(0.01)
        sending.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):  # as the pool does
                await connection.close()
        while producer.client._sync_task is not None:
            await asyncio.sleep(0.01)
    assert producer._sender.sender_task.done()


async def test_a_missing_library_says_what_to_install(call, documents, monkeypatch):
    def fail(name):
        raise ModuleNotFoundError(name="aiokafka")

    monkeypatch.setattr(base.importlib, "import_module", fail)
    described = await documents(document("127.0.0.1:9", "kafka", address="orders"))
    error = await call("asyncapi", operation="announce", message=PAID, protocol="kafka", document=described)
    assert kind(error) == ("configuration", 400)
    assert error.detail == "asyncapi: this runner lacks aiokafka: install flowhook[kafka] where runners run"


INFO = b'INFO {"server_id":"a","version":"2.10.0","max_payload":1048576,"headers":true}\r\nPONG\r\n'
ENDLESS = {
    "kafka": b"\x7f\xff\xff\xff",  # the size of a response
    "amqp": b"\x01\x00\x00\x7f\xff\xff\xff",  # a frame of a method
    "nats": INFO + b"MSG a 1 2000000000\r\n",
    "mqtt": b"\x20\x02\x00\x00" + b"\x30\xff\xff\xff\x7f",  # the connection is accepted; a message
}
TOO_MUCH = 32 * 1024 * 1024


@pytest.mark.parametrize("protocol", ENDLESS)
async def test_a_broker_that_announces_more_than_anybody_could_hold_is_not_read(call, documents, protocol):
    sent = []

    async def serve(reader, writer):
        if protocol != "nats":  # whose server speaks first
            await reader.read(1)
        writer.write(ENDLESS[protocol])
        sent.append(0)
        with contextlib.suppress(ConnectionError):
            while sent[-1] < TOO_MUCH:
                writer.write(bytes(65_536))
                await writer.drain()
                sent[-1] += 65_536
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    given = {"document": await documents(document(host, protocol, address="orders")), "protocol": protocol}
    # libraries that don't tell that the connection is lost wait until the deadline
    given |= {"operation": "announce", "message": {"payload": {"order": 7}}, "seconds": 2.0}
    error = await call("asyncapi", **given)
    server.close()
    assert kind(error)[0] in ("communication", "timeout")
    assert sent
    assert max(sent) < TOO_MUCH


async def test_a_flow_has_its_share_of_connections_and_takes_those_that_it_does_not_use():
    closed = []

    class Connection:
        def __init__(self, name):
            self.name = name

        async def close(self):
            closed.append(self.name)

    small = RunnerLimits(connections=replace(RunnerLimits().connections, total=4))
    pool = ConnectionPool(RunnerSettings(), limits=small)

    @contextlib.asynccontextmanager
    async def used(flow, name):
        async def open_():
            return Connection(name)

        current_principal.set(Principal("flow", flow))
        async with pool.use(name, open_) as connection:
            yield connection

    async with used("a", "one"), used("a", "two"):
        with pytest.raises(TaskFault, match="too many connections to brokers and gRPC servers of one flow") as refused:
            await used("a", "three").__aenter__()
        assert kind(refused.value.error) == ("communication", 503)
        async with used("b", "four"):
            pass
        with pytest.raises(TaskFault, match="too many connections to brokers and gRPC servers of one flow"):
            await used("a", "three").__aenter__()
        assert closed == []  # that of another flow would not help
    async with used("a", "five"):
        assert closed == ["one", "two"]
    async with used("c", "six"), used("c", "seven"):
        assert closed == ["one", "two", "four", "five"]
    await pool.close()
    assert sorted(closed) == ["five", "four", "one", "seven", "six", "two"]
