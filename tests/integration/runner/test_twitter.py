"""`twitter.post` against a real server."""

from __future__ import annotations

import base64
import hmac
import re
import time
from urllib.parse import quote, unquote

import orjson
import pytest
from aiohttp import web
from support.calls import kind

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
async def test_what_x_refuses_is_reported_in_the_dsls_terms(call, http_server, status, expected):
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


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (lambda: {"Retry-After": "7"}, (7_000, 7_000)),
        (lambda: {"x-rate-limit-reset": str(int(time.time()) + 60)}, (50_000, 61_000)),
        (
            lambda: {"Date": "Sun, 06 Nov 1994 08:49:37 GMT", "x-rate-limit-reset": "784111787"},  # 10 s later
            (10_000, 10_000),
        ),
        (lambda: {"x-rate-limit-reset": "soon"}, (0, 0)),
    ],
)
async def test_how_long_x_asks_to_be_left_alone_comes_with_the_error(perform, http_server, headers, expected):
    async def tweets(_request):
        return web.json_response({"title": "Too Many Requests"}, status=429, headers=headers())

    base = await http_server(tweets)
    result = await perform("twitter.post", base=base, secrets={"twitter": orjson.dumps(USER)}, text="hello")
    assert expected[0] <= result.retry_after_ms <= expected[1]
