from __future__ import annotations

import re

import pytest
from pydantic import ValidationError

from flowhook.document.models.auth import KINDS, SecretProvider, provider
from flowhook.document.models.credentials import ApiKeyAuth, BasicAuth, HmacAuth, TimestampSource
from flowhook.document.models.webhook import Webhook
from flowhook.providers.scheme import ContentPart, parse_content


def auth(value, **keys):
    return Webhook.model_validate({"auth": value, **keys}).auth


def faults(value, **keys):
    with pytest.raises(ValidationError) as refusal:
        auth(value, **keys)
    return [(".".join(map(str, error["loc"])), error["type"]) for error in refusal.value.errors()]


def fault(value, **keys):
    (found,) = faults(value, **keys)
    return found


def hmac(**keys):
    return {"hmac": {"secret": "k", "header": "X-Signature", **keys}}


def test_auth_is_none_or_one_kind_or_a_list():
    github = provider("github", secret="blog-webhook")
    assert auth("none") == ()
    assert auth({"github": {"secret": "blog-webhook"}}) == (github,)
    assert auth([{"github": {"secret": "blog-webhook"}}, {"basic": {"username": "bank", "secret": "pw"}}]) == (
        github,
        BasicAuth(username="bank", secret="pw"),
    )


@pytest.mark.parametrize(
    ("value", "place", "code"),
    [
        (None, "auth", "KEY_MISSING"),
        ("all", "auth", "AUTH_INVALID"),
        ("github", "auth", "AUTH_INVALID"),
        ("basic", "auth", "AUTH_INVALID"),
        ("mtls", "auth", "AUTH_INVALID"),
        ("api_key", "auth", "AUTH_INVALID"),
        (True, "auth", "AUTH_INVALID"),
        ([], "auth", "VALUE_RANGE"),
        ([{"github": {"secret": "k"}}] * 9, "auth", "VALUE_RANGE"),
        (["none"], "auth.0", "AUTH_INVALID"),
        ([{"github": {"secret": "k"}}, "none"], "auth.1", "AUTH_INVALID"),
        ({"github": {"secret": "k"}, "basic": {}}, "auth", "AUTH_INVALID"),
        ({}, "auth", "AUTH_INVALID"),
        ([["github"]], "auth.0", "AUTH_INVALID"),
        ({"githbu": {"secret": "k"}}, "auth.githbu", "AUTH_INVALID"),
        ({"twillio": {"secret": "k"}}, "auth.twillio", "AUTH_INVALID"),
        ({"acme": {"secret": "k"}}, "auth.acme", "AUTH_INVALID"),
        ({5: {}}, "auth.5", "AUTH_INVALID"),
        ([{"none": {}}], "auth.0.none", "AUTH_INVALID"),
    ],
)
def test_other_forms_are_refused(value, place, code):
    assert fault(value) == (place, code)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("github", "{github: {secret: NAME}}"),
        ("basic", "{basic: {username: …, secret: NAME}}"),
        ("mtls", "{mtls: {names: …}}"),
        ("api_key", "{api_key: {secret: NAME, …}}"),
        ({"githbu": {"secret": "k"}}, "did you mean github?"),
        ({"acme": {"secret": "k"}}, "use none, basic, api_key, "),
    ],
)
def test_a_kind_without_settings_or_with_another_name_says_how_to_write_it(value, hint):
    with pytest.raises(ValidationError, match=re.escape(hint)):
        auth(value)


def test_a_webhook_that_does_not_say_who_may_call_is_refused():
    with pytest.raises(ValidationError, match="`auth: none` for everyone"):
        Webhook.model_validate({})


def test_a_public_key_is_written_in_the_file():
    key = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    assert auth({"discord": {"public_key": key}})[0].public_values == (("public_key", key.encode()),)
    assert auth({"discord": {"public_keys": [key]}})[0].public_values == (("public_keys[0]", key.encode()),)
    assert fault({"discord": {}})[0] == "auth.discord"
    assert fault({"discord": {"secret": "k"}})[0].startswith("auth.discord")


def test_secrets_for_handshakes_are_secrets_too():
    found = Webhook.model_validate({"auth": {"meta": {"secret": "app", "verify_token": "token"}}})
    assert found.secret_names() == {"app", "token"}
    assert found.auth[0].secret_names == ("app",)


@pytest.mark.parametrize("kind", [name for name, model in KINDS.items() if issubclass(model, SecretProvider)])
def test_every_kind_takes_one_secret_or_several(kind):
    assert auth({kind: {"secret": "a.b-C_1"}})[0].secret_names == ("a.b-C_1",)
    assert auth({kind: {"secrets": ["new", "old"]}})[0].secret_names == ("new", "old")
    assert fault({kind: {}}) == (f"auth.{kind}", "KEY_CONFLICT")
    assert fault({kind: {"secret": "a", "secrets": ["b"]}}) == (f"auth.{kind}", "KEY_CONFLICT")
    assert fault({kind: {"secrets": []}}) == (f"auth.{kind}.secrets", "too_short")
    assert fault({kind: {"secrets": ["k"] * 9}}) == (f"auth.{kind}.secrets", "too_long")
    assert fault({kind: {"secret": "k", "headers": "X"}})[0] == f"auth.{kind}.headers"


@pytest.mark.parametrize("name", ["", "a b", "${ .x }", "a/b", "k" * 128, "k\n", 5, None])
def test_a_secret_is_named_never_written(name):
    assert faults({"github": {"secret": name}})[0][0].startswith("auth.github")


def test_every_fault_of_a_list_is_reported_at_its_place():
    places = [
        place for place, _ in faults([{"github": {"secret": "a b"}}, {"zoom": {}}, {"basic": {"secret": "k", "u": 1}}])
    ]
    assert places == ["auth.0.github.secret", "auth.1.zoom", "auth.2.basic.username", "auth.2.basic.u"]


@pytest.mark.parametrize("username", ["", "a:b", "a\nb", "x" * 256])
def test_a_user_name_that_can_not_be_sent_is_refused(username):
    assert fault({"basic": {"username": username, "secret": "k"}})[0] == "auth.basic.username"


def test_an_api_key_stands_in_a_header_or_in_the_query():
    assert auth({"api_key": {"header": "X-Api-Key", "secret": "k"}}) == (ApiKeyAuth(header="X-Api-Key", secret="k"),)
    assert auth({"api_key": {"query": "api_key", "secret": "k"}}) == (ApiKeyAuth(query="api_key", secret="k"),)
    for places in ({}, {"header": "X-Api-Key", "query": "api_key"}):
        assert fault({"api_key": {"secret": "k", **places}}) == ("auth.api_key", "KEY_CONFLICT")
    assert fault({"api_key": {"header": "X Api", "secret": "k"}})[0] == "auth.api_key.header"


def test_hmac_spelled_out_as_the_design_does():
    (kind,) = auth(
        {
            "hmac": {
                "secrets": ["new-one", "old-one"],
                "algorithm": "sha256",
                "header": "X-Signature",
                "prefix": "sha256=",
                "encoding": "hex",
                "content": "{timestamp}.{body}",
                "timestamp": {"header": "X-Timestamp", "unit": "s", "tolerance": "PT5M"},
            }
        }
    )
    assert isinstance(kind, HmacAuth)
    assert kind.timestamp == TimestampSource(header="X-Timestamp", tolerance="PT5M")
    assert kind.timestamp.tolerance == 300.0
    assert kind.parts == (ContentPart("timestamp"), ContentPart("text", "."), ContentPart("body"))


def test_hmac_needs_no_more_than_a_secret_and_a_header():
    (kind,) = auth(hmac())
    assert (kind.algorithm, kind.prefix, kind.encoding, kind.content) == ("sha256", "", "hex", "{body}")
    assert fault({"hmac": {"secret": "k"}}) == ("auth.hmac", "KEY_CONFLICT")


@pytest.mark.parametrize(
    ("keys", "place", "code"),
    [
        ({"algorithm": "md5"}, "algorithm", "literal_error"),
        ({"encoding": "base32"}, "encoding", "literal_error"),
        ({"header": "X Signature"}, "header", "HEADER_INVALID"),
        ({"prefix": "sig=\n"}, "prefix", "HEADER_INVALID"),
        ({"content": "{timestamp}.{body}"}, "content", "KEY_MISSING"),
        ({"content": "{method}"}, "content", "SIGNATURE_UNSAFE"),
        ({"content": ""}, "content", "SIGNATURE_UNSAFE"),
        ({"content": "{{body}}"}, "content", "SIGNATURE_UNSAFE"),
        ({"content": "{boddy}"}, "content", "VALUE_FORMAT"),
        ({"content": "{body"}, "content", "VALUE_FORMAT"),
        ({"content": "{body}}"}, "content", "VALUE_FORMAT"),
        ({"content": "{header:}{body}"}, "content", "VALUE_FORMAT"),
        ({"content": "{header:x-signature}{body}"}, "content", "SIGNATURE_UNSAFE"),
        ({"timestamp": {"header": "X-T"}}, "timestamp", "SIGNATURE_UNSAFE"),
        (
            {"content": "{timestamp}{body}", "timestamp": {"header": "X-T", "unit": "min"}},
            "timestamp.unit",
            "literal_error",
        ),
        (
            {"content": "{timestamp}{body}", "timestamp": {"header": "X-T", "tolerance": "5m"}},
            "timestamp.tolerance",
            "DURATION_INVALID",
        ),
        (
            {"content": "{timestamp}{body}", "timestamp": {"header": "X-T", "tolerance": "PT0S"}},
            "timestamp.tolerance",
            "VALUE_RANGE",
        ),
        (
            {"content": "{timestamp}{body}", "timestamp": {"header": "X-T", "tolerance": "P8D"}},
            "timestamp.tolerance",
            "less_than_equal",
        ),
        ({"content": "{timestamp}{body}", "timestamp": {}}, "timestamp", "KEY_CONFLICT"),
        ({"content": "{timestamp}{body}", "timestamp": {"pair": "t"}}, "timestamp.pair", "KEY_CONFLICT"),
        ({"layout": "pairs"}, "prefix", "KEY_MISSING"),
        ({"layout": "commas", "separator": ";"}, "separator", "KEY_CONFLICT"),
        ({"layout": "pairs", "prefix": "v1", "separator": "="}, "separator", "literal_error"),
        ({"query": "sig"}, "", "KEY_CONFLICT"),
        ({"content": "{field:}{body}"}, "content", "VALUE_FORMAT"),
    ],
)
def test_schemes_that_would_not_hold_are_refused(keys, place, code):
    assert fault(hmac(**keys)) == (".".join(("auth", "hmac", *filter(None, (place,)))), code)


def test_a_timestamp_that_is_signed_as_a_header_is_covered():
    (kind,) = auth(hmac(content="{header:x-t}.{body}", timestamp={"header": "X-T"}))
    assert kind.timestamp is not None


def test_a_body_may_go_unsigned_only_where_there_is_none():
    assert not auth(hmac(content="{method} {url}"), methods=["GET", "DELETE"])[0].covers_body
    for methods in (["POST"], ["GET", "POST"], ["PUT"], ["PATCH"]):
        assert fault(hmac(content="{method} {url}"), methods=methods)[0] == "auth"


def test_the_id_is_the_header_that_is_named_or_that_of_standard_webhooks():
    assert auth(hmac())[0].id_location is None
    assert auth(hmac(content="{id}{body}"))[0].id_location == ("header", "webhook-id")
    assert auth(hmac(id={"header": "X-Event"}))[0].id_location == ("header", "X-Event")
    assert auth(hmac(id={"field": "event.id"}))[0].id_location == ("field", "event.id")


def test_braces_are_written_twice():
    assert parse_content("{{{body}}}") == (ContentPart("text", "{"), ContentPart("body"), ContentPart("text", "}"))


@pytest.mark.parametrize(
    ("keys", "place", "code"),
    [
        ({}, "auth.jwt", "KEY_CONFLICT"),
        ({"jwks": "https://i.example/keys", "secret": "k"}, "auth.jwt", "KEY_CONFLICT"),
        ({"jwks": "https://i.example/keys", "issuer": "i"}, "auth.jwt", "KEY_MISSING"),
        ({"jwks": "http://i.example/keys", "issuer": "i", "audience": "a"}, "auth.jwt.jwks", "string_pattern_mismatch"),
        (
            {"jwks": "https://u:p@i.example/keys", "issuer": "i", "audience": "a"},
            "auth.jwt.jwks",
            "string_pattern_mismatch",
        ),
        ({"jwks": "file:///etc/keys", "issuer": "i", "audience": "a"}, "auth.jwt.jwks", "string_pattern_mismatch"),
        ({"secret": "k", "algorithms": ["ES256"]}, "auth.jwt.algorithms", "VALUE_CHOICE"),
        (
            {"public_key": "-----BEGIN PUBLIC KEY-----" + 20 * "=", "algorithms": ["HS256"]},
            "auth.jwt.algorithms",
            "VALUE_CHOICE",
        ),
    ],
)
def test_a_token_needs_one_key_and_algorithms_that_it_has(keys, place, code):
    assert fault({"jwt": keys}) == (place, code)


def test_no_algorithm_none_can_be_allowed():
    assert faults({"jwt": {"secret": "k", "algorithms": ["none"]}})


@pytest.mark.parametrize(
    "value",
    [
        {"auth": [{"x": {"secret": "k"}}, hmac()]},
        {"auth": {"x": {"secrets": ["new", "k"]}}, "callbacks": {"done": {"auth": hmac()}}},
        {"auth": hmac(), "callbacks": {"done": {"auth": {"x": {"secret": "k"}}}}},
    ],
)
def test_what_anybody_has_signed_by_x_can_pass_for_nothing_else(value):
    assert fault(value.pop("auth"), **value) == ("auth", "SECRET_SHARED")


def test_several_urls_of_x_may_have_one_secret():
    assert auth({"x": {"secret": "k"}}, callbacks={"done": {"auth": [{"x": {"secret": "k"}}, hmac(secret="other")]}})


def test_what_zoom_has_signed_can_pass_for_nothing_else():
    assert fault([{"zoom": {"secret": "k"}}, hmac()]) == ("auth", "SECRET_SHARED")
    assert auth([{"zoom": {"secret": "k"}}, {"zoom": {"secrets": ["k", "old"]}}, hmac(secret="other")])
