"""The request of a sender: what it contains, and what is left out of it."""

from __future__ import annotations

import orjson
import pytest

from flowhook.document.loader import load_definition
from flowhook.errors import InvalidError
from flowhook.sender import WebhookRequest, sign_webhook
from flowhook.signatures.build import build_verifiers
from flowhook.signatures.credentials import CredentialPlace
from flowhook.signatures.types import RequestView, verify_any

NOW = 1_800_000_000.0
SECRETS = {"k": b"hush-0123456789-abcdefghijklmnop"}
REQUEST = WebhookRequest("https://hooks.example.com/", "", "application/json", [("X-Event", "test")], b'{"n": 1.0}')


def flow(auth, **webhook):
    document = {"dsl": "1.0.3", "namespace": "default", "name": "shop", "version": "1.0.0"}
    tasks = [{"a": {"set": {"x": 1}}}]
    return load_definition(orjson.dumps({"document": document, "webhook": {"auth": auth, **webhook}, "do": tasks}))


def sign(auth, request=REQUEST, *, webhook=None, secrets=SECRETS, **options):
    return sign_webhook(flow(auth, **(webhook or {})), secrets, request, now=NOW, **options)


def verify(document, signed):
    fields = [(name.lower(), value.encode()) for name, value in signed.headers]
    path, _, query = signed.url.partition("?")
    request = RequestView(signed.method, signed.url, path, query, fields, signed.body)
    return verify_any(build_verifiers(document.webhook.auth, SECRETS), request, NOW)


def test_a_request_is_signed_for_its_url():
    signed = sign({"square": {"secret": "k"}})
    assert (signed.method, signed.url) == ("POST", "https://hooks.example.com/hook/shop")
    assert signed.headers[:2] == [("Content-Type", "application/json"), ("X-Event", "test")]
    assert (signed.kind, signed.secret, signed.validity, signed.credential) == ("square", "k", None, None)
    assert verify(flow({"square": {"secret": "k"}}), signed).secret == "k"


def test_without_auth_nothing_is_added():
    signed = sign("none")
    assert (signed.kind, signed.secret, len(signed.headers)) == ("", "", 2)


@pytest.mark.parametrize(
    ("auth", "place"),
    [
        ({"basic": {"username": "bank", "secret": "k"}}, CredentialPlace("basic", "bank")),
        ({"api_key": {"header": "X-Api-Key", "secret": "k"}}, CredentialPlace("header", "X-Api-Key")),
        ({"api_key": {"query": "the key", "secret": "k"}}, CredentialPlace("query", "the key")),
        ({"gitlab": {"secret": "k"}}, CredentialPlace("header", "X-Gitlab-Token")),
    ],
)
def test_a_secret_that_the_sender_sends_is_left_out_on_request(auth, place):
    signed = sign(auth, with_credentials=False)
    assert (signed.credential, signed.secret, signed.url) == (place, "k", "https://hooks.example.com/hook/shop")
    assert SECRETS["k"].decode() not in repr(signed)
    complete = sign(auth)
    assert complete.credential is None
    assert verify(flow(auth), complete).secret == "k"


@pytest.mark.parametrize("auth", [{"api_key": {"field": "key", "secret": "k"}}, {"microsoft-graph": {"secret": "k"}}])
def test_a_secret_that_belongs_in_the_body_is_refused(auth):
    with pytest.raises(InvalidError) as error:
        sign(auth, with_credentials=False)
    assert error.value.reason == "CANNOT_SIGN"


def test_a_kind_that_can_be_signed_comes_before_one_whose_secret_is_left_out():
    auth = [{"api_key": {"header": "X-Api-Key", "secret": "k"}}, {"github": {"secret": "k"}}]
    assert sign(auth, with_credentials=False).kind == "github"
    assert sign(auth).kind == "api_key"
    assert sign([auth[0], {"github": {"secret": "other"}}], with_credentials=False).kind == "api_key"


def test_signatures_and_timestamps_of_a_captured_request_are_replaced():
    auth = {"slack": {"secret": "k"}}
    captured = [("x-slack-request-timestamp", "1700000000"), ("X-Slack-Signature", "v0=00"), ("X-Slack-Retry-Num", "1")]
    request = REQUEST._replace(headers=captured)
    signed = sign(auth, request, replace_signature=True)
    assert verify(flow(auth), signed).secret == "k"
    assert [name for name, _ in signed.headers].count("X-Slack-Signature") == 1
    assert ("X-Slack-Retry-Num", "1") in signed.headers
    assert ("x-slack-request-timestamp", "1700000000") in sign(auth, request._replace(headers=captured[:1])).headers


def test_a_new_delivery_id_leaves_numbers_as_they_are():
    signed = sign({"stripe": {"secret": "k"}}, REQUEST._replace(body=b'{"id": "old", "n": 1.0}'), new_id=True)
    assert b'"n":1.0' in signed.body
    assert b"old" not in signed.body
    assert signed.validity == 300.0
    header = sign({"github": {"secret": "k"}}, new_id=True).headers
    assert "x-github-delivery" in [name.lower() for name, _ in header]


def test_what_is_in_the_way_is_named_with_what_to_do():
    with pytest.raises(InvalidError, match="flowhook secrets set k"):
        sign({"github": {"secret": "k"}}, secrets={})
    with pytest.raises(InvalidError, match="test event from the sender's own settings") as error:
        sign({"paypal": {"webhook_id": "W1"}})
    assert error.value.reason == "CANNOT_SIGN"
    with pytest.raises(InvalidError, match="write POST or PUT") as error:
        sign("none", REQUEST._replace(method="DELETE"), webhook={"methods": ["POST", "PUT"]})
    assert error.value.reason == "METHOD_NOT_ACCEPTED"


def test_a_method_that_the_flow_accepts_is_chosen():
    assert sign("none", webhook={"methods": ["PUT", "GET"]}).method == "PUT"
    assert sign("none", REQUEST._replace(method="GET"), webhook={"methods": ["PUT", "GET"]}).method == "GET"


def test_a_body_whose_signature_belongs_in_it_has_to_be_json():
    with pytest.raises(InvalidError) as error:
        sign({"mailgun": {"secret": "k"}}, REQUEST._replace(body=b"{"))
    assert error.value.reason == "BODY_INVALID"
    with pytest.raises(InvalidError) as error:
        sign({"adyen": {"secret": "k"}}, REQUEST._replace(body=b'{"notificationItems": 3}'))
    assert error.value.reason == "BODY_INVALID"
    with pytest.raises(InvalidError) as error:
        sign({"adyen": {"secret": "k"}}, REQUEST._replace(body=b'{"notificationItems": [{}]}'))
    assert error.value.reason == "SECRET_INVALID"
