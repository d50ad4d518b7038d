"""`call: http` and `twitter.post` against real servers."""

from __future__ import annotations

import asyncio
import base64
import hmac
import re
import socket
import time
from urllib.parse import quote, unquote

import orjson
import pytest
from aiohttp import web

from flowhook.config import RunnerSettings
from runner.calls import Caller
from runner.components import Context, component
from runner.components.registry import components
from runner.interpreter.effects import Perform
from runner.interpreter.errors import Kind, fault
from runner.outbound import HttpClient


@pytest.fixture
def call():
    """Perform one call and return its output, or its error."""

    async def perform(function="http", *, allow=True, secrets=None, seconds=2.0, extra=(), **arguments):
        settings = RunnerSettings(http_timeout=seconds, twitter_base_url=arguments.pop("base", "https://api.x.com"))

        async def secret(name):
            if name not in (secrets or {}):
                raise fault(Kind.CONFIGURATION, f"the secret {name} is not set")
            return secrets[name]

        effect = Perform("/do/0/ask#0", function, arguments, "/do/0/ask")
        async with HttpClient(allow_private_addresses=allow) as http:
            everything = {**components(), **{item.name: item for item in extra}}
            result = await Caller(everything, http, settings).perform("evt_1", effect, secret)
        return result.error or orjson.loads(result.output)

    return perform


def kind(error):
    return error.type.rpartition("/")[2], error.status


async def echo(request):
    return web.json_response(
        {
            "method": request.method,
            "path": request.path_qs,
            "headers": {name.lower(): value for name, value in request.headers.items()},
            "body": (await request.read()).decode(),
        }
    )


async def test_an_object_is_sent_as_json_with_headers_and_query_and_key(call, http_server):
    base = await http_server(echo)
    answer = await call(
        method="post",
        endpoint={"uri": f"{base}/orders?a=1"},
        headers={"X-Number": 7},
        query={"b": [1, True], "c": "x y"},
        body={"id": 1},
    )
    assert answer["method"] == "POST"
    assert answer["path"] == "/orders?a=1&b=1&b=true&c=x+y"
    assert answer["body"] == '{"id":1}'
    assert answer["headers"]["content-type"] == "application/json"
    assert answer["headers"]["x-number"] == "7"
    assert answer["headers"]["idempotency-key"] == "evt_1:/do/0/ask#0"
    assert answer["headers"]["user-agent"].startswith("flowhook/")


async def test_a_string_is_sent_as_it_is_with_its_content_type(call, http_server):
    base = await http_server(echo)
    answer = await call(method="put", endpoint=base, headers={"content-type": "application/xml"}, body="<a/>")
    assert (answer["body"], answer["headers"]["content-type"]) == ("<a/>", "application/xml")


async def test_an_object_becomes_a_form_when_its_content_type_says_so(call, http_server):
    base = await http_server(echo)
    form = "application/x-www-form-urlencoded"
    answer = await call(method="post", endpoint=base, headers={"Content-Type": form}, body={"a": [1, 2], "b": "x y"})
    assert answer["body"] == "a=1&a=2&b=x+y"


async def test_basic_and_bearer_authentication_are_sent(call, http_server):
    base = await http_server(echo)
    basic = {"uri": base, "authentication": {"basic": {"username": "u", "password": "p"}}}
    bearer = {"uri": base, "authentication": {"bearer": {"token": "t"}}}
    assert (await call(method="get", endpoint=basic))["headers"]["authorization"] == "Basic dTpw"
    assert (await call(method="get", endpoint=bearer))["headers"]["authorization"] == "Bearer t"


async def test_the_output_is_content_or_raw_or_the_whole_response(call, http_server):
    async def answer(request):
        if request.path == "/text":
            return web.Response(text="héllo")
        if request.path == "/bytes":
            return web.Response(body=b"\xff\x00", content_type="application/octet-stream")
        if request.path == "/nothing":
            return web.Response(status=204)
        return web.json_response({"a": 1}, status=201)

    base = await http_server(answer)
    assert await call(method="get", endpoint=f"{base}/text") == "héllo"
    assert await call(method="get", endpoint=f"{base}/bytes") == base64.b64encode(b"\xff\x00").decode()
    assert await call(method="get", endpoint=f"{base}/nothing") is None
    assert await call(method="get", endpoint=base, output="raw") == base64.b64encode(b'{"a": 1}').decode()
    whole = await call(method="get", endpoint=f"{base}/x?token=secret", output="response")
    assert whole["statusCode"] == 201
    assert whole["content"] == {"a": 1}
    assert whole["headers"]["content-type"].startswith("application/json")
    assert (whole["request"]["method"], whole["request"]["uri"]) == ("GET", f"{base}/x")


@pytest.mark.parametrize("status", [301, 400, 404, 429, 500, 503])
async def test_a_status_of_failure_is_a_communication_error_with_that_status(call, http_server, status):
    async def answer(_request):
        return web.Response(status=status, headers={"Location": "/elsewhere"})

    base = await http_server(answer)
    error = await call(method="get", endpoint=f"{base}/x?key=secret")
    assert kind(error) == ("communication", status)
    assert "secret" not in error.detail
    assert error.instance == "/do/0/ask"


async def test_redirects_are_followed_when_asked_and_other_origins_get_no_credentials(call, http_server):
    other = await http_server(echo)

    async def redirect(request):
        if request.path == "/loop":
            raise web.HTTPFound("/loop")
        if request.path == "/here":
            raise web.HTTPTemporaryRedirect("/echo")
        if request.path == "/echo":
            return await echo(request)
        raise web.HTTPFound(f"{other}/landed")

    base = await http_server(redirect)
    headers = {"X-Api-Key": "k", "Authorization": "Bearer t", "Accept": "application/json"}
    away = await call(method="post", endpoint=base, headers=headers, body={"a": 1}, redirect=True)
    assert (away["method"], away["path"], away["body"]) == ("GET", "/landed", "")
    assert not {"x-api-key", "authorization", "content-type"} & set(away["headers"])
    assert away["headers"]["accept"] == "application/json"

    here = await call(method="post", endpoint=f"{base}/here", headers=headers, body={"a": 1}, redirect=True)
    assert (here["method"], here["body"], here["headers"]["x-api-key"]) == ("POST", '{"a":1}', "k")

    error = await call(method="get", endpoint=f"{base}/loop", redirect=True)
    assert kind(error) == ("communication", 500)
    assert "redirects" in error.detail


@pytest.mark.parametrize(
    ("status", "method", "expected"),
    [
        (301, "post", "GET"),
        (302, "put", "PUT"),
        (302, "delete", "DELETE"),
        (303, "put", "GET"),
        (303, "head", "HEAD"),
        (307, "post", "POST"),
        (308, "patch", "PATCH"),
    ],
)
async def test_a_redirect_changes_the_method_only_as_http_says(call, http_server, status, method, expected):
    seen = []

    async def answer(request):
        seen.append((request.method, await request.text(), request.headers.get("Content-Type")))
        return web.Response(status=status, headers={"Location": "/there"}) if request.path == "/" else web.Response()

    base = await http_server(answer)
    await call(method=method, endpoint=f"{base}/", body=None if method == "head" else {"a": 1}, redirect=True)
    kept = expected not in ("GET", "HEAD")
    assert seen[1] == (expected, '{"a":1}' if kept else "", "application/json" if kept else None)


async def test_the_request_that_a_response_shows_has_no_header_that_may_be_a_credential(call, http_server):
    base = await http_server(echo)
    headers = {"Authorization": "Bearer t", "X-Api-Key": "k", "Cookie": "c", "Accept": "application/json"}
    whole = await call(method="post", endpoint=base, headers=headers, body={"a": 1}, output="response")
    assert whole["request"]["headers"] == {
        "accept": "application/json",
        "content-type": "application/json",
        "idempotency-key": "evt_1:/do/0/ask#0",
        "user-agent": whole["content"]["headers"]["user-agent"],
    }


@pytest.mark.parametrize(
    "name", ["Content-Length", "transfer-encoding", "Connection", "Upgrade", "TE", "Proxy-Authorization"]
)
async def test_headers_that_frame_the_message_are_not_the_authors_to_set(call, http_server, name):
    base = await http_server(echo)
    error = await call(method="post", endpoint=base, headers={name: "5"}, body="12345678")
    assert kind(error) == ("configuration", 400)
    assert name in error.detail


@pytest.mark.parametrize(
    "headers", [{"X\r\nInjected": "1"}, {"X: 1\r\nInjected": "1"}, {"": "1"}, {"X Y": "1"}, {"Ü": "1"}]
)
async def test_names_that_are_no_header_names_are_refused(call, http_server, headers):
    base = await http_server(echo)
    assert kind(await call(method="get", endpoint=base, headers=headers)) == ("configuration", 400)


async def test_text_is_read_in_the_charset_it_says_and_else_shown_in_base64(call, http_server):
    async def answer(request):
        return web.Response(body="é€".encode("cp1252"), headers={"Content-Type": request.query["type"]})

    base = await http_server(answer)
    for kind_, expected in (
        ("text/plain; charset=windows-1252", "é€"),
        ('text/plain; Charset="ISO-8859-1"', "é\x80"),
        ("text/plain", base64.b64encode("é€".encode("cp1252")).decode()),
        ("text/plain; charset=punycode", base64.b64encode("é€".encode("cp1252")).decode()),
    ):
        assert await call(method="get", endpoint=base, query={"type": kind_}) == expected


async def test_numbers_beyond_64_bits_are_sent_as_they_are(call, http_server):
    base = await http_server(echo)
    answer = await call(method="post", endpoint=base, body={"n": 10**30}, query={"q": 10**30})
    assert (answer["body"], answer["path"]) == ('{"n":1' + "0" * 30 + "}", "/?q=1" + "0" * 30)


async def test_a_hanging_server_is_a_timeout(call, http_server):
    forever = asyncio.Event()

    async def hang(_request):
        await forever.wait()
        return web.Response()

    base = await http_server(hang)
    error = await call(method="get", endpoint=base, seconds=0.2)
    forever.set()
    assert kind(error) == ("timeout", 408)


async def test_a_server_that_stops_in_the_middle_of_its_answer_is_a_timeout(call, http_server):
    forever = asyncio.Event()

    async def drip(request):
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"x")
        await forever.wait()
        return response

    base = await http_server(drip)
    error = await call(method="get", endpoint=base, seconds=0.2)
    forever.set()
    assert kind(error) == ("timeout", 408)


async def test_a_refused_connection_is_a_communication_error(call):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        error = await call(method="get", endpoint=f"http://user:pass@127.0.0.1:{taken.getsockname()[1]}/?k=secret")
    assert kind(error) == ("communication", 500)
    assert "refused" in error.detail.lower()
    assert not {"user", "pass", "secret"} & set(error.detail.replace("@", " ").replace(":", " ").split())


@pytest.mark.parametrize(("answers", "expected"), [(1, "ok"), (0, ("communication", 500))])
async def test_a_kept_connection_that_the_server_closed_is_replaced_once_and_a_new_one_is_not(answers, expected):
    keys = []

    async def serve(reader, writer):
        for _ in range(answers):
            keys.append(re.search(rb"Idempotency-Key: (.*)\r\n", await reader.readuntil(b"\r\n\r\n"))[1])
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nok")
        await reader.readuntil(b"\r\n\r\n")  # one request more than it answers
        keys.append(b"unanswered")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with HttpClient(allow_private_addresses=True) as http, server:
        caller = Caller(components(), http, RunnerSettings(http_timeout=2.0))
        for number in range(2 if answers else 1):
            effect = Perform(f"/do/0/ask#{number}", "http", {"method": "post", "endpoint": endpoint}, "/do/0/ask")
            result = await caller.perform("evt_1", effect, None)
            assert (kind(result.error) if result.error else orjson.loads(result.output)) == expected
    assert keys == ([b"evt_1:/do/0/ask#0", b"unanswered", b"evt_1:/do/0/ask#1"] if answers else [b"unanswered"])


async def test_an_unknown_host_is_a_communication_error(call):
    error = await call(method="get", endpoint="http://no-such-host.invalid/")
    assert kind(error) == ("communication", 500)


@pytest.mark.parametrize("size", [1024 * 1024 + 1, 3 * 1024 * 1024])
async def test_an_answer_that_is_too_large_is_refused(call, http_server, size):
    async def large(_request):
        response = web.Response(body=b"x" * size)
        response.enable_compression()
        return response

    base = await http_server(large)
    error = await call(method="get", endpoint=base)
    assert kind(error) == ("communication", 500)
    assert "larger" in error.detail


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "0.0.0.0",
        "169.254.169.254",
        "10.0.0.1",
        "[::ffff:127.0.0.1]",
        "2130706433",
        "127.1",
    ],
)
async def test_private_addresses_are_refused_where_they_are_connected_to(call, http_server, host):
    hits = []

    async def count(_request):
        hits.append(1)
        return web.Response()

    base = await http_server(count)
    port = base.rpartition(":")[2]
    error = await call(allow=False, method="get", endpoint=f"http://{host}:{port}/")
    assert kind(error)[0] == "communication"
    assert not hits
    if host not in ("2130706433", "127.1"):
        assert "not allowed" in error.detail


@pytest.mark.parametrize(
    "arguments",
    [
        {"method": "get"},
        {"method": "get", "endpoint": "ftp://x/"},
        {"method": "get", "endpoint": "/relative"},
        {"method": "g t", "endpoint": "http://127.0.0.1/"},
        {"method": "get", "endpoint": "http://127.0.0.1/", "unknown": "s3cret"},
        {"method": "get", "endpoint": "http://127.0.0.1/", "headers": "s3cret"},
    ],
)
async def test_wrong_arguments_are_a_configuration_error_that_shows_no_value(call, arguments):
    error = await call(**arguments)
    assert kind(error) == ("configuration", 400)
    assert "s3cret" not in error.detail


async def test_a_header_that_would_break_the_request_is_refused(call, http_server):
    base = await http_server(echo)
    error = await call(method="get", endpoint=base, headers={"X": "a\r\nInjected: 1"})
    assert kind(error) == ("configuration", 400)


async def test_invalid_json_is_a_communication_error(call, http_server):
    async def answer(_request):
        return web.Response(body=b"{", content_type="application/json")

    base = await http_server(answer)
    assert kind(await call(method="get", endpoint=base)) == ("communication", 500)


USER = {"api_key": "ak", "api_key_secret": "aks", "access_token": "at", "access_token_secret": "ats"}


async def test_a_post_is_made_with_oauth_1_and_returns_what_x_answers(call, http_server):
    seen = {}

    async def tweets(request):
        seen.update(path=request.path, authorization=request.headers["Authorization"], body=await request.json())
        return web.json_response({"data": {"id": "1", "text": "hello"}}, status=201)

    base = await http_server(tweets)
    answer = await call("twitter.post", base=base, secrets={"twitter": orjson.dumps(USER)}, text="hello")
    assert answer == {"id": "1", "text": "hello"}
    assert (seen["path"], seen["body"]) == ("/2/tweets", {"text": "hello"})
    assert seen["authorization"].startswith("OAuth ")
    for part in ('oauth_consumer_key="ak"', 'oauth_token="at"', 'oauth_signature_method="HMAC-SHA1"'):
        assert part in seen["authorization"]


def signature_base(method, url, fields):
    """Return what RFC 5849, section 3.4.1, has signed; the JSON body has no part in it."""
    pairs = "&".join(f"{quote(name, '-._~')}={quote(value, '-._~')}" for name, value in sorted(fields.items()))
    return "&".join(quote(part, "-._~") for part in (method, url, pairs))


def test_the_signature_base_is_that_of_the_rfc():
    fields = {"b": "r b", "a": "2 q", "c@": ""}
    assert signature_base("POST", "http://example.com/request", fields) == (
        "POST&http%3A%2F%2Fexample.com%2Frequest&a%3D2%2520q%26b%3Dr%2520b%26c%2540%3D"
    )


async def test_the_signature_is_the_one_that_the_rfc_computes_and_is_never_used_twice(call, http_server):
    seen = []

    async def tweets(request):
        seen.append((str(request.url), request.headers["Authorization"]))
        return web.json_response({"data": {"id": "1"}}, status=201)

    base = await http_server(tweets)
    secret = {**USER, "api_key_secret": "a&k s", "access_token_secret": "ä/s"}
    for _ in range(2):
        await call("twitter.post", base=f"{base}/", secrets={"twitter": orjson.dumps(secret)}, text="a&b=ü")
    for url, authorization in seen:
        fields = {name: unquote(value) for name, value in re.findall(r'(\w+)="([^"]*)"', authorization)}
        given = fields.pop("oauth_signature")
        key = f"{quote('a&k s', '-._~')}&{quote('ä/s', '-._~')}".encode()
        digest = hmac.digest(key, signature_base("POST", url, fields).encode(), "sha1")
        assert base64.b64decode(given) == digest
        assert abs(int(fields["oauth_timestamp"]) - time.time()) < 60
    assert url == f"{base}/2/tweets"
    assert seen[0][1] != seen[1][1]


async def test_a_post_is_made_with_a_bearer_token(call, http_server):
    async def tweets(request):
        return web.json_response({"data": {"id": request.headers["Authorization"], "text": ""}}, status=201)

    base = await http_server(tweets)
    answer = await call("twitter.post", base=base, secrets={"x": b'{"bearer_token":"bt"}'}, text="hi", secret="x")
    assert answer["id"] == "Bearer bt"


@pytest.mark.parametrize(
    ("status", "expected"),
    [(401, "authentication"), (403, "authorization"), (429, "communication"), (503, "communication")],
)
async def test_what_x_refuses_is_told_in_the_dsls_terms(call, http_server, status, expected):
    async def tweets(_request):
        return web.json_response({"title": "T", "detail": "because"}, status=status)

    base = await http_server(tweets)
    error = await call("twitter.post", base=base, secrets={"twitter": orjson.dumps(USER)}, text="hello")
    assert kind(error) == (expected, status)
    assert "because" in error.detail


@pytest.mark.parametrize("value", [b"not json", b"{}", b'{"api_key":"verysecret"}'])
async def test_a_secret_of_the_wrong_shape_is_a_configuration_error_without_the_secret(call, value):
    error = await call("twitter.post", secrets={"twitter": value}, text="hello")
    assert kind(error) == ("configuration", 400)
    assert "verysecret" not in error.detail
    assert kind(await call("twitter.post", secrets={}, text="hello")) == ("configuration", 400)


async def test_a_component_of_ones_own_gets_typed_keywords_and_the_context(call):
    @component("add")
    async def add(left: int, right: int = 1, *, context: Context) -> dict[str, object]:
        return {"sum": left + right, "key": context.idempotency_key}

    assert await call("add", extra=[add], left=2) == {"sum": 3, "key": "evt_1:/do/0/ask#0"}
    assert kind(await call("add", extra=[add], left="x")) == ("configuration", 400)
    assert kind(await call("add", extra=[add], left=1, more=2)) == ("configuration", 400)


async def test_a_component_that_breaks_is_a_runtime_error_without_internals(call, caplog):
    @component("broken")
    async def broken(context: Context) -> None:
        raise KeyError("internal-secret")

    error = await call("broken", extra=[broken])
    assert kind(error) == ("runtime", 500)
    assert "internal-secret" not in error.detail


async def test_what_a_component_says_shows_no_secret_that_it_asked_for(call):
    @component("telling")
    async def telling(context: Context) -> None:
        key = orjson.loads(await context.secret("mine"))["key"]
        raise fault(Kind.AUTHENTICATION, f"the server refused {key}")

    error = await call("telling", extra=[telling], secrets={"mine": b'{"key":"k3y-of-mine"}'})
    assert error.detail == "the server refused …"


@pytest.mark.parametrize("problem", [SystemExit(1), asyncio.CancelledError()])
async def test_a_component_that_gives_up_on_everything_ends_its_own_call_alone(call, problem):
    @component("quitting")
    async def quitting(context: Context) -> None:
        raise problem

    assert kind(await call("quitting", extra=[quitting])) == ("runtime", 500)


async def test_how_long_to_wait_before_another_try_is_told_beside_the_error():
    @component("test.busy")
    async def busy(*, context: Context):
        """Has no time."""
        raise fault(Kind.COMMUNICATION, "busy", status=503, retry_after_ms=7_000)

    async def secret(_name):
        raise AssertionError

    async with HttpClient(allow_private_addresses=True) as http:
        caller = Caller({"test.busy": busy}, http, RunnerSettings())
        effect = Perform("/do/0/ask#0", "test.busy", {}, "/do/0/ask", secrets={"token": "t0ps3cret"})
        result = await caller.perform("evt_1", effect, secret)
    assert (result.error.status, result.error.instance, result.retry_after_ms) == (503, "/do/0/ask", 7_000)


async def test_a_component_that_takes_too_long_is_a_timeout_and_an_unknown_one_a_configuration_error(call):
    @component("slow")
    async def slow(context: Context) -> None:
        await asyncio.Event().wait()

    assert kind(await call("slow", extra=[slow], seconds=0.05)) == ("timeout", 408)
    assert kind(await call("nowhere")) == ("configuration", 400)


async def test_a_result_that_is_too_large_is_a_runtime_error(call):
    @component("large")
    async def large(context: Context) -> str:
        return "x" * (1024 * 1024)

    assert kind(await call("large", extra=[large])) == ("runtime", 500)
