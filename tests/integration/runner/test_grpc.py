"""`call: grpc` against real servers."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from functools import partial

import grpc
import pytest
from aiohttp import web
from support.calls import kind
from support.certificates import Authority
from support.patience import PATIENCE
from support.pets import NAME, PROTO, pets_server

from flowhook.process.settings import RunnerSettings
from flowhook.sharing.table import RunnerLimits
from runner.components import TaskFault, connection_pool, testing
from runner.components.grpc_call import call as calling
from runner.components.grpc_call import channels, schemas


@pytest.fixture
async def pets():
    async with pets_server() as server:
        yield server


@pytest.fixture
async def proto(http_server):
    """Serve a .proto; returns its URL, and what was asked for it."""
    requests = []

    async def start(source=PROTO, status=200):
        async def answer(request):
            requests.append(request.headers)
            return web.Response(text=source, status=status)

        return f"{await http_server(answer)}/pets.proto", requests

    return start


async def test_a_message_goes_out_and_another_one_comes_back_as_protojson(call, pets, proto):
    url, requests = await proto()
    pet = {"name": "Minka", "age_in_days": 40, "kind": "CAT", "bornAt": "2024-05-01T10:00:00Z", "photo": "AQI="}
    answer = await call("grpc", proto={"endpoint": url}, service=pets.service, method="Echo", arguments=pet)
    assert answer == {
        "name": "Minka", "ageInDays": "40", "kind": "CAT", "bornAt": "2024-05-01T10:00:00Z", "photo": "AQI=",
    }  # fmt: skip
    assert pets.calls[0]["idempotency-key"] == "evt_1:/do/0/ask#0"
    assert pets.calls[0]["user-agent"].startswith("flowhook/")
    assert "Idempotency-Key" not in requests[0]


async def test_a_server_reports_by_reflection_what_it_offers(call, pets):
    answer = await call("grpc", service=pets.service, method="Greet", arguments={"name": "Ada"})
    assert answer == {"name": "Hello Ada"}


async def test_streams_are_arrays(call, pets):
    async def ask(method, arguments):
        return await call("grpc", service=pets.service, method=method, arguments=arguments)

    assert await ask("List", {"name": "p", "count": 3}) == [{"name": "p0"}, {"name": "p1"}, {"name": "p2"}]
    assert await ask("List", {}) == []
    assert await ask("Register", [{"name": "a"}, {"name": "b"}]) == {"names": ["a", "b"]}
    assert await ask("Register", {"name": "a"}) == {"names": ["a"]}
    assert await ask("Register", []) == {}
    assert await ask("Chat", [{"name": "a"}, {"name": "b"}]) == [{"name": "A"}, {"name": "B"}]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({"basic": {"username": "ada", "password": "pw"}}, "Basic YWRhOnB3"),
        ({"bearer": {"token": "t0ken"}}, "Bearer t0ken"),
    ],
)
async def test_the_policy_of_the_service_is_shown_to_it_and_that_of_the_proto_to_whom_serves_it(
    call, pets, proto, policy, expected
):
    url, requests = await proto()
    endpoint = {"uri": url, "authentication": {"bearer": {"token": "f1les"}}}
    service = {**pets.service, "authentication": policy}
    assert await call("grpc", proto={"endpoint": endpoint}, service=service, method="Greet") == {"name": "Hello "}
    assert pets.calls[0]["authorization"] == expected
    assert requests[0]["Authorization"] == "Bearer f1les"


async def test_a_token_that_is_good_no_more_is_replaced_once(pets, http_server, caller):
    issued = []

    async def issue(_request):
        issued.append(f"token{len(issued)}")
        return web.json_response({"access_token": issued[-1], "token_type": "Bearer", "expires_in": 3600})

    client = {"id": "me", "secret": "s3cret"}
    policy = {"oauth2": {"authority": await http_server(issue), "grant": "client_credentials", "client": client}}
    arguments = {"service": {**pets.service, "authentication": policy}, "method": "Greet"}

    async def ask():
        return (await caller("grpc", **arguments)).error

    pets.accepts = "Bearer token0"
    assert await ask() is None
    pets.accepts = "Bearer token1"
    assert await ask() is None
    pets.accepts = "Bearer none"
    assert kind(await ask()) == ("authentication", 401)
    assert issued == ["token0", "token1", "token2"]


async def test_digest_is_for_http_alone(call, pets):
    policy = {"digest": {"username": "ada", "password": "pw"}}
    error = await call("grpc", service={**pets.service, "authentication": policy}, method="Greet")
    assert kind(error) == ("configuration", 400)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (grpc.StatusCode.NOT_FOUND, ("communication", 404)),
        (grpc.StatusCode.INVALID_ARGUMENT, ("communication", 400)),
        (grpc.StatusCode.UNAUTHENTICATED, ("authentication", 401)),
        (grpc.StatusCode.PERMISSION_DENIED, ("authorization", 403)),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, ("communication", 429)),
        (grpc.StatusCode.UNAVAILABLE, ("communication", 503)),
        (grpc.StatusCode.DEADLINE_EXCEEDED, ("timeout", 408)),
        (grpc.StatusCode.INTERNAL, ("communication", 500)),
    ],
)
async def test_a_status_is_an_error_in_the_dsls_terms(call, pets, code, expected):
    pets.error = (code, "so it is", None)
    error = await call("grpc", service=pets.service, method="Fail")
    assert kind(error) == expected
    assert error.detail == f"{NAME}/Fail answered {code.name}: so it is"


@pytest.mark.parametrize(("seconds", "expected"), [(None, 0), (1.5, 1500), (10_000_000.0, 3_600_000), (-3.0, 0)])
async def test_a_server_is_left_alone_for_as_long_as_it_asks(perform, pets, seconds, expected):
    pets.error = (grpc.StatusCode.UNAVAILABLE, "busy", seconds)
    result = await perform("grpc", service=pets.service, method="Fail")
    assert (result.error.status, result.retry_after_ms) == (503, expected)


async def test_a_hanging_server_is_a_timeout_and_learns_that_nobody_waits(call, pets):
    error = await call("grpc", service=pets.service, method="Hang", seconds=0.5)
    assert kind(error) == ("timeout", 408)
    async with asyncio.timeout(PATIENCE):
        await pets.cancelled.wait()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "http://localhost"])
async def test_private_addresses_are_refused(call, pets, host):
    error = await call("grpc", allow=False, service={**pets.service, "host": host}, method="Greet")
    assert kind(error) == ("communication", 403)
    assert "not allowed" in error.detail
    assert pets.calls == []


async def test_a_server_that_is_not_there_is_a_communication_error(call, unused_tcp_port):
    service = {"name": NAME, "host": "localhost", "port": unused_tcp_port}
    error = await call("grpc", service=service, method="Greet")
    assert (kind(error), error.detail) == (
        ("communication", 500),
        f"localhost:{unused_tcp_port}: can't connect (Connection refused)",
    )
    service["host"] = "no-such-host.invalid"
    assert "can't be resolved" in (await call("grpc", service=service, method="Greet")).detail


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("Greet", {"size": 1024 * 1024}),
        ("List", {"count": 3, "size": 500 * 1024}),
        ("List", {"count": 11}),
    ],
)
async def test_an_answer_that_is_too_large_is_refused(call, pets, monkeypatch, method, arguments):
    monkeypatch.setattr(calling, "MAX_MESSAGES", 10)
    error = await call("grpc", service=pets.service, method=method, arguments=arguments)

    assert kind(error) == ("communication", 500)
    assert "too large" in error.detail or "more than" in error.detail


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"name": 5}, "with.arguments.name does not fit its type"),
        ({"kittens": [{"kind": "S3CRET"}]}, "with.arguments.kittens.kind does not fit its type"),
        ({"colour": "black"}, "with.arguments: there is no field 'colour'"),
        ({"name": "x" * 1024 * 1024}, "with.arguments is larger than 1048576 bytes"),
        ([{"name": "a"}], "with.arguments: /shop.Pets/Echo takes one message, so this must be an object, not an array"),
    ],
)
async def test_arguments_that_do_not_fit_are_reported_by_name_and_without_their_values(call, pets, arguments, expected):
    error = await call("grpc", service=pets.service, method="Echo", arguments=arguments)
    assert (kind(error), error.detail) == (("configuration", 400), f"grpc: {expected}")


async def test_a_service_or_method_that_is_not_there_is_reported_by_name(call, pets, proto):
    url, _ = await proto()
    for given in ({}, {"proto": {"endpoint": url}}):
        error = await call("grpc", service=pets.service, method="Bark", **given)
        assert kind(error) == ("configuration", 400)
        assert error.detail == f"{NAME} has no method Bark; it has Greet, Echo, Fail, Hang, List, Register, Chat"
        error = await call("grpc", service={**pets.service, "name": "shop.Dogs"}, method="Greet", **given)
        assert kind(error) == ("configuration", 400)
        assert "shop.Dogs" in error.detail


async def test_without_reflection_a_proto_is_needed(call):
    async with pets_server(reflects=False) as pets:
        error = await call("grpc", service=pets.service, method="Greet")
    assert kind(error) == ("configuration", 400)
    assert "with.proto" in error.detail


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("message", "service.proto:1:8"),
        ('syntax = "proto3"; import "other.proto";', "other.proto: File not found"),
        ('syntax = "proto3"; import "/etc/hostname";', "File not found"),
        ("x" * (300 * 1024), "is larger than"),
    ],
)
async def test_a_proto_that_does_not_compile_is_a_configuration_error_that_says_why(
    call, pets, proto, source, expected
):
    url, _ = await proto(source)
    error = await call("grpc", proto={"endpoint": url}, service=pets.service, method="Greet")
    assert kind(error) == ("configuration", 400)
    assert expected in error.detail


async def test_a_proto_that_takes_too_long_to_compile_is_given_up(call, pets, proto, monkeypatch):
    monkeypatch.setattr(schemas, "CPU_SECONDS", 0.001)
    url, _ = await proto(PROTO + "".join(f"message M{number} {{ M{number} next = 1; }}\n" for number in range(7000)))
    error = await call("grpc", proto={"endpoint": url, "name": "pets"}, service=pets.service, method="Greet")
    assert kind(error) == ("timeout", 408)
    assert error.detail.startswith("pets: ")


async def test_a_proto_that_is_not_there_is_a_communication_error_and_files_are_not_read(call, pets, proto):
    url, _ = await proto(status=404)
    error = await call("grpc", proto={"endpoint": url}, service=pets.service, method="Greet")
    assert kind(error) == ("communication", 404)
    error = await call("grpc", proto={"endpoint": "file:///etc/passwd"}, service=pets.service, method="Greet")
    assert kind(error) == ("configuration", 400)
    assert "files of a runner are not read" in error.detail


async def test_calls_share_a_schema_and_a_connection_until_the_server_goes_away(proto, caller):
    url, requests = await proto()

    async def ask():
        return (await caller("grpc", proto={"endpoint": url}, service=pets.service, method="Greet")).error

    async with pets_server() as pets:
        assert await asyncio.gather(*(ask() for _ in range(5))) == [None] * 5
        assert (len(pets.calls), len(pets.connected), len(requests)) == (5, 1, 1)
    error = await ask()
    assert kind(error)[0] == "communication"
    async with pets_server(port=pets.port) as pets:
        assert await ask() is None
    assert len(requests) == 1


async def test_channels_are_bounded_closed_at_the_end_and_dialled_anew_after_a_while(pets, monkeypatch):
    small = RunnerLimits(connections=replace(RunnerLimits().connections, total=1))
    monkeypatch.setattr(connection_pool, "RunnerLimits", lambda: small)
    settings = RunnerSettings(allow_private_addresses=True)
    async with pets_server() as others, testing.context(settings=settings) as context:
        here, there = (
            partial(channels.pooled_channel, channels.target_of("127.0.0.1", server.port), context)
            for server in (pets, others)
        )
        async with here() as first:
            with pytest.raises(TaskFault) as caught:
                async with there():
                    pass
        assert caught.value.error.status == 503
        async with there() as second:
            assert first.get_state() is grpc.ChannelConnectivity.SHUTDOWN
        monkeypatch.setattr(connection_pool, "MAX_AGE_SECONDS", 0.0)
        async with there() as third:
            assert second.get_state() is grpc.ChannelConnectivity.SHUTDOWN
            assert third.get_state() is grpc.ChannelConnectivity.IDLE
    assert third.get_state() is grpc.ChannelConnectivity.SHUTDOWN


async def test_tls_checks_the_name_that_the_flow_gives(call, tmp_path, monkeypatch):
    authority = Authority(tmp_path)
    monkeypatch.setattr(channels, "TRUSTED_ROOTS", str(authority.ca_file))
    async with pets_server(certificate=authority.issue("pets")) as pets:  # for 127.0.0.1 alone
        service = {**pets.service, "host": "https://127.0.0.1"}
        assert await call("grpc", service=service, method="Greet") == {"name": "Hello "}
        service["host"] = "https://localhost"
        error = await call("grpc", service=service, method="Greet")
    assert kind(error) == ("communication", 503)


async def test_a_proto_that_the_flow_contains_is_read_without_a_request(call, pets, proto):
    _, requests = await proto()
    text = base64.urlsafe_b64encode(PROTO.encode()).decode().rstrip("=")
    given = {"proto": {"endpoint": f"embedded:{text}"}, "service": pets.service, "method": "Greet"}
    assert await call("grpc", **given) == {"name": "Hello "}
    assert requests == []
