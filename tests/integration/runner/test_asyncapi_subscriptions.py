"""Subscriptions of `call: asyncapi`: what is acknowledged when, and what a new process gets."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import uuid
from dataclasses import dataclass, replace
from typing import Any

import aio_pika
import aiomqtt
import nats
import orjson
import pytest
from aiohttp import web
from aiokafka import AIOKafkaProducer
from aiokafka.conn import AIOKafkaConnection
from support.amqp_broker import PASSWORD, USER
from support.asyncapi_documents import document
from support.calls import kind
from support.nats_servers import nats_server
from support.patience import PATIENCE

from flowhook.process.settings import RunnerSettings
from flowhook.security.address_policy import AddressPolicy
from flowhook.sharing.table import RunnerLimits
from runner.components.asyncapi import connections, kafka, subscriptions
from runner.components.asyncapi.amqp import MAX_QUEUED
from runner.components.base import SharedResources
from runner.components.registry import components
from runner.interpreter.effects import Perform
from runner.outbound.http_client import HttpClient
from runner.worker.effect_executor import EffectExecutor

MOSQUITTO = shutil.which("mosquitto")
MOMENT = 0.2  # how long a call waits that gets nothing
LOGIN = {"basic": {"username": USER, "password": PASSWORD}}


@dataclass
class Followed:
    """A channel of a broker: how to subscribe to it, and to publish to it."""

    document: dict[str, Any]
    protocol: str
    publish: Any
    authentication: dict[str, Any] | None = None
    has_identity: bool = True
    consumers: Any = None  # returns what the broker has for subscriptions


@contextlib.asynccontextmanager
async def process():
    """What the calls of one runner share; leaving it without `close` is what a crash does to connections."""
    settings = RunnerSettings(http_timeout=PATIENCE, allow_private_addresses=True)
    async with HttpClient(address_policy=AddressPolicy.ALL) as http, SharedResources(settings) as shared:
        yield EffectExecutor(components(), http, settings, shared)


@pytest.fixture
async def receive(documents):
    served = {}

    async def run(
        runner,
        followed,
        last=None,
        *,
        seconds=PATIENCE,
        release=False,
        until_ms=None,
        name="flowhook-test",
        flow="orders",
    ):
        if id(followed) not in served:
            served[id(followed)] = await documents(followed.document)
        state = {"flow": flow, "name": name, "last": last, "seconds": seconds, "release": release}
        state["until_ms"] = until_ms
        arguments = {
            "document": served[id(followed)],
            "operation": "follow",
            "protocol": followed.protocol,
            "subscription": state,
        }
        if followed.authentication is not None:
            arguments["authentication"] = followed.authentication
        effect = Perform("/do/0/follow#0", "asyncapi.subscribe", arguments, "/do/0/follow")
        result = await runner.perform("evt_1", effect, None)
        return result.error or orjson.loads(result.output)

    return run


@pytest.fixture(scope="module")
def nats_broker(tmp_path_factory):
    with nats_server(tmp_path_factory.mktemp("nats")) as running:
        yield running


@pytest.fixture
async def over_nats(nats_broker):
    client = await nats.connect(f"nats://{nats_broker.address}", user="flowhook", password="secret")
    login = {"basic": {"username": "flowhook", "password": "secret"}}

    async def publish(payload):
        await client.publish("plain.orders", payload, headers={"trace": "t1"})
        await client.flush()

    described = document(nats_broker.address, "nats", address="plain.orders")
    yield Followed(described, "nats", publish, login, has_identity=False)
    await client.close()


@pytest.fixture
async def over_jetstream(nats_broker):
    client = await nats.connect(f"nats://{nats_broker.address}", user="flowhook", password="secret")
    await client.jetstream().add_stream(name="orders", subjects=["orders.>"])
    login = {"basic": {"username": "flowhook", "password": "secret"}}

    async def publish(payload):
        await client.jetstream().publish("orders.paid", payload, headers={"trace": "t1"})

    await publish(b'{"order":0}')  # before the subscription begins
    described = document(nats_broker.address, "nats", address="orders.*")
    yield Followed(described, "nats", publish, login, consumers=lambda: client.jetstream().consumers_info("orders"))
    await client.jetstream().delete_stream("orders")
    await client.close()


@pytest.fixture
async def over_kafka(kafka):
    producer, topic = AIOKafkaProducer(bootstrap_servers=kafka), f"followed-{uuid.uuid4()}"
    await producer.start()

    async def publish(payload):
        await producer.send_and_wait(topic, payload, headers=[("trace", b"t1")], partition=0)

    await publish(b'{"order":0}')
    yield Followed(document(kafka, "kafka", address=topic), "kafka", publish)
    await producer.stop()


async def published_over_amqp(amqp):
    host, port = amqp.address.split(":")
    connection = await aio_pika.connect(host=host, port=int(port), login=USER, password=PASSWORD)
    return connection, await connection.channel()


@pytest.fixture
async def over_amqp(amqp):
    connection, channel = await published_over_amqp(amqp)
    numbers = iter(range(100))

    async def publish(payload):
        message = aio_pika.Message(payload, headers={"trace": "t1"}, message_id=f"m{next(numbers)}")
        exchange = await channel.get_exchange("shop", ensure=False)
        await exchange.publish(message, routing_key="paid", mandatory=False)

    bindings = {"amqp": {"is": "routingKey", "exchange": {"name": "shop"}}}
    yield Followed(document(amqp.address, "amqp", address="paid", bindings=bindings), "amqp", publish, LOGIN)
    await connection.close()
    await asyncio.sleep(0)


@pytest.fixture
async def over_mqtt(mqtt):
    host, port = mqtt.split(":")
    async with aiomqtt.Client(host, int(port)) as client:

        async def publish(payload):
            await client.publish("orders/paid", payload, qos=1)

        yield Followed(document(mqtt, "mqtt", address="orders/+"), "mqtt", publish, has_identity=False)


@pytest.fixture(params=["nats", "jetstream", "kafka", "amqp", "mqtt"])
def followed(request):
    return request.getfixturevalue(f"over_{request.param}")


@pytest.fixture(params=["jetstream", "kafka", "amqp"])
def identified(request):
    return request.getfixturevalue(f"over_{request.param}")


@pytest.fixture(params=["jetstream", "kafka", "amqp", "mqtt"])
def kept(request):
    return request.getfixturevalue(f"over_{request.param}")


def orders(*received):
    return [each["message"]["payload"]["order"] for each in received]


async def test_messages_come_one_after_another(receive, followed):
    async with process() as runner:
        nothing = await receive(runner, followed, seconds=MOMENT)
        assert nothing == {"message": None, "token": None, "ended": False}
        for order in (1, 2):
            await followed.publish(orjson.dumps({"order": order}))
        first = await receive(runner, followed)
        second = await receive(runner, followed, first["token"])
        assert orders(first, second) == [1, 2]
        if followed.protocol != "mqtt":
            assert first["message"]["headers"]["trace"] == "t1"
        assert (await receive(runner, followed, second["token"], release=True))["message"] is None


async def test_what_the_journal_lacks_comes_again_in_a_new_process(receive, kept):
    if kept.protocol == "mqtt" and MOSQUITTO is None:
        pytest.skip("amqtt does not send again what a session has not acknowledged; mosquitto does")
    async with process() as runner:
        await receive(runner, kept, seconds=MOMENT)
        for order in (1, 2):
            await kept.publish(orjson.dumps({"order": order}))
        first = await receive(runner, kept)
        lost = await receive(runner, kept, first["token"])
        assert orders(first, lost) == [1, 2]
    async with process() as runner:
        again = await receive(runner, kept, first["token"])
        assert orders(again) == [2]
        await receive(runner, kept, again["token"], release=True)
    async with process() as runner:
        assert (await receive(runner, kept, seconds=MOMENT))["message"] is None


async def test_what_the_journal_has_does_not_come_again_although_it_was_not_acknowledged(receive, identified):
    async with process() as runner:
        await receive(runner, identified, seconds=MOMENT)
        for order in (1, 2):
            await identified.publish(orjson.dumps({"order": order}))
        first = await receive(runner, identified)
    async with process() as runner:
        second = await receive(runner, identified, first["token"])
        assert orders(first, second) == [1, 2]
    async with process() as runner:
        released = await receive(runner, identified, second["token"], release=True)
        assert released["message"] is None
    async with process() as runner:
        assert (await receive(runner, identified, seconds=MOMENT))["message"] is None


async def test_a_call_that_was_lost_gives_its_message_to_the_next_one(receive, over_jetstream):
    async with process() as runner:
        await receive(runner, over_jetstream, seconds=MOMENT)
        await over_jetstream.publish(b'{"order":1}')
        lost = await receive(runner, over_jetstream)
        again = await receive(runner, over_jetstream)
        assert orders(lost, again) == [1, 1]


async def test_a_subscription_ends_at_its_time(receive, over_jetstream):
    async with process() as runner:
        ended = await receive(runner, over_jetstream, until_ms=1)
        assert ended == {"message": None, "token": None, "ended": True}


async def test_messages_come_over_websocket(receive, http_server):
    async def handle(request):
        accepted = web.WebSocketResponse()
        await accepted.prepare(request)
        await accepted.send_str('{"order":1}')
        await accepted.send_bytes(b"\xff\x00")
        await accepted.close()
        return accepted

    host = (await http_server(handle)).removeprefix("http://")
    followed = Followed(document(host, "ws", address="live"), "ws", None)
    async with process() as runner:
        first = await receive(runner, followed)
        second = await receive(runner, followed, first["token"])
        assert [each["message"]["payload"] for each in (first, second)] == [{"order": 1}, "/wA="]
        lost = await receive(runner, followed, second["token"])
        assert kind(lost) == ("communication", 503)


async def test_an_http_server_is_not_subscribed_to(receive):
    async with process() as runner:
        error = await receive(runner, Followed(document("127.0.0.1:9", "http", address="x"), "http", None))
    assert kind(error) == ("configuration", 400)
    assert "a webhook or a callback receives messages" in error.detail


async def test_a_subscription_that_is_over_leaves_nothing_at_the_broker(receive, over_jetstream, over_amqp, amqp):
    for followed in (over_jetstream, over_amqp):
        async with process() as runner:
            await receive(runner, followed, seconds=MOMENT)
            await followed.publish(b'{"order":1}')
            first = await receive(runner, followed)
            await followed.publish(b'{"order":2}')
            await receive(runner, followed, first["token"], release=True)
    assert not amqp.declared
    assert not await over_jetstream.consumers()


@pytest.mark.parametrize("binding", [{"queue": {"name": "orders"}}, {"is": "queue", "queue": {"name": "orders"}}])
async def test_a_queue_that_the_document_binds_is_consumed_and_stays(receive, amqp, binding):
    amqp.declared["orders"] = {}
    connection, channel = await published_over_amqp(amqp)
    await channel.default_exchange.publish(aio_pika.Message(b'{"order":1}'), routing_key="orders")
    described = document(amqp.address, "amqp", address="anything", bindings={"amqp": binding})
    followed = Followed(described, "amqp", None, LOGIN)
    async with process() as runner:
        first = await receive(runner, followed)
        assert orders(first) == [1]
        await receive(runner, followed, first["token"], release=True)
    assert amqp.declared.keys() == {"orders"}
    assert not amqp.queues["orders"]
    await connection.close()
    await asyncio.sleep(0)


async def test_what_kafka_names_later_is_checked_as_well(receive, over_kafka, monkeypatch):
    checked, connect = [], AIOKafkaConnection.connect

    async def connect_checked(connection):
        checked.append(kafka._guard.get(None) is not None)
        return await connect(connection)

    async with process() as runner:
        # each call has a task, as in a runner
        await asyncio.create_task(receive(runner, over_kafka, seconds=MOMENT))
        await over_kafka.publish(b'{"order":1}')
        first = await receive(runner, over_kafka)
        (session,) = runner.shared.get(subscriptions.Subscriptions)._sessions.values()
        monkeypatch.setattr(AIOKafkaConnection, "connect", connect_checked)
        for connection in list(session.source._consumer._client._conns.values()):
            connection.close()
        # the call that acknowledges connects to the coordinator of the group
        await receive(runner, over_kafka, first["token"], release=True)
    assert checked
    assert all(checked)


async def test_one_flow_has_half_of_the_subscriptions_and_idle_ones_are_closed(receive, over_nats, monkeypatch):
    small = RunnerLimits(subscriptions=replace(RunnerLimits().subscriptions, total=4))
    monkeypatch.setattr(subscriptions, "RunnerLimits", lambda: small)
    async with process() as runner:
        for name in ("a", "b"):
            await receive(runner, over_nats, seconds=MOMENT, name=name)
        error = await receive(runner, over_nats, seconds=MOMENT, name="c")
        assert kind(error) == ("communication", 503)
        assert error.detail == (
            "asyncapi: too many subscriptions to brokers of one flow, which has its share of 4: end some, or try again"
            " in 5 s"
        )
        for flow in ("payments", "returns"):
            assert (await receive(runner, over_nats, seconds=MOMENT, name=flow, flow=flow))["message"] is None
        error = await receive(runner, over_nats, seconds=MOMENT, name="d", flow="another")
        assert (kind(error), "there may be 4" in error.detail) == (("communication", 503), True)
        monkeypatch.setattr(subscriptions, "IDLE_SECONDS", 0.0)
        shared = runner.shared.get(subscriptions.Subscriptions)
        shared._sweeper.cancel()
        await asyncio.wait([shared._sweeper])
        await receive(runner, over_nats, seconds=MOMENT, name="a")
        async with asyncio.timeout(PATIENCE):
            await shared._sweeper
        assert (await receive(runner, over_nats, seconds=MOMENT, name="c"))["message"] is None


async def test_a_message_that_is_too_large_for_a_flow_ends_the_subscription(receive, over_amqp):
    async with process() as runner:
        await receive(runner, over_amqp, seconds=MOMENT)
        await over_amqp.publish(bytes(2 * connections.MAX_RECEIVED_BYTES))
        assert kind(await receive(runner, over_amqp)) == ("communication", 503)


async def test_a_broker_that_sends_more_messages_than_asked_for_is_left(receive, over_amqp, amqp):
    async with process() as runner:
        await receive(runner, over_amqp, seconds=MOMENT)
        (consumer,) = amqp.consumers
        consumer.prefetch = MAX_QUEUED + 2
        for order in range(MAX_QUEUED + 2):
            await over_amqp.publish(orjson.dumps({"order": order}))
        async with asyncio.timeout(PATIENCE):
            while amqp.consumers:
                await asyncio.sleep(0.01)
