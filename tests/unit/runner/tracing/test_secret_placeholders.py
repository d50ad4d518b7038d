"""What stands for secrets in traces."""

from __future__ import annotations

from support.cases import cases

from runner.tracing.secret_placeholders import PLACEHOLDER, mentions_secrets, placeholders


@cases(
    ("expression", "value"),
    [
        ("${ $secrets.key }", PLACEHOLDER),
        ('${ $secrets["key"] }', PLACEHOLDER),
        ("${ $secrets.keyring.name }", PLACEHOLDER),
        ("${ $secrets.key.user }", {"user": PLACEHOLDER}),
        ('${ $secrets["key"].client["id"] }', {"client": {"id": PLACEHOLDER}}),
        ("${ $secrets.key.client.id + $secrets.key.client.secret }", {"client": {"id": "•••", "secret": "•••"}}),
    ],
)
def test_a_secret_is_a_text_or_has_the_members_that_expressions_read(expression, value):
    assert placeholders(["key"], {"do": [{"x": {"set": {"y": expression}}}]}) == {"key": value}


def test_a_secret_of_a_policy_has_credentials():
    policy = {"authentication": {"basic": {"use": "key"}}}
    found = placeholders(["key"], {"do": [{"x": {"call": "http", "with": {"endpoint": policy}}}]})
    assert (found["key"]["username"], found["key"]["password"]) == (PLACEHOLDER, PLACEHOLDER)


def test_mentions_are_found_in_expressions_and_policies():
    assert mentions_secrets({"set": {"x": "${ $secrets.a }"}})
    assert mentions_secrets({"with": [{"authentication": {"bearer": {"use": "a"}}}]})
    assert not mentions_secrets({"set": {"x": "${ .secrets }"}})
