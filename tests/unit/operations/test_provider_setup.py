"""Set-up steps: every provider has some, with the URL and, if it has one, the secret, in the order they are taken."""

from __future__ import annotations

import re

from ruamel.yaml import YAML
from support.cases import cases

from flowhook.document.models.auth import KINDS
from flowhook.document.models.webhook import Respond
from flowhook.providers import Handshake
from flowhook.providers.table import PROVIDERS
from operations.provider_setup import setup_steps

URL = "https://hooks.example.com/hook/shop"
WITHOUT = {"aws-sns", "discord", "paypal", "sendgrid"}
"""Providers that are verified by what is in the flow's file."""

SECRET_HANDSHAKES = {
    Handshake.ECHO_BODY_CHALLENGE,
    Handshake.ECHO_MESSAGE_CHALLENGE,
    Handshake.SIGN_CRC_TOKEN,
    Handshake.SIGN_PLAIN_TOKEN,
    Handshake.VERIFY_TOKEN,
}
"""Handshakes that only pass if the secret is set."""

ANSWERS = {
    "asana": 200,  # 200 or 204: developers.asana.com/docs/webhook-heartbeat-events
    "discord": 204,  # discord.com/developers/docs/events/webhook-events#responding-to-events
    "linear": 200,  # linear.app/developers/webhooks
    "mailgun": 200,  # documentation.mailgun.com/docs/mailgun/user-manual/webhooks/webhooks
    "meta": 200,  # developers.facebook.com/docs/graph-api/webhooks/getting-started
    "plaid": 200,  # plaid.com/docs/api/webhooks/#webhook-retries
    "twilio": 200,  # www.twilio.com/docs/messaging/twiml
    "whatsapp": 200,
    "x": 200,  # docs.x.com/x-api/webhooks/introduction
    "zoom": 200,  # 200 or 204: developers.zoom.us/docs/api/webhooks/#notification-delivery
}
"""Providers that document another answer than the default, 202 with a JSON body, and its status."""

RESPOND = re.compile(r"respond: (\{.*\})")


def steps_of(provider):
    return setup_steps(provider, URL, "the-secret")


def index_of(steps, text):
    return next(index for index, step in enumerate(steps) if text in step)


@cases("provider", PROVIDERS)
def test_the_steps_of_a_provider_have_the_url_and_the_secret(provider):
    steps = steps_of(provider)
    assert sum(URL in step for step in steps) == 1
    assert any("the-secret" in step for step in steps) != (provider in WITHOUT)
    assert not [step for step in steps if "{" in RESPOND.sub("", step) or not step.endswith(".")]
    assert provider in KINDS


@cases("provider", PROVIDERS)
def test_an_answer_that_a_provider_requires_is_one_that_flow_files_can_have(provider):
    found = [match[1] for step in steps_of(provider) for match in RESPOND.finditer(step)]
    answers = [Respond.model_validate(YAML(typ="safe").load(text)) for text in found]
    assert [answer.status for answer in answers] == ([ANSWERS[provider]] if provider in ANSWERS else [])


@cases("provider", [name for name, row in PROVIDERS.items() if row.handshake in SECRET_HANDSHAKES])
def test_a_secret_that_a_handshake_needs_is_set_before_the_url_is_entered(provider):
    steps = steps_of(provider)
    assert index_of(steps, "the-secret") < index_of(steps, URL)


@cases(
    ("provider", "first", "then"),
    [
        ("discord", "public_key in the flow's file", URL),
        ("meta", "verify_token", URL),
        ("notion", "verification_token", URL),
        ("notion", URL, "Press Verify"),
        ("paypal", URL, "webhook_id in the flow's file"),
        ("sendgrid", URL, "public_key in the flow's file"),
    ],
)
def test_what_a_step_needs_is_done_before_it(provider, first, then):
    steps = steps_of(provider)
    assert index_of(steps, first) < index_of(steps, then)


def test_the_url_of_elastic_io_is_entered_at_those_who_send_to_it():
    """Its Webhook component verifies `x-eio-signature`, and sends nothing."""
    [step] = [step for step in steps_of("elasticio") if URL in step]
    assert "at the senders" in step


def test_without_a_secret_there_is_no_step_about_one():
    assert setup_steps("standard-webhooks", URL, "") == (f"Enter the endpoint URL {URL} at the sender.",)
