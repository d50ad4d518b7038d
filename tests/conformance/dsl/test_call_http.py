"""`call: http`.

Source: dsl-reference.md, "HTTP Call", "HTTP Response", "URI Template", "Authentication"; the specification's
ctk/features/call, in our own words.
"""

from __future__ import annotations

import base64

import pytest


def call(endpoint, more="", after=""):
    return f"do: [{{ask: {{call: http, with: {{method: get, endpoint: {endpoint}{more}}}{after}}}}}]"


async def test_the_content_of_an_answer_is_deserialized_and_may_be_filtered(run, pets):
    document = call(f"{{uri: '{pets.url}/pets?status={{status}}'}}", after=", output: {as: '.[0]'}")
    assert (await run(document, {"status": "available"})).output == {"id": 7, "name": "milou", "status": "available"}


async def test_the_whole_response_shows_its_request(run, pets):
    document = call(f"{{uri: '{pets.url}/pets/{{id}}'}}", ", headers: {Accept: application/json}, output: response")
    output = (await run(document, {"id": 1})).output
    assert set(output) == {"request", "statusCode", "headers", "content"}
    assert set(output["request"]) == {"method", "uri", "headers"}
    assert output["request"]["uri"] == f"{pets.url}/pets/1"
    assert output["request"]["headers"]["accept"] == "application/json"
    assert output["statusCode"] == 200
    assert output["headers"]["content-type"].startswith("application/json")
    assert output["content"] == {"id": 1, "name": "milou", "status": "available"}


async def test_raw_output_is_the_content_in_base64(run, pets):
    output = (await run(call(f"'{pets.url}/status/200'", ", output: raw"))).output
    assert base64.b64decode(output) == b'{"status": 200}'


@pytest.mark.parametrize(
    ("status", "redirect", "fails"),
    [
        (200, False, False),
        (204, False, False),
        (304, False, True),
        (304, True, False),
        (400, True, True),
        (404, False, True),
        (503, True, True),
    ],
)
async def test_a_status_out_of_range_is_a_communication_error_with_it(run, pets, status, redirect, fails):
    once = "execution: {retry: {limit: {attempt: {count: 0}}}}\n"
    ended = await run(once + call(f"'{pets.url}/status/{status}'", f", redirect: {str(redirect).lower()}"))
    if fails:
        assert ended.fault == ("communication", status, "/do/0/ask")
    else:
        assert ended.step.output


async def test_headers_and_query_may_be_expressions_as_a_whole_or_in_part(run, pets):
    whole = call(f"'{pets.url}/echo'", ", headers: '${ .headers }', query: '${ .query }'")
    parts = call(f"'{pets.url}/echo'", ", headers: {X-A: '${ .headers[\"X-A\"] }'}, query: {q: '${ .query.q }'}")
    for document in (whole, parts):
        output = (await run(document, {"headers": {"X-A": "a"}, "query": {"q": "x y"}})).output
        assert output["headers"]["X-A"] == "a"
        assert output["path"] == "/echo?q=x+y"


async def test_a_query_parameter_may_be_given_several_times_and_be_no_text(run, pets):
    for tags in ("[a, '${ .tag }', 3]", "'${ [\"a\", .tag, 3] }'"):
        document = call(f"'{pets.url}/echo?all=yes'", f", query: {{tag: {tags}, page: 2, open: true}}")
        assert (await run(document, {"tag": "b"})).output["path"] == "/echo?all=yes&tag=a&tag=b&tag=3&page=2&open=true"


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({"id": 7}, "/echo/7"),
        ({"id": True}, "/echo/true"),
        ({"id": None}, "/echo/"),
        ({}, "/echo/"),
        ({"id": "a/b"}, "/echo/a%2Fb"),
    ],
)
async def test_a_uri_template_takes_scalars_of_the_input_by_their_verbatim_name(run, pets, data, path):
    assert (await run(call(f"'{pets.url}/echo/{{id}}'"), data)).output["path"] == path


async def test_a_uri_template_knows_no_paths_and_no_arguments_and_refuses_what_is_no_scalar(run, pets):
    document = call(f"'{pets.url}/echo/{{pet.id}}'")
    assert (await run(document, {"pet.id": 1, "pet": {"id": 2}})).output["path"] == "/echo/1"
    assert (await run(call(f"'{pets.url}/echo/{{id}}'"), {"id": {}})).fault == ("expression", 400, "/do/0/ask")


BASIC = "Basic " + base64.b64encode(b"admin:pass word").decode()


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("{basic: {username: admin, password: pass word}}", BASIC),
        ("{basic: {username: '${ .user }', password: '${ $secrets.login.password }'}}", BASIC),
        ("{basic: {use: login}}", BASIC),
        ("{use: by-name}", BASIC),
        ("{use: by-secret}", BASIC),
        ("{bearer: {token: t0ken}}", "Bearer t0ken"),
        ("{bearer: {token: '${ .token }'}}", "Bearer t0ken"),
        ("{bearer: {use: plain}}", "Bearer t0ken"),
        ("{bearer: {use: object}}", "Bearer t0ken"),
    ],
)
async def test_basic_and_bearer_authentication_inline_by_name_and_by_secret(run, pets, policy, expected):
    use = """
use:
  secrets: [login, plain, object]
  authentications:
    by-name: {basic: {username: '${ .user }', password: pass word}}
    by-secret: {basic: {use: login}}
"""
    secrets = {"login": {"username": "admin", "password": "pass word"}, "plain": "t0ken", "object": {"token": "t0ken"}}
    document = use + call(f"{{uri: '{pets.url}/echo', authentication: {policy}}}")
    output = (await run(document, {"user": "admin", "token": "t0ken"}, secrets=secrets)).output
    assert output["headers"]["Authorization"] == expected


async def test_the_authorization_is_an_argument_of_what_comes_after_it(run, pets):
    document = call(
        f"{{uri: '{pets.url}/echo', authentication: {{bearer: {{token: t0ken}}}}}}",
        after=", output: {as: '${ {scheme: $authorization.scheme, length: ($authorization.parameter | length)} }'}",
    )
    assert (await run(document)).output == {"scheme": "Bearer", "length": 5}


@pytest.mark.parametrize("secret", ["no object", {"username": "admin"}, {"username": "admin", "password": 5}])
async def test_a_secret_that_is_no_such_credential_is_a_configuration_error_that_does_not_show_it(run, pets, secret):
    document = "use: {secrets: [login]}\n" + call(
        f"{{uri: '{pets.url}/echo', authentication: {{basic: {{use: login}}}}}}"
    )
    ended = await run(document, secrets={"login": secret})
    assert ended.fault == ("configuration", 400, "/do/0/ask")
    assert "admin" not in ended.error["detail"]
    assert not pets.received
