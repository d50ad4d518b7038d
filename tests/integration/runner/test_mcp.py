"""`call: mcp` against real servers, made with the MCP SDK, and against hostile ones."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys

import orjson
import pytest
import uvicorn
from aiohttp import web
from mcp.server.mcpserver import MCPServer
from support.calls import kind
from support.patience import PATIENCE

RECEIVED = []


def shop():
    server = MCPServer("shop")

    @server.tool()
    def pay(order: int) -> dict[str, int]:
        """Pay an order."""
        return {"paid": order}

    @server.tool()
    def refuse() -> str:
        raise ValueError("no money")

    @server.resource("orders://{order}")
    def order(order: str) -> str:
        return f"order {order}"

    @server.prompt()
    def greet(name: str) -> str:
        return f"Say hello to {name}"

    return server


@pytest.fixture
async def server():
    """Serve the shop over streamable HTTP; returns its URL."""
    app = shop().streamable_http_app()

    async def recording(scope, receive, send):
        if scope["type"] == "http":
            RECEIVED.append((scope["method"], {key.decode(): value.decode() for key, value in scope["headers"]}))
        await app(scope, receive, send)

    RECEIVED.clear()
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(recording, log_level="critical", timeout_graceful_shutdown=1, ws="none")
    running = uvicorn.Server(config)
    task = asyncio.create_task(running.serve(sockets=[listening]))
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
    running.should_exit = True
    await task
    listening.close()


def over(url, **more):
    return {"http": {"endpoint": url, **more}}


@pytest.mark.parametrize("version", ["2025-06-18", "2025-11-25", "2026-07-28"])
async def test_a_tool_is_called(call, server, version):
    result = await call(
        "mcp",
        protocolVersion=version,
        method="tools/call",
        parameters={"name": "pay", "arguments": {"order": 7}},
        transport=over(server, headers={"X-Shop": 7}),
        client={"name": "till", "version": "1.2"},
        seconds=PATIENCE,
    )
    assert result["structuredContent"] == {"paid": 7}
    assert not result.get("isError")
    posts = [headers for method, headers in RECEIVED if method == "POST"]
    assert {headers["x-shop"] for headers in posts} == {"7"}
    assert [headers["idempotency-key"] for headers in posts if "idempotency-key" in headers] == ["evt_1:/do/0/ask#0"]


async def test_the_other_methods_give_their_result(call, server):
    async def ask(method, **parameters):
        return await call("mcp", method=method, parameters=parameters, transport=over(server), seconds=PATIENCE)

    assert [tool["name"] for tool in (await ask("tools/list"))["tools"]] == ["pay", "refuse"]
    assert (await ask("resources/read", uri="orders://8"))["contents"][0]["text"] == "order 8"
    assert (await ask("resources/list"))["resources"] == []
    assert [each["uriTemplate"] for each in (await ask("resources/templates/list"))["resourceTemplates"]] == [
        "orders://{order}"
    ]
    assert [each["name"] for each in (await ask("prompts/list"))["prompts"]] == ["greet"]
    got = await ask("prompts/get", name="greet", arguments={"name": "Ada"})
    assert got["messages"][0]["content"]["text"] == "Say hello to Ada"


async def test_a_tool_that_fails_is_a_result_and_an_error_of_the_server_is_a_runtime_error(call, server):
    transport = over(server)
    result = await call(
        "mcp", method="tools/call", parameters={"name": "refuse"}, transport=transport, seconds=PATIENCE
    )
    assert result["isError"] is True
    error = await call("mcp", method="prompts/get", parameters={"name": "nope"}, transport=transport, seconds=PATIENCE)
    assert kind(error) == ("runtime", 500)
    assert "mcp: the server answered with the error" in error.detail


async def test_a_server_at_a_private_address_is_not_called(call, server):
    error = await call("mcp", method="tools/list", transport=over(server), allow=False, seconds=PATIENCE)
    assert kind(error) == ("communication", 403)
    assert RECEIVED == []


async def test_a_refusal_of_the_server_is_that_of_http(perform, http_server):
    async def refuse(_request):
        return web.Response(status=503, headers={"Retry-After": "7"}, text="later")

    result = await perform("mcp", method="tools/list", transport=over(await http_server(refuse)), seconds=PATIENCE)
    assert (kind(result.error), result.retry_after_ms) == (("communication", 503), 7000)
    assert result.error.response.body == "later"


async def test_credentials_are_shown_as_the_policy_says(call, http_server):
    shown = []

    async def refuse(request):
        shown.append(request.headers.get("Authorization"))
        return web.Response(status=401)

    endpoint = {"uri": await http_server(refuse), "authentication": {"bearer": {"token": "t0ken"}}}
    error = await call("mcp", method="tools/list", transport=over(endpoint), seconds=PATIENCE)
    assert (kind(error), shown) == (("communication", 401), ["Bearer t0ken"])


def answering(method_answers):
    """Return a handler that initializes sessions, and hands other requests to `method_answers`."""

    async def handle(request):
        message = orjson.loads(await request.read() or b"{}")
        if message.get("method") == "initialize":
            result = {
                "protocolVersion": message["params"]["protocolVersion"],
                "capabilities": {},
                "serverInfo": {"name": "hostile", "version": "1"},
            }
            return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": result})
        if "id" not in message:
            return web.Response(status=202)
        return await method_answers(request, message)

    return handle


async def stream(request):
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    return response


async def test_a_server_that_floods_is_cut_off(call, http_server):
    sent = 0

    async def flood(request, _message):
        nonlocal sent
        response = await stream(request)
        notice = {
            "jsonrpc": "2.0",
            "method": "notifications/message",
            "params": {"level": "info", "data": "x" * 10_000},
        }
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b"event: message\ndata: " + orjson.dumps(notice) + b"\n\n")
                sent += 10_000
        return response

    transport = over(await http_server(answering(flood)))
    error = await call("mcp", method="tools/list", transport=transport, seconds=PATIENCE)
    assert kind(error) == ("communication", 500)
    assert error.detail == "mcp: the server sends more than 4194304 bytes, and was cut off"
    assert sent < 64 * 1024 * 1024


async def test_an_event_without_an_end_is_cut_off(call, http_server):
    async def flood(request, _message):
        response = await stream(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b"x" * 100_000)
        return response

    transport = over(await http_server(answering(flood)))
    error = await call("mcp", method="tools/list", transport=transport, seconds=PATIENCE)
    assert kind(error)[0] in ("communication", "runtime")


async def test_a_server_that_says_nothing_is_not_waited_for(call, http_server):
    released = asyncio.Event()

    async def hang(request, _message):
        response = await stream(request)
        await released.wait()
        return response

    transport = over(await http_server(answering(hang)))
    error = await call("mcp", method="tools/list", timeout="PT0.3S", transport=transport, seconds=PATIENCE)
    released.set()
    assert kind(error) == ("timeout", 408)


@pytest.mark.parametrize("answer", [[], 7, {"jsonrpc": "2.0", "id": 99, "result": {}}, {"tools": []}])
async def test_an_answer_that_is_none_is_no_result(call, http_server, answer):
    async def lie(_request, _message):
        return web.json_response(answer)

    transport = over(await http_server(answering(lie)))
    error = await call("mcp", method="tools/list", timeout="PT1S", transport=transport, seconds=PATIENCE)
    assert kind(error)[0] in ("runtime", "timeout")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"protocolVersion": "1999-01-01"}, "with.protocolVersion: the known versions are 2024-11-05"),
        ({"method": "sampling/createMessage"}, "with.method: "),
        ({"transport": {"http": {"endpoint": "ftp://x"}}}, "the endpoint must be an absolute http or https URL"),
        ({"transport": {}}, "with.transport: "),
        ({"timeout": "soon"}, "with.timeout: "),
    ],
)
async def test_what_will_not_do_is_a_configuration_error(call, http_server, given, expected):
    async def unused(_request):
        return web.Response(status=500)

    usual = {"method": "tools/list", "transport": over(await http_server(unused)), "seconds": PATIENCE}
    error = await call("mcp", **{**usual, **given})
    assert kind(error) == ("configuration", 400)
    assert expected in error.detail


PROGRAM = """
from mcp.server.mcpserver import MCPServer
server = MCPServer("shop")
@server.tool()
def pay(order: int) -> dict[str, str]:
    import os
    return {"paid": f"{order} {os.environ['SHOP']} {sorted(os.environ)}"}
server.run("stdio")
"""


async def over_stdio(perform, *arguments, allowed=True, command=sys.executable, method="tools/list", **more):
    transport = {"stdio": {"command": command, "arguments": [*arguments], "environment": {"SHOP": 8}}}
    given = {"method": method, "transport": transport, "seconds": PATIENCE, **more}
    return await perform("mcp", processes=allowed, **given)


async def test_a_process_is_called_over_its_streams(perform):
    parameters = {"name": "pay", "arguments": {"order": 7}}
    result = await over_stdio(perform, "-c", PROGRAM, method="tools/call", parameters=parameters)
    assert result.error is None
    paid = orjson.loads(result.output)["structuredContent"]["paid"]
    assert paid.startswith("7 8 ")
    assert "FLOWHOOK" not in paid


async def test_a_process_is_not_started_where_that_is_not_allowed(perform, tmp_path):
    result = await over_stdio(perform, "-c", f"open({str(tmp_path / 'started')!r}, 'w')", allowed=False)
    assert kind(result.error) == ("configuration", 400)
    assert "--allow-processes" in result.error.detail
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize(
    ("program", "expected", "detail"),
    [
        ("while True: print('x' * 100_000)", ("communication", 500), "sends more than 4194304 bytes, and was cut off"),
        ("import sys\nwhile True: sys.stdout.write('x' * 100_000)", ("communication", 500), "was cut off"),
        ("import sys\nsys.stderr.write('x' * 9_000_000)", ("runtime", 500), "mcp: the process of the server ended"),
        ("import time; time.sleep(3600)", ("timeout", 408), "mcp: no result within 3 s"),
    ],
)
async def test_a_process_that_does_not_answer_is_ended(perform, program, expected, detail):
    result = await over_stdio(perform, "-c", program, timeout="PT3S")
    assert kind(result.error) == expected
    assert detail in result.error.detail


async def test_a_command_that_is_not_there_is_a_configuration_error(perform):
    result = await over_stdio(perform, command="no-such-server")
    assert kind(result.error) == ("configuration", 400)
    assert "the command is not installed on this runner" in result.error.detail
