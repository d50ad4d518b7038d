"""Bytes that no client of good will sends, to every route: they are answered, and the log stays silent."""

from __future__ import annotations

import asyncio
import logging

import pytest
import pytest_asyncio
from support.patience import PATIENCE
from support.routers import flow
from support.uploads import uploaded

from admin import application
from admin.api.openapi import PREFIX
from admin.console import actions
from flowhook import limits
from operations.operation import PLACEHOLDER
from operations.table import OPERATIONS

pytestmark = pytest.mark.asyncio(loop_scope="session")

VALUES = ("%ff", "%ed%a0%80", "%00%0d%0a", "%")
"""Values in URLs and forms: no UTF-8, a lone surrogate, NUL and the end of a line, no number."""

JSON = (
    b"\xff",
    b'{"a": "\xff"}',
    b'{"reason": "\\ud800"}',
    b'{"reason": "\\u0000"}',
    b'{"\\ud800": 1}',
    b'{"reason": 1e400}',
    b'{"reason": ' + b"9" * 5000 + b"}",
    b"[" * 2000,
    b'{"reason": ' + b"[" * 900 + b"]" * 900 + b"}",
    b'"x"',
    b"null",
)

HEADERS = (
    b"Cookie: flowhook_session=\xff\x80; \xff=\xff",
    b'Cookie: flowhook_session="\\377\\200"',
    b"Authorization: Bearer \xff\xff",
    b"Authorization: \xff",
    b"X-CSRF-Token: \xff",
    b"Accept: \xff",
    b"Accept-Encoding: \xff",
    b"Sec-Fetch-Site: \xff",
    b"Origin: http://\xff",
    b"Content-Type: \xff",
    b"If-None-Match: \xff",
    b"X-Forwarded-For: \xff",
    b"X-Forwarded-Proto: \xff",
    b"HX-Request: \xff",
)


def filled(path, value):
    return PLACEHOLDER.sub(value, path)


def routes():
    """Return method and path of every route, with `{}` for parameters; each once."""
    found = [("GET", path) for path, _ in application.PAGES]
    found += [("GET", path) for path in ("/static/{name}", "/{nope}", f"{PREFIX}/{{nope}}")]
    found += [("POST", path) for path in ("/login", "/login/continue", "/logout")]
    found += [(operation.method, operation.path) for operation, _ in actions.ACTIONS]
    for operation in OPERATIONS:
        found.append((operation.method, PREFIX + operation.path))
        if operation.writes or operation.result is bytes:
            found.append((operation.method, operation.path))
    return list(dict.fromkeys(found))


def head(method, target, *lines, body=b""):
    first = f"{method} {target} HTTP/1.1".encode("latin-1")
    return b"\r\n".join([first, *lines, b"Content-Length: %d" % len(body), b"Connection: close", b"", body])


def known_parameters(path):
    """Return the names of the parameters of the operations at a path, apart from those in the path."""
    named = [each for each in OPERATIONS if path.removeprefix(PREFIX) == each.path]
    return sorted({name for each in named for name in each.model.model_fields if name not in each.path_parameters})


def hostile_heads(method, path, lines):
    """Yield requests with hostile paths, queries and headers."""
    target = filled(path, "x")
    for value in VALUES:
        if PLACEHOLDER.search(path):
            yield head(method, filled(path, value), *lines)
        yield head(method, f"{target}?{value}={value}", *lines)
        for name in known_parameters(path) if method == "GET" else ():
            yield head(method, f"{target}?{name}={value}", *lines)
    for line in HEADERS:
        name = line.partition(b":")[0]
        yield head(method, target, *(each for each in lines if not each.startswith(name)), line)
    yield head(method, filled(path, "\xff"), *lines)
    yield head(method, f"{target}?a=\xff", *lines)
    yield head(method, target, b"Host: \xff", *lines[1:])


def hostile_bodies(path, csrf_token):
    """Yield content types and bodies."""
    form, json = b"application/x-www-form-urlencoded", b"application/json"
    own = b"csrf_token=%s&" % csrf_token.encode()
    for value in VALUES:
        for name in known_parameters(path) or ["a"]:
            yield form, own + f"{name}={value}".encode()
    for body in (b"\xff=\xff", b"%ff=%ff", b"a=\x00", b"&" * 500, b"=".join([b"%"] * 200)):
        yield form, own + body
    yield from ((json, body) for body in JSON)
    for name in known_parameters(path):
        for text in (b'"\\u0000"', b"18446744073709551616", b"[[]]", b"null"):
            yield json, b'{"%s": %s}' % (name.encode(), text)
    yield b"multipart/form-data; boundary=\xff", b"--\xff"


async def answered(address, request):
    """Return the status of a response; 0: the connection was closed without one, as for what is not HTTP."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(request)
        return int((await asyncio.wait_for(reader.read(1024), PATIENCE))[9:12] or 0)
    finally:
        writer.close()


@pytest.fixture
def faults(caplog, capfd):
    """Return what the log has of errors and tracebacks."""

    def found():
        logged = [each.getMessage() for each in caplog.records if each.exc_info or each.levelno >= logging.ERROR]
        printed = "".join(capfd.readouterr())
        return logged + [line for line in printed.splitlines() if "Traceback" in line or "[error" in line]

    return found


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def bearer(router, client):
    """Return the lines of a head with the token of an operator; there is a flow `x`."""
    await client.flows.apply([flow("x")])
    return [b"Host: localhost", f"Authorization: Bearer {router.token('admin')}".encode()]


@pytest.mark.parametrize("route", routes(), ids=" ".join)
async def test_no_bytes_cause_a_traceback_or_an_error_of_the_server(console, operator, bearer, faults, route):
    method, path = route
    (session,) = (each.value for each in operator.session.cookie_jar if each.key == "flowhook_session")
    cookie = [b"Host: localhost", b"Origin: http://localhost", f"Cookie: flowhook_session={session}".encode()]
    cookie.append(f"X-CSRF-Token: {operator.csrf_token}".encode())
    lines = bearer if path.startswith(PREFIX) else cookie
    requests = list(hostile_heads(method, path, lines))
    for kind, body in hostile_bodies(path, operator.csrf_token) if method == "POST" else ():
        requests.append(head(method, filled(path, "x"), *lines, b"Content-Type: " + kind, body=body))
    answers = {request: await answered(console.address, request) for request in requests}
    unavailable = 503 if "/test" in path or path == "/readyz" else 0  # there is no edge
    assert {request for request, status in answers.items() if status >= 500 and status != unavailable} == set()
    assert faults() == []


async def test_downloads_that_are_aborted_cause_no_traceback(console, router, client, faults):
    await client.flows.apply([flow("large")])
    execution_id = await uploaded(router, "large", b"x" * (16 * limits.MIB))
    host, _, port = console.address.rpartition(":")
    bearer = f"Authorization: Bearer {router.token('view')}".encode()
    for path in (f"/api/executions/{execution_id}/body", "/api/audit/export"):
        for read in (0, 1, 100_000, 1_000_000) * 3:
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(head("GET", path, b"Host: localhost", bearer))
            await reader.read(read)
            writer.transport.abort()
    async with asyncio.timeout(PATIENCE):
        while (await answered(console.address, head("GET", "/healthz", b"Host: localhost"))) != 200:
            pass
    assert faults() == []
