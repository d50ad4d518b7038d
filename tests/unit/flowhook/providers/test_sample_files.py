"""The samples of providers: each is what its provider sends, and passes its verifier once it is signed."""

from __future__ import annotations

import re

import orjson
import pytest
from support.cases import cases

from flowhook.document.models.auth import parse_auth
from flowhook.errors import InvalidError, NotFoundError
from flowhook.payloads.content_type import parse_content_type
from flowhook.providers import PROVIDERS, sample_files
from flowhook.signatures.build import build_verifiers, sign, sign_body
from flowhook.signatures.types import RequestView, verify_any

NOW = 1_800_000_000.0
KEY = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
AUTH = {
    "aws-sns": {"topic_arn": "arn:aws:sns:eu-central-1:123456789012:test"},
    "discord": {"public_key": KEY},
    "paypal": {"webhook_id": "WEBHOOK1"},
    "plaid": {"client_id": "client1", "secret": "k"},
    "sendgrid": {"public_key": KEY},
}
"""Settings of the kinds that take something else than a secret."""

UNSIGNABLE = {"aws-sns", "discord", "microsoft-graph", "paypal", "plaid", "sendgrid"}
SECRETS = {"k": b"abcdef0123456789" * 2}

REQUIRED = {
    # https://github.com/octokit/webhooks/blob/main/payload-schemas/api.github.com/push/event.schema.json
    "github/push": (
        "ref before after created deleted forced base_ref compare commits head_commit repository pusher sender"
    ),
    # https://docs.aws.amazon.com/sns/latest/dg/http-notification-json.html; Subject is optional
    "aws-sns/notification": (
        "Message MessageId Signature SignatureVersion SigningCertURL Timestamp TopicArn Type UnsubscribeURL"
    ),
    # https://github.com/plaid/plaid-openapi, SyncUpdatesAvailableWebhook
    "plaid/sync-updates-available": (
        "webhook_type webhook_code item_id initial_update_complete historical_update_complete environment"
    ),
    # https://developers.notion.com/reference/webhooks-events-delivery#event-properties; accessible_by: public ones
    "notion/page-created": (
        "id timestamp workspace_id subscription_id integration_id type authors attempt_number entity data"
    ),
    "square/payment-created": "merchant_id type event_id created_at data",
    "stripe/payment-succeeded": "id object api_version created data livemode pending_webhooks request type",
    "twitch/channel-followed": "subscription event",
    # https://developer.zendesk.com/api-reference/webhooks/event-types/webhook-event-types/#top-level-properties
    "zendesk/ticket-created": "account_id detail event id subject time type zendesk_event_version",
}
"""Fields of the body that the provider documents as always there."""

each_sample = pytest.mark.parametrize("sample", sample_files.all_samples(), ids=lambda sample: sample.name)


def test_each_provider_has_a_sample():
    assert {sample.provider for sample in sample_files.all_samples()} == PROVIDERS.keys()


@each_sample
def test_a_sample_is_a_small_body_of_its_type_from_a_page_of_its_provider(sample):
    assert sample.title
    assert sample.source.startswith("https://")
    assert len(sample.body) < 4096
    essence = parse_content_type(sample.content_type).essence
    if essence == "application/json":
        assert isinstance(orjson.loads(sample.body), dict | list)
    for name, value in sample.headers:
        assert (name + value).isascii()
        assert name.lower() not in ("content-type", "host", "content-length")


@each_sample
def test_a_signed_sample_passes_the_verifier_of_its_provider(sample):
    (kind,) = parse_auth({sample.provider: AUTH.get(sample.provider, {"secret": "k"})})
    url = "https://hooks.example.com/hook/flow"
    headers = [("Content-Type", sample.content_type), *sample.headers]
    arguments = {"method": "POST", "url": url, "headers": headers, "now": NOW}
    if sample.provider in UNSIGNABLE:
        with pytest.raises(InvalidError) as error:
            sign(kind, SECRETS, body=sign_body(kind, SECRETS, sample.body.encode(), NOW), **arguments)
        assert error.value.reason == "CANNOT_SIGN"
        return
    body = sign_body(kind, SECRETS, sample.body.encode(), NOW)
    headers += sign(kind, SECRETS, body=body, **arguments)
    fields = [(name.lower(), value.encode()) for name, value in headers]
    request = RequestView("POST", url, "/hook/flow", "", fields, body)
    verifiers = build_verifiers([kind], SECRETS)
    assert verify_any(verifiers, request, NOW).secret == "k"
    if kind.names_deliveries:
        assert verifiers[0].delivery_id(request)


@cases("name", REQUIRED)
def test_a_sample_has_the_fields_that_its_provider_always_sends(name):
    assert set(REQUIRED[name].split()) <= orjson.loads(sample_files.get_sample(name).body).keys()


@each_sample
def test_a_sample_names_test_values_only(sample):
    addresses = re.findall(r"[\w.+-]+@([\w-]+\.[\w.]+)", sample.body)
    assert set(addresses) <= {"example.com"}
    hosts = set(re.findall(r"https?://([\w.-]+)", sample.body))
    known = {"github.com", "linear.app", "sns.eu-central-1.amazonaws.com"}
    assert {host for host in hosts if not host.endswith("example.com")} <= known


def test_a_sample_that_does_not_exist_is_not_found():
    with pytest.raises(NotFoundError, match=r"no sample '\.\./x'"):
        sample_files.get_sample("../x")
