"""`call: http` against real servers: what is sent, and what becomes of the answer."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from aiohttp import web
from support.calls import echo, kind


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


@pytest.mark.parametrize("body", [{}, {"body": None}])
async def test_without_a_body_nothing_is_said_of_its_type(call, http_server, body):
    answer = await call(method="post", endpoint=await http_server(echo), **body)
    assert (answer["body"], answer["headers"]["content-length"]) == ("", "0")
    assert "content-type" not in answer["headers"]


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


@pytest.mark.parametrize("status", [429, 503, 404])
async def test_how_long_the_server_asks_to_be_left_alone_comes_with_the_error(perform, http_server, status):
    async def busy(request):
        return web.Response(status=status, headers={"Retry-After": request.query["wait"]})

    base = await http_server(busy)
    assert (await perform(method="get", endpoint=f"{base}/?wait=7")).retry_after_ms == 7_000
    assert (await perform(method="get", endpoint=f"{base}/?wait=9999")).retry_after_ms == 3_600_000
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    result = await perform(method="get", endpoint=base, query={"wait": date})
    assert 55_000 < result.retry_after_ms <= 60_000


async def test_the_error_keeps_what_was_answered(call, http_server):
    async def refuse(request):
        return web.json_response({"code": "card_declined", "said": await request.text()}, status=402)

    base = await http_server(refuse)
    error = await call(method="post", endpoint=f"{base}/charges?key=k", body="x")
    answer = error.response
    assert (answer.status, answer.url) == (402, f"{base}/charges")
    assert json.loads(answer.body) == {"code": "card_declined", "said": "x"}
    assert answer.size == len(answer.body)


async def test_of_a_large_answer_the_error_keeps_the_first_4_kib_and_of_a_binary_one_no_more(call, http_server):
    large = "é" * 5000

    async def refuse(request):
        return web.Response(body=large.encode() if request.path == "/text" else bytes([255]) * 10_000, status=500)

    base = await http_server(refuse)
    answer = (await call(method="get", endpoint=f"{base}/text")).response
    assert (answer.body, answer.size) == ("é" * 2048, 10_000)
    binary = (await call(method="get", endpoint=f"{base}/binary")).response
    assert (len(binary.body.encode()) <= 4096, binary.size) == (True, 10_000)


async def test_the_error_shows_no_secret_that_the_server_repeats(perform, http_server):
    async def refuse(request):
        message = "x" * 4055 + request.headers["X-Key"] + request.headers["Authorization"]
        return web.Response(text=request.headers["X-Key"] + message, status=500)

    secret = "a-key-of-more-than-16-characters"
    endpoint = {"uri": await http_server(refuse), "authentication": {"bearer": {"token": "another-of-them"}}}
    headers = {"X-Key": secret}
    result = await perform(method="get", endpoint=endpoint, headers=headers, effect={"secrets": {"key": secret}})
    body = result.error.response.body
    assert body.startswith("…xxx")
    assert body.endswith("x…")
    assert secret[:4] not in body


async def test_the_error_shows_no_credential_that_was_sent_in_whatever_form(call, http_server):
    async def refuse(request):
        return web.Response(text=str(dict(request.headers)), status=401)

    endpoint = {"uri": await http_server(refuse), "authentication": {"basic": {"username": "u", "password": "pass"}}}
    error = await call(method="get", endpoint=endpoint, headers={"X-Key": "of-no-secret", "Accept": "text/plain"})
    assert "text/plain" in error.response.body
    assert not [each for each in ("dTpwYXNz", "of-no-secret") if each in error.response.body]


@pytest.mark.parametrize("status", [301, 400, 404, 429, 500, 503])
async def test_a_status_of_failure_is_a_communication_error_with_that_status(call, http_server, status):
    async def answer(_request):
        return web.Response(status=status, headers={"Location": "/elsewhere"})

    base = await http_server(answer)
    error = await call(method="get", endpoint=f"{base}/x?key=secret")
    assert kind(error) == ("communication", status)
    assert "secret" not in error.detail
    assert error.instance == "/do/0/ask"


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
