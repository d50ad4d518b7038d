"""`flowhook trigger` against a running cluster."""

from __future__ import annotations

import json

import pytest
from support.command_flows import HELLO
from support.commands import flowhook, wait_for_end

from cli.commands.send import find_sample, sample_names, with_value

FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def apply(cluster, tmp_path):
    """Applies flows that keep their input, each with a kind of `auth`; they are gone afterwards."""
    applied = []

    def run(name, auth):
        path = tmp_path / f"{name}.yaml"
        text = HELLO.replace("hello", name).replace("auth: none", f"auth: {auth}")
        path.write_text(text)
        assert cluster.run("apply", "-f", path).code == 0
        applied.append(name)

    yield run
    for name in applied:
        cluster.run("flows", "delete", name, "--yes")


def test_a_sample_is_signed_sent_and_waited_for_and_no_repetition(cluster, apply):
    apply("payments", "{stripe: {secret: stripe-test}}")
    missing = cluster.run("trigger", "stripe/payment-succeeded")
    assert (missing.code, missing.err) == (
        1, "flowhook: secret stripe-test is not set: flowhook secrets set stripe-test\n"
    )  # fmt: skip
    cluster.run("secrets", "set", "stripe-test", "--value", "whsec_of-a-test-0123456789")
    change = ("--set", ".data.object.amount=7.50", "--set", ".data.object.currency=usd", "--set", ".extra.new=[1]")
    done = cluster.run("trigger", "stripe", *change, "--wait", "--json")
    answer, shown = done.rows
    assert (done.code, answer["duplicate"], shown["id"]) == (0, False, answer["execution"])
    body = shown["output"]
    assert (body["data"]["object"]["amount"], body["data"]["object"]["currency"]) == (7.50, "usd")
    assert body["extra"] == {"new": [1]}
    assert "whsec" not in done.out + done.err
    (again,) = cluster.run("trigger", "stripe/payment-succeeded", "--json").rows
    assert (again["duplicate"], again["execution"] != answer["execution"]) == (False, True)
    assert wait_for_end(cluster, again["execution"])["request"]["principal"]["scheme"] == "stripe"


def test_a_form_is_changed_field_by_field(cluster, apply):
    apply("texts", "{twilio: {secret: twilio-test}}")
    cluster.run("secrets", "set", "twilio-test", "--value", "0123456789abcdef0123456789abcdef")
    done = cluster.run("trigger", "twilio", "--set", ".Body=Hi & bye", "--wait", "--json")
    assert done.rows[1]["output"]["Body"] == "Hi & bye"


def test_the_flow_is_named_if_none_or_several_have_the_auth(cluster, apply):
    none = cluster.run("trigger", "linear/issue-created")
    assert (none.code, "`flowhook new NAME --provider linear` writes one" in none.err) == (1, True)
    apply("one", "{shopify: {secret: shop}}")
    apply("two", "{shopify: {secret: shop}}")
    several = cluster.run("trigger", "shopify")
    assert (several.code, "one, two have the auth shopify: choose one with --flow" in several.err) == (1, True)
    assert cluster.run("trigger", "shopify", "--flow", "hello").out.startswith("202 Accepted\n")


def test_what_only_the_provider_can_sign_goes_over_grpc(cluster, apply):
    apply("chat", "{discord: {public_key: " + "ab" * 32 + "}}")
    refused = cluster.run("trigger", "discord")
    assert (refused.code, "--grpc" in refused.err) == (1, True)
    done = cluster.run("trigger", "discord", "--grpc", "--wait", "--json")
    assert done.rows[0]["execution"] == done.rows[1]["id"]
    assert done.rows[1]["status"] == "completed"


def test_a_wrong_name_is_told_those_that_there_are(cluster):
    other = cluster.run("trigger", "github/star")
    assert (other.code, "choose one of github/issue-opened, github/push" in other.err) == (1, True)
    assert "stripe/payment-succeeded" in cluster.run("trigger", "strip").err
    assert "github/push" in cluster.run("trigger", "github").err


@pytest.mark.parametrize("change", ["amount=1", ".a b=1", ".=1", "x", ".data.object[0]=1", ".type.x=1", '"\\(.a)"=1'])
def test_a_value_that_can_not_be_set_is_wrong_usage(change):
    result = flowhook("trigger", "stripe", "--set", change)
    assert (result.code, "--set" in result.err) == (2, True)


def test_every_sample_in_json_or_a_form_can_be_changed():
    for name in sample_names():
        sample = find_sample(name)
        path = ".[0].x" if sample.body.startswith("[") else ".x"
        changed = with_value(sample.content_type, sample.body.encode(), path, "1")
        assert b"x=1" in changed or '"x":1' in json.dumps(json.loads(changed), separators=(",", ":"))
