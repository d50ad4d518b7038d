"""`call: openapi` against real servers."""

from __future__ import annotations

import orjson
import pytest
from aiohttp import web
from support.calls import kind

DOCUMENT = {
    "openapi": "3.0.4",
    "servers": [{"url": "/api"}],
    "paths": {
        "/pets/{id}": {
            "get": {
                "operationId": "getPet",
                "parameters": [
                    {"name": "id", "in": "path", "required": True},
                    {"name": "fields", "in": "query", "explode": False},
                ],
            }
        },
        "/pets": {"post": {"operationId": "addPet", "requestBody": {"content": {"application/json": {}}}}},
    },
}
YAML = """
swagger: "2.0"
basePath: /api
paths:
  /pets:
    get:
      operationId: findPetsByStatus
      parameters: [{name: status, in: query, type: string}]
      responses:
        200: {description: ok}
"""


@pytest.fixture
async def pets(http_server):
    """Serve a document and an API; returns the base URL and the requests."""
    requests = []

    async def start(document=DOCUMENT, status=200, headers=None):
        async def answer(request):
            body = await request.text()
            requests.append((request.method, request.path_qs, dict(request.headers), body))
            if request.path == "/doc":
                return web.Response(text=document if isinstance(document, str) else orjson.dumps(document).decode())
            if request.path == "/elsewhere":
                return web.json_response({"moved": True})
            return web.json_response({"name": "Minka"}, status=status, headers=headers)

        return await http_server(answer), requests

    return start


async def test_an_operation_is_called_as_its_document_says(call, pets):
    base, requests = await pets()
    document = {"endpoint": f"{base}/doc"}
    parameters = {"id": "a/b", "fields": ["name", "a,b"]}
    assert await call("openapi", document=document, operationId="getPet", parameters=parameters) == {"name": "Minka"}
    assert await call("openapi", document=document, operationId="addPet", parameters={"name": "Minka"})
    described, got, _, added = requests
    assert got[:2] == ("GET", "/api/pets/a%2Fb?fields=name,a%2Cb")
    assert (added[0], added[1], added[3]) == ("POST", "/api/pets", '{"name":"Minka"}')
    assert added[2]["Content-Type"] == "application/json"
    assert added[2]["Idempotency-Key"] == "evt_1:/do/0/ask#0"
    assert "Idempotency-Key" not in described[2]


async def test_yaml_and_swagger_do_as_well(call, pets):
    base, requests = await pets(YAML)
    document = {"endpoint": f"{base}/doc"}
    assert await call("openapi", document=document, operationId="findPetsByStatus", parameters={"status": "new"})
    assert requests[-1][1] == "/api/pets?status=new"


async def test_output_and_errors_are_those_of_http(call, perform, pets):
    base, _ = await pets()
    given = {"document": {"endpoint": f"{base}/doc"}, "operationId": "getPet", "parameters": {"id": 1}}
    response = await call("openapi", output="response", **given)
    assert (response["statusCode"], response["content"]) == (200, {"name": "Minka"})
    assert response["request"]["uri"] == f"{base}/api/pets/1"
    assert await call("openapi", output="raw", **given) == "eyJuYW1lIjogIk1pbmthIn0="

    base, _ = await pets(status=503, headers={"Retry-After": "7"})
    given["document"] = {"endpoint": f"{base}/doc"}
    result = await perform("openapi", **given)
    assert (kind(result.error), result.retry_after_ms) == (("communication", 503), 7000)

    base, _ = await pets(status=302, headers={"Location": "/elsewhere"})
    given["document"] = {"endpoint": f"{base}/doc"}
    assert kind(await call("openapi", **given)) == ("communication", 302)
    assert await call("openapi", redirect=True, **given) == {"moved": True}


async def test_document_and_operation_have_policies_of_their_own(call, pets):
    base, requests = await pets()
    await call(
        "openapi",
        document={"endpoint": {"uri": f"{base}/doc", "authentication": {"bearer": {"token": "d0c"}}}},
        operationId="getPet",
        parameters={"id": 1},
        authentication={"basic": {"username": "ada", "password": "pw"}},
    )
    assert [request[2]["Authorization"] for request in requests] == ["Bearer d0c", "Basic YWRhOnB3"]


async def test_an_operation_is_cached_and_with_other_credentials_it_is_another_one(caller, pets):
    base, requests = await pets()

    async def ask(**authentication):
        document = {"endpoint": {"uri": f"{base}/doc", **authentication}}
        return await caller("openapi", document=document, operationId="getPet", parameters={"id": 1})

    assert [(await ask()).error for _ in range(3)] == [None] * 3
    await ask(authentication={"bearer": {"token": "other"}})
    assert [request[1] for request in requests].count("/doc") == 2


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"operationId": "nope"}, ("openapi: there is no operation nope in the document")),
        ({"operationId": "getPet"}, "openapi: with.parameters: getPet needs id"),
        ({"operationId": "getPet", "parameters": {"id": 1, "s3cret": "v"}}, "getPet has no s3cret"),
        ({"operationId": "getPet", "document": {"endpoint": "file:///etc/passwd"}}, "files of a runner are not read"),
        ({}, "openapi: with.operationId: is missing"),
    ],
)
async def test_what_will_not_do_is_a_configuration_error(call, pets, given, expected):
    base, _ = await pets()
    error = await call("openapi", **{"document": {"endpoint": f"{base}/doc"}, **given})
    assert kind(error) == ("configuration", 400)
    assert expected in error.detail


async def test_a_document_that_is_none_or_too_large_or_not_there(call, pets, http_server):
    base, _ = await pets("<html>")
    error = await call("openapi", document={"endpoint": f"{base}/doc"}, operationId="getPet")
    assert kind(error) == ("configuration", 400)

    base, _ = await pets(" " * (1024 * 1024 + 1))
    error = await call("openapi", document={"endpoint": f"{base}/doc"}, operationId="getPet")
    assert kind(error) == ("configuration", 400)
    assert "with.document.endpoint" in error.detail
    assert "the response is larger than 1048576 bytes" in error.detail

    async def missing(_request):
        return web.Response(status=404)

    error = await call("openapi", document={"endpoint": await http_server(missing)}, operationId="getPet")
    assert kind(error) == ("communication", 404)


async def test_a_document_at_a_private_address_is_not_fetched(call, pets):
    base, requests = await pets()
    error = await call("openapi", allow=False, document={"endpoint": f"{base}/doc"}, operationId="getPet")
    assert kind(error) == ("communication", 403)
    assert "not allowed" in error.detail
    assert requests == []
