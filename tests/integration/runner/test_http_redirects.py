"""`call: http`: redirects."""

from __future__ import annotations

import pytest
from aiohttp import web
from support.calls import echo, kind


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
    retained = expected not in ("GET", "HEAD")
    assert seen[1] == (expected, '{"a":1}' if retained else "", "application/json" if retained else None)


@pytest.mark.parametrize("location", ["mailto:ops@example.org", "data:,x", "file:///etc/passwd", "ftp://127.0.0.1/x"])
async def test_a_redirect_to_what_is_not_http_is_not_followed_and_names_the_scheme(call, http_server, location):
    async def redirect(_request):
        return web.Response(status=302, headers={"Location": location})

    base = await http_server(redirect)
    error = await call(method="get", endpoint=f"{base}/", redirect=True)
    assert kind(error) == ("communication", 500)
    assert error.detail == f"{base}/ redirects to {location.partition(':')[0]}:, which is not followed"
