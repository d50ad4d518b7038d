"""What a policy may say."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from support.cases import cases

from flowhook.document.models.authentication import TOKEN_EXCHANGE
from runner.outbound.policies import Policy

CLIENT = {"id": "me", "secret": "s3cret-of-mine"}
GRANT = {"authority": "https://a.example", "grant": "client_credentials", "client": CLIENT}
TOKEN = {"token": "t0ken-of-hers", "type": "urn:ietf:params:oauth:token-type:access_token"}


def grant(kind="oauth2", **more):
    return {kind: {**GRANT, **more}}


@cases(
    "policy",
    [
        grant(),
        grant(client={"id": "me", "authentication": "none"}),
        grant(client={"id": "me"}),  # a public client, in the body
        grant(client=None),
        grant(client={"authentication": "private_key_jwt", "assertion": "a.b.c"}),
        grant(client={"authentication": "client_secret_jwt", "assertion": "a.b.c"}),
        grant(grant="password", username="ada", password="s3cret-of-hers"),
        grant(grant="refresh_token", subject=TOKEN),
        grant(grant=TOKEN_EXCHANGE, subject=TOKEN, actor=TOKEN),
        grant("oidc", issuers=["https://b.example"]),
    ],
)
def test_a_policy_that_can_be_carried_out_is_taken_and_shows_no_credential(policy):
    taken = Policy.model_validate(policy)
    assert not {"s3cret", "t0ken", "a.b.c"} & set(repr(taken).replace("-", " ").replace("'", " ").split())


@cases(
    ("policy", "expected"),
    [
        ({}, "exactly one of basic, bearer, digest, oauth2 and oidc"),
        ({"bearer": {"token": "t"}, "digest": {"username": "u", "password": "p"}}, "exactly one"),
        (grant(grant="authorization_code"), "a person"),
        (grant(grant="password", username="ada"), "oauth2.password\n  is required by the grant `password`"),
        (grant(grant="refresh_token"), "oauth2.subject\n  is required by the grant `refresh_token`"),
        (
            grant(grant=TOKEN_EXCHANGE),
            "oauth2.subject\n  is required by the grant `urn:ietf:params:",
        ),
        (grant(subject=TOKEN), "oauth2.subject\n  is allowed only with the grant `refresh_token` or"),
        (
            grant(grant="refresh_token", subject=TOKEN, actor=TOKEN),
            "oauth2.actor\n  is allowed only with the grant `urn:",
        ),
        (grant(client={"secret": "s3cret"}), "oauth2.client.id\n  is required by `client_secret_post`"),
        (
            grant(client={"id": "me", "authentication": "client_secret_basic"}),
            "client.secret\n  is required by `client_secret_basic`",
        ),
        (
            grant(client={"id": "me", "authentication": "client_secret_jwt"}),
            "client.secret\n  is required by `client_secret_jwt`",
        ),
        (
            grant(client={"id": "me", "authentication": "private_key_jwt"}),
            "client.assertion\n  is required by `private_key_jwt`",
        ),
        (grant(scope="s3cret"), "Extra inputs"),
        (grant("oidc", endpoints={"token": "/t"}), "Extra inputs"),
        (grant(scopes=["x"] * 65), "at most 64"),
    ],
)
def test_one_that_can_not_be_is_refused_with_the_reason_and_without_its_values(policy, expected):
    with pytest.raises(ValidationError) as problem:
        Policy.model_validate(policy)
    assert expected in str(problem.value)
    assert not {"s3cret", "t0ken"} & set(str(problem.value).replace("-", " ").split())
