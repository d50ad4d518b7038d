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
