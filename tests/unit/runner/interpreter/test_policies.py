"""Endpoints and authentication policies in the arguments of the DSL's own functions."""

from __future__ import annotations

import pytest

USE = {
    "secrets": ["account", "token"],
    "authentications": {
        "files": {"bearer": {"use": "token"}},
        "service": {"basic": {"use": "account"}},
    },
}
SECRETS = {"account": {"username": "ada", "password": "s3cret"}, "token": "t0ken"}

BEARER = {"bearer": {"token": "t0ken"}}
BASIC = {"basic": {"username": "ada", "password": "s3cret"}}


@pytest.mark.parametrize(
    ("function", "given", "expected"),
    [
        (
            "http",
            {"endpoint": {"uri": "https://x.example/{id}", "authentication": {"use": "service"}}},
            {"endpoint": {"uri": "https://x.example/7", "authentication": BASIC}},
        ),
        (
            "grpc",
            {
                "proto": {"endpoint": {"uri": "https://x.example/{id}.proto", "authentication": {"use": "files"}}},
                "service": {"name": "a.B", "host": "b.example", "authentication": {"use": "service"}},
            },
            {
                "proto": {"endpoint": {"uri": "https://x.example/7.proto", "authentication": BEARER}},
                "service": {"name": "a.B", "host": "b.example", "authentication": BASIC},
            },
        ),
        (
            "openapi",
            {
                "document": {"endpoint": {"uri": "https://x.example/{id}", "authentication": {"use": "files"}}},
                "authentication": {"basic": {"use": "account"}},
            },
            {
                "document": {"endpoint": {"uri": "https://x.example/7", "authentication": BEARER}},
                "authentication": BASIC,
            },
        ),
        (
            "run.script",
            {"source": {"endpoint": {"uri": "https://x.example/{id}", "authentication": {"use": "service"}}}},
            {"source": {"endpoint": {"uri": "https://x.example/7", "authentication": BASIC}}},
        ),
    ],
)
def test_every_policy_gets_its_credentials_and_expressions_see_that_of_the_call(execute, function, given, expected):
    call = {"call": function, "with": given, "output": {"as": "${ $authorization.scheme }"}}
    outcome = execute([{"ask": call}], {"id": 7}, use=USE, secrets=SECRETS)
    assert outcome.world.performed[0].arguments == expected
    assert outcome.output == "Basic"


def test_the_policy_of_a_description_alone_is_not_that_of_the_call(execute):
    given = {"document": {"endpoint": {"uri": "https://x.example", "authentication": {"use": "files"}}}}
    call = {"call": "openapi", "with": given, "output": {"as": "${ [$authorization] }"}}
    assert execute([{"ask": call}], {}, use=USE, secrets=SECRETS).output == [None]


def test_an_endpoint_that_is_a_template_of_its_own_is_filled_wherever_it_is(execute):
    call = {"call": "openapi", "with": {"document": {"endpoint": "https://x.example/{id}.json"}}}
    performed = execute([{"ask": call}], {"id": "a b"}).world.performed
    assert performed[0].arguments == {"document": {"endpoint": "https://x.example/a%20b.json"}}


def test_what_other_functions_have_at_such_places_is_theirs(execute):
    given = {"endpoint": {"uri": "{id}", "authentication": {"use": "service"}}, "authentication": {"use": "service"}}
    performed = execute([{"ask": {"call": "acme.ask", "with": given}}], {"id": 7}, use=USE).world.performed
    assert performed[0].arguments == given


def test_the_arguments_may_look_at_what_the_policy_comes_to(execute):
    given = {
        "endpoint": {"uri": "https://x.example", "authentication": {"bearer": {"use": "token"}}},
        "headers": {"X-Scheme": "${ $authorization.scheme }", "X-Length": "${ $authorization.parameter | length }"},
    }
    performed = execute([{"ask": {"call": "http", "with": given}}], {}, use=USE, secrets=SECRETS).world.performed
    assert performed[0].arguments["headers"] == {"X-Scheme": "Bearer", "X-Length": 5}
    assert performed[0].arguments["endpoint"] == {"uri": "https://x.example", "authentication": BEARER}


GRANT = {"authority": "https://a.example/{tenant}", "grant": "client_credentials", "client": {"id": "me"}}


@pytest.mark.parametrize(
    ("policy", "expected", "scheme"),
    [
        ({"digest": {"use": "account"}}, {"digest": SECRETS["account"]}, "Digest"),
        ({"oauth2": GRANT}, {"oauth2": {**GRANT, "authority": "https://a.example/x%2Fy"}}, "Bearer"),
        (
            {"oauth2": {**GRANT, "authority": "${ .tenant }", "endpoints": {"token": "/{tenant}/token"}}},
            {"oauth2": {**GRANT, "authority": "x/y", "endpoints": {"token": "/x%2Fy/token"}}},
            "Bearer",
        ),
        ({"oidc": GRANT}, {"oidc": {**GRANT, "authority": "https://a.example/x%2Fy"}}, "Bearer"),
        ({"oidc": {"use": "account"}}, {"oidc": SECRETS["account"]}, "Bearer"),
    ],
)
def test_what_a_call_shows_is_not_known_before_it_for_other_policies(execute, policy, expected, scheme):
    given = {"endpoint": {"uri": "https://x.example", "authentication": policy}}
    call = {"call": "http", "with": given, "output": {"as": "${ $authorization }"}}
    outcome = execute([{"ask": call}], {"tenant": "x/y"}, use=USE, secrets=SECRETS)
    assert outcome.world.performed[0].arguments["endpoint"]["authentication"] == expected
    assert outcome.output == {"scheme": scheme, "parameter": None}


@pytest.mark.parametrize("scheme", ["basic", "digest", "oauth2", "oidc"])
def test_a_secret_that_is_no_object_is_an_error_that_names_it_and_does_not_show_it(execute, scheme):
    given = {"endpoint": {"uri": "https://x.example", "authentication": {scheme: {"use": "token"}}}}
    error = execute([{"ask": {"call": "http", "with": given}}], {}, use=USE, secrets=SECRETS).error
    assert (error.type.rpartition("/")[2], error.status, error.instance) == ("configuration", 400, "/do/0/ask")
    assert "secret token" in error.detail
    assert "t0ken" not in error.detail
