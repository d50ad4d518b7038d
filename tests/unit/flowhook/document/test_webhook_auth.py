from __future__ import annotations

import pytest
from pydantic import ValidationError

from flowhook.document.auth import (
    KINDS,
    ApiKeyAuth,
    BasicAuth,
    HmacAuth,
    ProviderAuth,
    TimestampSource,
    provider,
)
from flowhook.document.auth.providers import SecretProvider
from flowhook.document.signed_content import ContentPart, parse_content
from flowhook.document.webhook import Webhook
from flowhook.signatures.providers import PROVIDERS


def auth(value, **keys):
    return Webhook.model_validate({"auth": value, **keys}).auth


def faults(value, **keys):
    with pytest.raises(ValidationError) as refusal:
        auth(value, **keys)
    return [(".".join(map(str, error["loc"])), error["msg"]) for error in refusal.value.errors()]


def fault(value, **keys):
    ((place, cause),) = faults(value, **keys)
    return place, cause


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
    ("value", "place", "cause"),
    [
        (None, "auth", "`auth: none` for everyone"),
        ("all", "auth", "must be `none`"),
        ("github", "auth", "github is told by more than its name: {github: {secret: NAME}}"),
        ("basic", "auth", "{basic: {username: …, secret: NAME}}"),
        ("mtls", "auth", "{mtls: {names: …}}"),
        ("api_key", "auth", "{api_key: {secret: NAME, …}}"),
        (True, "auth", "must be `none`"),
        ([], "auth", "needs 1 to 8 kinds, not 0"),
        ([{"github": {"secret": "k"}}] * 9, "auth", "needs 1 to 8 kinds, not 9"),
        (["none"], "auth.0", "would let everybody in"),
        ([{"github": {"secret": "k"}}, "none"], "auth.1", "would let everybody in"),
        ({"github": {"secret": "k"}, "basic": {}}, "auth", "a mapping with one key"),
        ({}, "auth", "a mapping with one key"),
        ([["github"]], "auth.0", "a mapping with one key"),
        ({"githbu": {"secret": "k"}}, "auth.githbu", "did you mean github?"),
        ({"twillio": {"secret": "k"}}, "auth.twillio", "did you mean twilio?"),
        ({"acme": {"secret": "k"}}, "auth.acme", "unknown kind of `auth`: there are none, basic, api_key, "),
        ({5: {}}, "auth.5", "unknown kind"),
        ([{"none": {}}], "auth.0.none", "unknown kind"),
    ],
)
def test_other_forms_are_refused_and_say_what_would_do(value, place, cause):
    found = fault(value)
    assert found[0] == place
    assert cause in found[1]


def test_a_webhook_that_does_not_say_who_may_call_is_refused():
    with pytest.raises(ValidationError, match="`auth: none` for everyone"):
        Webhook.model_validate({})


def test_every_scheme_of_a_provider_has_a_kind_and_names_its_page():
    providers = {name for name, model in KINDS.items() if issubclass(model, ProviderAuth)}
    with_code = {"adyen", "aws-sns", "elasticio", "microsoft-graph", "paypal", "plaid", "twilio"}
    assert providers - set(PROVIDERS) == with_code
    assert set(PROVIDERS) <= providers
    assert all(row.source.startswith("https://") for row in PROVIDERS.values())


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
    both = "needs `secret: NAME`, or `secrets: [NAME, …]` while rotating, and not both"
    assert fault({kind: {}}) == (f"auth.{kind}", both)
    assert fault({kind: {"secret": "a", "secrets": ["b"]}}) == (f"auth.{kind}", both)
    assert fault({kind: {"secrets": []}}) == (f"auth.{kind}.secrets", "needs 1 to 8 names, not 0")
    assert fault({kind: {"secrets": ["k"] * 9}}) == (f"auth.{kind}.secrets", "needs 1 to 8 names, not 9")
    assert fault({kind: {"secret": "k", "headers": "X"}})[0] == f"auth.{kind}.headers"


@pytest.mark.parametrize("name", ["", "a b", "${ .x }", "a/b", "k" * 128, "k\n", 5, None])
def test_a_secret_is_named_never_written(name):
    assert faults({"github": {"secret": name}})[0][0].startswith("auth.github")


def test_every_fault_of_a_list_is_told_in_its_place():
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
        assert fault({"api_key": {"secret": "k", **places}}) == (
            "auth.api_key",
            "needs one of `header: NAME`, `query: NAME` and `field: PATH`",
        )
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
    place, cause = fault({"hmac": {"secret": "k"}})
    assert (place, "header, numbered_header, query, field" in cause) == ("auth.hmac", True)


@pytest.mark.parametrize(
    ("keys", "place", "cause"),
    [
        ({"algorithm": "md5"}, "algorithm", ""),
        ({"encoding": "base32"}, "encoding", ""),
        ({"header": "X Signature"}, "header", "no header name"),
        ({"prefix": "sig=\n"}, "prefix", "printable ASCII"),
        ({"content": "{timestamp}.{body}"}, "content", "needs `timestamp: {header: NAME}`"),
        ({"content": "{method}"}, "content", "must cover {body}"),
        ({"content": ""}, "content", "must cover {body}"),
        ({"content": "{{body}}"}, "content", "must cover {body}"),
        ({"content": "{boddy}"}, "content", "{boddy} is unknown"),
        ({"content": "{body"}, "content", "without its partner"),
        ({"content": "{body}}"}, "content", "without its partner"),
        ({"content": "{header:}{body}"}, "content", "no header name"),
        ({"content": "{header:x-signature}{body}"}, "content", "can't cover the header that carries it"),
        ({"timestamp": {"header": "X-T"}}, "timestamp", "anyone could renew it"),
        ({"content": "{timestamp}{body}", "timestamp": {"header": "X-T", "unit": "min"}}, "timestamp.unit", ""),
        (
            {"content": "{timestamp}{body}", "timestamp": {"header": "X-T", "tolerance": "5m"}},
            "timestamp.tolerance",
            "PT5M",
        ),
        (
            {"content": "{timestamp}{body}", "timestamp": {"header": "X-T", "tolerance": "PT0S"}},
            "timestamp.tolerance",
            "longer than nothing",
        ),
        (
            {"content": "{timestamp}{body}", "timestamp": {"header": "X-T", "tolerance": "P8D"}},
            "timestamp.tolerance",
            "",
        ),
        ({"content": "{timestamp}{body}", "timestamp": {}}, "timestamp", "header: NAME"),
        ({"content": "{timestamp}{body}", "timestamp": {"pair": "t"}}, "timestamp.pair", "layout: pairs"),
        ({"layout": "pairs"}, "prefix", "the key that signatures stand under"),
        ({"query": "sig"}, "", "needs one of"),
        ({"content": "{field:}{body}"}, "content", "no path"),
    ],
)
def test_schemes_that_would_not_hold_are_refused(keys, place, cause):
    found = fault(hmac(**keys))
    assert found[0] == ".".join(("auth", "hmac", *filter(None, (place,))))
    assert cause in found[1]


def test_a_timestamp_that_is_signed_as_a_header_is_covered():
    (kind,) = auth(hmac(content="{header:x-t}.{body}", timestamp={"header": "X-T"}))
    assert kind.timestamp is not None


def test_a_body_may_go_unsigned_only_where_there_is_none():
    assert not auth(hmac(content="{method} {url}"), methods=["GET", "DELETE"])[0].covers_body
    for methods in (["POST"], ["GET", "POST"], ["PUT"], ["PATCH"]):
        assert fault(hmac(content="{method} {url}"), methods=methods)[0] == "auth"


def test_the_id_is_the_header_that_is_named_or_that_of_standard_webhooks():
    assert auth(hmac())[0].id_place is None
    assert auth(hmac(content="{id}{body}"))[0].id_place == ("header", "webhook-id")
    assert auth(hmac(id={"header": "X-Event"}))[0].id_place == ("header", "X-Event")
    assert auth(hmac(id={"field": "event.id"}))[0].id_place == ("field", "event.id")


def test_braces_are_written_twice():
    assert parse_content("{{{body}}}") == (ContentPart("text", "{"), ContentPart("body"), ContentPart("text", "}"))


@pytest.mark.parametrize(
    ("keys", "place", "cause"),
    [
        ({}, "auth.jwt", "needs one of `jwks: URL`, `public_key: PEM`"),
        ({"jwks": "https://i.example/keys", "secret": "k"}, "auth.jwt", "needs one of"),
        ({"jwks": "https://i.example/keys", "issuer": "i"}, "auth.jwt", "needs `audience` and `issuer`"),
        ({"jwks": "http://i.example/keys", "issuer": "i", "audience": "a"}, "auth.jwt.jwks", "pattern"),
        ({"jwks": "https://u:p@i.example/keys", "issuer": "i", "audience": "a"}, "auth.jwt.jwks", "pattern"),
        ({"jwks": "file:///etc/keys", "issuer": "i", "audience": "a"}, "auth.jwt.jwks", "pattern"),
        ({"secret": "k", "algorithms": ["ES256"]}, "auth.jwt.algorithms", "ES256 can't be used"),
        (
            {"public_key": "-----BEGIN PUBLIC KEY-----" + 20 * "=", "algorithms": ["HS256"]},
            "auth.jwt.algorithms",
            "HS256 can't",
        ),
    ],
)
def test_a_token_needs_one_key_and_algorithms_that_it_has(keys, place, cause):
    found = fault({"jwt": keys})
    assert found[0] == place
    assert cause in found[1]


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
    place, cause = fault(value.pop("auth"), **value)
    assert place == "auth"
    assert "secret k belongs to `x`" in cause


def test_several_urls_of_x_may_have_one_secret():
    assert auth({"x": {"secret": "k"}}, callbacks={"done": {"auth": [{"x": {"secret": "k"}}, hmac(secret="other")]}})


def test_what_zoom_has_signed_can_pass_for_nothing_else():
    place, cause = fault([{"zoom": {"secret": "k"}}, hmac()])
    assert (place, "secret k belongs to `zoom`" in cause) == ("auth", True)
    assert auth([{"zoom": {"secret": "k"}}, {"zoom": {"secrets": ["k", "old"]}}, hmac(secret="other")])
