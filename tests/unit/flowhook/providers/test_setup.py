"""Set-up steps: every provider has some, with the URL and, if it has one, the secret."""

from __future__ import annotations

import pytest

from flowhook.document.auth import KINDS
from flowhook.providers.setup import setup_steps
from flowhook.providers.table import PROVIDERS

URL = "https://hooks.example.com/hook/shop"
WITHOUT = {"aws-sns", "discord", "paypal", "sendgrid"}
"""Providers that are verified by what is in the flow's file."""


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_steps_of_a_provider_have_the_url_and_the_secret(provider):
    steps = setup_steps(provider, URL, "the-secret")
    assert sum(URL in step for step in steps) == 1
    assert any("the-secret" in step for step in steps) != (provider in WITHOUT)
    assert not [step for step in steps if "{" in step.replace("{status: 200", "") or not step.endswith(".")]
    assert provider in KINDS


def test_without_a_secret_there_is_no_step_about_one():
    assert setup_steps("standard-webhooks", URL, "") == (f"Enter the endpoint URL {URL} at the sender.",)
