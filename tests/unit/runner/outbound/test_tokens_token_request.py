"""How a token is asked for, and what is made of the answer."""

from __future__ import annotations

import base64
import hmac
from urllib.parse import parse_qsl

import orjson
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey
from support.cases import cases

from flowhook.document.models.authentication import TOKEN_EXCHANGE
from runner.interpreter.errors import TaskFault
from runner.outbound.policies import Client, OAuth2, OpenIdConnect, Request, SecurityToken
from runner.outbound.tokens import (
    ASSERTION_TYPE,
    DEFAULT_LIFETIME,
    MAX_LIFETIME,
    check_issuer,
    configuration_url,
    parse_configuration,
    parse_token,
    token_endpoint,
    token_request,
)

URL = "https://a.example/oauth2/token"
NOW = 1_700_000_000.5


def policy(grant="client_credentials", **more):
    return OAuth2(authority="https://a.example", grant=grant, **more)


def sent(requested):
    request = token_request(requested, URL, NOW)
    return parse_qsl(request.body.decode(), keep_blank_values=True, strict_parsing=True)


def kind(problem):
    error = problem.value.error
    return error.type.rpartition("/")[2], error.status


def test_a_client_requests_a_token_of_its_own_with_its_credentials_in_the_form():
    requested = policy(client=Client(id="me", secret="a&b"), scopes=["read", "write"], audiences=["x", "y"])
    assert sent(requested) == [
        ("grant_type", "client_credentials"),
        ("scope", "read write"),
        ("audience", "x"),
        ("audience", "y"),
        ("client_id", "me"),
        ("client_secret", "a&b"),
    ]
    request = token_request(requested, URL, NOW)
    assert request.headers == {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
    assert "a&b" not in repr(request)


def test_credentials_in_the_header_are_encoded_as_rfc_6749_says():
    requested = policy(client=Client(id="my id", secret="p:w/ü", authentication="client_secret_basic"))
    request = token_request(requested, URL, NOW)
    assert base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")) == b"my+id:p%3Aw%2F%C3%BC"
    assert request.body == b"grant_type=client_credentials"


def decode(part):
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


@pytest.mark.parametrize("secret", ["short", "a secret of more than thirty-two characters"])
def test_a_client_signs_with_its_secret_for_a_minute_and_for_this_endpoint(secret):
    requested = policy(client=Client(id="me", secret=secret, authentication="client_secret_jwt"))
    form, again = dict(sent(requested)), dict(sent(requested))
    assert (form["client_id"], form["client_assertion_type"]) == ("me", ASSERTION_TYPE)
    signed, _, signature = form["client_assertion"].rpartition(".")
    assert decode(signature) == hmac.digest(secret.encode(), signed.encode(), "sha256")
    header, claims = (orjson.loads(decode(part)) for part in signed.split("."))
    assert header["alg"] == "HS256"
    assert len(claims.pop("jti")) >= 22
    assert claims == {"iss": "me", "sub": "me", "aud": URL, "iat": 1_700_000_000, "exp": 1_700_000_060}
    assert form["client_assertion"] != again["client_assertion"]


@pytest.mark.parametrize("method", ["private_key_jwt", "client_secret_jwt"])
def test_an_assertion_that_was_signed_elsewhere_is_sent_as_it_is(method):
    form = dict(sent(policy(client=Client(assertion="a.b.c", authentication=method))))
    assert form == {
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": "a.b.c",
    }


SUBJECT = SecurityToken(token="hers", type="urn:ietf:params:oauth:token-type:access_token")
ACTOR = SecurityToken(token="mine", type="urn:ietf:params:oauth:token-type:jwt")


@pytest.mark.parametrize(
    ("requested", "expected"),
    [
        (
            policy("password", username="ada", password="p w"),
            {"grant_type": "password", "username": "ada", "password": "p w"},
        ),
        (policy("refresh_token", subject=SUBJECT), {"grant_type": "refresh_token", "refresh_token": "hers"}),
        (
            policy(TOKEN_EXCHANGE, subject=SUBJECT, actor=ACTOR, client=Client(id="me", authentication="none")),
            {
                "grant_type": TOKEN_EXCHANGE,
                "subject_token": "hers",
                "subject_token_type": SUBJECT.type,
                "actor_token": "mine",
                "actor_token_type": ACTOR.type,
                "client_id": "me",
            },
        ),
    ],
)
def test_every_grant_has_its_parameters(requested, expected):
    assert dict(sent(requested)) == expected


def test_a_request_can_be_json():
    requested = policy(audiences=["x", "y"], scopes=["read"], request=Request(encoding="application/json"))
    request = token_request(requested, URL, NOW)
    assert request.headers["Content-Type"] == "application/json"
    assert orjson.loads(request.body) == {
        "grant_type": "client_credentials",
        "scope": "read",
        "audience": ["x", "y"],
    }


@pytest.mark.parametrize(
    ("authority", "path", "expected"),
    [
        ("https://a.example", None, "https://a.example/oauth2/token"),
        ("https://a.example/realms/x/", "token", "https://a.example/realms/x/token"),
        ("https://a.example/realms/x", "/protocol/token", "https://a.example/realms/x/protocol/token"),
        ("https://a.example", "https://b.example/token", "https://b.example/token"),
    ],
)
def test_the_endpoint_is_below_the_authority_unless_it_is_a_url(authority, path, expected):
    endpoints = {} if path is None else {"endpoints": {"token": path}}
    assert token_endpoint(OAuth2(authority=authority, grant="client_credentials", **endpoints)) == expected


def answer(**members):
    return orjson.dumps({"access_token": "t0ken", "token_type": "Bearer", **members})


@cases(
    ("members", "expected"),
    [
        ({"expires_in": 3600}, 3600.0),
        ({"expires_in": "60"}, 60.0),
        ({"token_type": "bearer", "expires_in": -5}, 0.0),
        ({"expires_in": 10**12}, MAX_LIFETIME),
        ({"expires_in": None}, DEFAULT_LIFETIME),
        ({"expires_in": "soon"}, DEFAULT_LIFETIME),
        ({}, DEFAULT_LIFETIME),
    ],
)
def test_a_token_is_good_for_as_long_as_the_server_says_within_bounds(members, expected):
    issued = parse_token(200, answer(**members))
    assert (issued.token, issued.lifetime) == ("t0ken", expected)
    assert "t0ken" not in repr(issued)


@cases(
    ("status", "body", "expected"),
    [
        (400, b'{"error":"invalid_grant","error_description":"s3cret"}', ("authentication", 401)),
        (401, b"s3cret", ("authentication", 401)),
        (429, b"{}", ("communication", 429)),
        (503, b'{"error":"s3cret!"}', ("communication", 503)),
        (302, b"", ("communication", 302)),
        (200, b"s3cret", ("communication", 500)),
        (200, b"[]", ("communication", 500)),
        (200, answer(access_token=""), ("communication", 500)),
        (200, answer(access_token="s3cret\r\nX: 1"), ("communication", 500)),
        (200, answer(access_token="x" * 20_000), ("communication", 500)),
        (200, answer(token_type="DPoP"), ("authentication", 401)),
        (200, answer(token_type="N_A"), ("authentication", 401)),
    ],
)
def test_anything_else_is_an_error_that_has_the_servers_code_and_nothing_else_of_it(status, body, expected):
    with pytest.raises(TaskFault) as problem:
        parse_token(status, body, retry_after_ms=7_000)
    assert kind(problem) == expected
    detail = problem.value.error.detail
    assert "s3cret" not in detail
    assert ("invalid_grant" in detail) == (status == 400)
    assert problem.value.retry_after_ms == (7_000 if status in (302, 429, 503) else 0)


def signed(**claims):
    return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key("x" * 32))


@cases(
    ("token", "issuer", "passes"),
    [
        (signed(iss="https://a"), None, True),
        (signed(iss="https://a"), "https://other", True),
        (signed(iss="https://other"), "https://a", False),
        (signed(iss=["https://a"]), None, False),
        (signed(sub="me"), None, False),
        ("opaque", None, False),
        ("opaque", "https://a", True),
        (signed(sub="me"), "https://a", True),
    ],
)
def test_a_token_has_to_be_of_one_of_the_issuers(token, issuer, passes):
    if passes:
        check_issuer(token, ["https://a", "https://b"], issuer)
        return
    with pytest.raises(TaskFault) as problem:
        check_issuer(token, ["https://a", "https://b"], issuer)
    assert kind(problem) == ("authentication", 401)
    assert token not in problem.value.error.detail


def test_the_configuration_of_a_provider_is_at_its_well_known_place():
    place = "https://a.example/x/.well-known/openid-configuration"
    assert {configuration_url(f"https://a.example/x{end}") for end in ("", "/", place[19:])} == {place}
    assert OpenIdConnect(authority=place, grant="client_credentials").authority == place


@cases(
    ("members", "issuers", "expected"),
    [
        ({}, [], None),
        ({"issuer": "https://a.example/"}, [], None),
        ({"issuer": "https://b.example"}, ["https://b.example"], None),
        ({"issuer": "https://b.example"}, [], "authentication"),
        ({}, ["https://b.example"], "authentication"),
        ({"token_endpoint": "http://a.example/token"}, [], "authentication"),
        ({"token_endpoint": None}, [], "communication"),
        ({"issuer": 5}, [], "communication"),
    ],
)
@cases("authority", ["https://a.example", "https://a.example/.well-known/openid-configuration"])
def test_a_provider_has_to_be_who_was_asked_and_no_less_secret(authority, members, issuers, expected):
    message = {"issuer": "https://a.example", "token_endpoint": URL, "more": 1, **members}
    if expected is None:
        assert parse_configuration(orjson.dumps(message), authority, issuers).token_endpoint == URL
        return
    with pytest.raises(TaskFault) as problem:
        parse_configuration(orjson.dumps(message), authority, issuers)
    assert kind(problem)[0] == expected


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"5", b"{}"])
def test_what_is_no_configuration_is_an_error(body):
    with pytest.raises(TaskFault) as problem:
        parse_configuration(body, "https://a.example", [])
    assert kind(problem) == ("communication", 500)
