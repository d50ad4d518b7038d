"""`call: asyncapi` against real servers."""

from __future__ import annotations

import asyncio
import urllib.request

import nats
import orjson
import pytest
from aiohttp import web
from support.asyncapi_documents import document
from support.calls import echo, kind
from support.nats_servers import nats_server
from support.patience import PATIENCE

from runner.components import resource

KEY = "evt_1:/do/0/ask#0"


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with nats_server(tmp_path_factory.mktemp("nats")) as running:
        yield running


LOGIN = {"basic": {"username": "flowhook", "password": "secret"}}


async def connected(broker):
    return await nats.connect(f"nats://{broker.address}", user="flowhook", password="secret")


@pytest.mark.parametrize("version", ["2.6.0", "3.0.0"])
async def test_a_message_over_http_is_a_request(call, documents, http_server, version):
    host = (await http_server(echo)).removeprefix("http://")
    described = document(host, "http", version=version, pathname="/v1", bindings={"http": {"method": "PUT"}})
    selected = {"channel": "orders/{order}"} if version < "3" else {"operation": "announce", "protocol": "http"}
    answer = await call(
        "asyncapi",
        document=await documents(described),
        message={"payload": {"order": 7}, "headers": {"X-Trace": "t1"}},
        authentication={"bearer": {"token": "t0ken"}},
        **selected,
    )
    assert (answer["method"], answer["path"], answer["body"]) == ("PUT", "/v1/orders/7", '{"order":7}')
    headers = answer["headers"]
    assert (headers["content-type"], headers["x-trace"]) == ("application/json", "t1")
    assert (headers["idempotency-key"], headers["authorization"]) == (KEY, "Bearer t0ken")


async def test_an_error_of_the_server_is_that_of_http(perform, documents, http_server):
    async def refuse(_request):
        return web.Response(status=503, headers={"Retry-After": "7"})

    host = (await http_server(refuse)).removeprefix("http://")
    described = await documents(document(host, "http"))
    given = {"document": described, "operation": "announce", "server": {"name": "main"}}
    result = await perform("asyncapi", message={"payload": {"order": 7}}, **given)
    assert (kind(result.error), result.retry_after_ms) == (("communication", 503), 7000)


async def test_nats_delivers_a_message_with_its_key(call, documents, broker):
    client = await connected(broker)
    inbox = await client.subscribe("plain.>")
    await client.flush()
    described = await documents(document(broker.address, "nats", address="plain.{order}"))
    given = {"document": described, "operation": "announce", "protocol": "nats", "authentication": LOGIN}
    assert await call("asyncapi", message={"payload": {"order": 8}, "headers": {"trace": "t1"}}, **given) is None
    message = await inbox.next_msg(PATIENCE)
    assert (message.subject, message.data) == ("plain.8", b'{"order":8}')
    assert message.headers["Idempotency-Key"] == message.headers["Nats-Msg-Id"] == KEY
    assert (message.headers["trace"], message.headers["Content-Type"]) == ("t1", "application/json")
    await client.close()


async def test_a_stream_stores_a_message_that_is_sent_again_only_once(call, documents, broker):
    client = await connected(broker)
    await client.jetstream().add_stream(name="orders", subjects=["stored.>"])
    described = await documents(document(broker.address, "nats", address="stored.{order}"))
    given = {"document": described, "operation": "announce", "protocol": "nats", "authentication": LOGIN}
    first = await call("asyncapi", message={"payload": {"order": 7}}, **given)
    again = await call("asyncapi", message={"payload": {"order": 7}}, **given)
    assert first == {"stream": "orders", "sequence": 1, "duplicate": False}
    assert again == {"stream": "orders", "sequence": 1, "duplicate": True}
    assert (await client.jetstream().stream_info("orders")).state.messages == 1
    await client.close()


async def test_connections_are_shared_and_a_broken_one_is_replaced(caller, documents, tmp_path):
    with nats_server(tmp_path) as broker:
        described = await documents(document(broker.address, "nats", address="plain.{order}"))
        given = {"document": described, "operation": "announce", "protocol": "nats", "authentication": LOGIN}

        async def publish():
            return (await caller("asyncapi", message={"payload": {"order": 7}}, **given)).error

        def connections():
            with urllib.request.urlopen(f"http://{broker.monitor}/varz") as answer:
                return orjson.loads(answer.read())["total_connections"]

        before = connections()
        assert [await publish() for _ in range(3)] == [None] * 3
        assert connections() == before + 2  # one finds an address that is allowed
        await asyncio.to_thread(broker.stop)
        assert kind(await publish())[0] in ("communication", "timeout")
        await asyncio.to_thread(broker.start)
        assert await publish() is None


async def test_wrong_credentials_are_an_authentication_error(call, documents, broker):
    described = await documents(document(broker.address, "nats", address="plain.{order}"))
    given = {"document": described, "operation": "announce", "protocol": "nats", "message": {"payload": {"order": 7}}}
    wrong = {"basic": {"username": "flowhook", "password": "s3cret-that-is-wrong"}}
    error = await call("asyncapi", authentication=wrong, **given)
    assert kind(error) == ("authentication", 401)
    assert "s3cret" not in error.detail
    digest = await call("asyncapi", authentication={"digest": wrong["basic"]}, **given)
    assert kind(digest) == ("configuration", 400)


async def test_a_broker_at_a_private_address_is_not_called(perform, documents, broker, monkeypatch):
    described = await documents(document(broker.address, "nats", address="plain.{order}"))
    given = {"document": described, "operation": "announce", "protocol": "nats", "authentication": LOGIN}

    async def fetched(*_arguments):
        return orjson.dumps(document(f"localhost:{broker.address.rpartition(':')[2]}", "nats", address="plain.7"))

    monkeypatch.setattr(resource, "fetch", fetched)
    result = await perform("asyncapi", message={"payload": {"order": 7}}, allow=False, **given)
    assert kind(result.error) == ("communication", 403)
    assert "the address is not allowed" in result.error.detail


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"operation": "nope"}, "there is no operation nope in the document"),
        ({"operation": None, "channel": "orders"}, "select an `operation`, not a `channel`"),
        ({"server": {"name": "nope"}}, "the document has no server nope for announce"),
        ({"protocol": "kafka"}, "no server with the protocol kafka for announce"),
        ({"protocol": "amqp1"}, "the protocol amqp1 is not supported; those that are: http"),
        ({"server": {"name": "main", "variables": {"x": "y"}}}, "the server main has no variable x"),
        (
            {"message": {"payload": {"order": "5"}}},
            "the parameter order of the channel of announce has a value",
        ),
        (
            {"message": {"payload": {"order": "9.5"}}},
            "the parameter order of the channel of announce has a value",
        ),
        ({"message": {"payload": {}}}, "the parameter order of the channel of announce has no value"),
        ({"message": {"payload": {"order": 7}, "headers": {"a b": "c"}}}, "NATS can't carry the header 'a b'"),
        ({"document": {"endpoint": "file:///etc/passwd"}}, "files of a runner are not read"),
        ({"message": None}, "asyncapi: with.message: expected a mapping"),
    ],
)
async def test_what_will_not_do_is_a_configuration_error(call, documents, broker, given, expected):
    described = await documents(document(broker.address, "nats", address="plain.{order}"))
    usual = {"document": described, "operation": "announce", "protocol": "nats", "message": {"payload": {"order": 7}}}
    arguments = {key: value for key, value in {**usual, **given}.items() if value is not None or key == "message"}
    error = await call("asyncapi", authentication=LOGIN, **arguments)
    assert kind(error) == ("configuration", 400)
    assert expected in error.detail


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b" " * (10 * 1024 * 1024), "the response is larger than 1048576 bytes"),
        (b"<html>\n: [", "the document is neither JSON nor YAML"),
        (b"openapi: 3.0.0", "the document is neither AsyncAPI 2 nor 3"),
        (
            b'{"asyncapi":"3.0.0","operations":{"announce":{"$ref":"#/operations/announce"}}}',
            "references lead in circles",
        ),
        (b'{"asyncapi":"3.0.0","operations":{"announce":{"$ref":"http://evil/"}}}', "leads out of the document"),
        (b'{"asyncapi":"3.0.0","operations":{"announce":{"channel":7}}}', "the channel of announce has no address"),
        (b'{"asyncapi":"3.0.0","operations":[]}', "there is no operation announce"),
    ],
)
async def test_a_document_that_will_not_do_is_a_configuration_error(call, documents, content, expected):
    given = {"document": await documents(content), "operation": "announce", "message": {"payload": 1}}
    error = await call("asyncapi", **given)
    assert kind(error) == ("configuration", 400)
    assert expected in error.detail


async def test_a_document_in_the_flow_that_can_not_be_decoded_is_a_configuration_error(call):
    error = await call("asyncapi", operation="announce", message={"payload": 1}, document={"endpoint": "embedded:A"})
    assert kind(error) == ("configuration", 400)
    assert error.detail == "asyncapi: with.document.endpoint: what follows embedded: is not in base64url"
