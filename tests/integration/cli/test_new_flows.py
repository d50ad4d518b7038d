"""`flowhook new` and `flowhook test`: each provider's flow is valid, is what the docs show, and passes its test."""

from __future__ import annotations

import json
import re

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML
from support import pages
from support.cases import cases
from support.commands import flowhook

from cli.commands.new import flow_text, provider_names, sample_test
from flowhook.document.diagnostics.lint import located_warnings
from flowhook.document.diagnostics.source import read
from flowhook.document.json_schema import flow_schema
from flowhook.document.loader import parse
from flowhook.providers.sample_files import all_samples
from operations.provider_setup import webhook_settings

SCHEMA = flow_schema()
FIRST = {sample.provider: sample for sample in reversed(all_samples())}
HEAD = "document: {dsl: 1.0.3, namespace: default, name: NAME, version: 1.0.0}\n"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A directory with the flow and the test of each provider."""
    folder = tmp_path_factory.mktemp("new")
    for provider in provider_names():
        (folder / f"{provider}.yaml").write_text(flow_text(provider, FIRST[provider], "schema.json"))
        tests = folder / "tests" / provider
        tests.mkdir(parents=True)
        (tests / "event.json").write_text(sample_test(FIRST[provider]))
    return folder


@pytest.fixture(scope="module")
def tested(written):
    result = flowhook("test", written, "--json")
    assert result.code == 0, result
    return {row["flow"]: row for row in result.rows}


@cases("provider", provider_names())
def test_the_flow_of_a_provider_is_valid_and_passes_its_test(provider, written, tested):
    content = (written / f"{provider}.yaml").read_bytes()
    document = parse(content, file=provider)
    assert [kind.kind for kind in document.webhook.auth] == [provider]
    assert list(located_warnings(document, content, file=provider)) == []
    Draft202012Validator(SCHEMA).validate(read(content).data)
    assert tested[provider]["problems"] == []
    output = json.loads((written / "tests" / provider / "event.json").read_bytes())["output"]
    assert output
    assert None not in output.values()


@cases("provider", provider_names())
def test_the_comments_of_its_commands_are_a_column(provider):
    head = flow_text(provider, FIRST[provider], "schema.json").partition("document:")[0]
    commands = [line for line in head.splitlines() if line.startswith("#   flowhook ")]
    comments = [re.search(r" (runs|sets|sends) ", line).start() for line in commands]
    assert len(comments) >= 3
    assert len(set(comments)) == 1


@cases("provider", provider_names())
def test_it_answers_as_the_page_about_the_provider_says(provider):
    block = pages.blocks(pages.DOCS / "providers" / f"{provider}.md")[0]
    shown = YAML(typ="safe").load(block.text)["webhook"]
    made = webhook_settings(provider, "a-secret")
    assert {**made, "auth": None} == {**shown, "auth": None}
    assert made["auth"][provider].keys() >= shown["auth"][provider].keys() - {"header", "algorithm"}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_new_writes_the_flow_its_test_and_the_schema_that_it_names(here):
    done = flowhook("new", "payments", "--provider", "stripe", "--dir", "flows")
    assert done.out == "flows/payments.yaml: written\nflows/tests/payments/payment-succeeded.json: written\n"
    text = (here / "flows" / "payments.yaml").read_text()
    (schema,) = re.findall(r"^# yaml-language-server: \$schema=(.+)$", text, re.MULTILINE)
    assert json.loads((here / "flows" / schema).read_bytes())["title"] == "Flowhook flow"
    assert (here / ".flowhook" / ".gitignore").read_text() == "*\n"
    assert flowhook("check", "flows").code == 0
    assert flowhook("test", "flows").out == "passed  flows/tests/payments/payment-succeeded.json\n"
    again = flowhook("new", "payments", "--provider", "github", "--dir", "flows")
    assert (again.code, again.err) == (1, "flowhook: flows/payments.yaml exists: choose another name\n")
    assert (here / "flows" / "payments.yaml").read_text() == text
    (here / "flows" / "payments.yaml").unlink()
    again = flowhook("new", "payments", "--provider", "stripe", "--dir", "flows")
    existing = "flows/tests/payments/payment-succeeded.json"
    assert (again.code, again.out, again.err) == (1, "", f"flowhook: {existing} exists: choose another name\n")
    assert not (here / "flows" / "payments.yaml").exists()


@cases("name", ["a b", "../up", "x: y", "", "1_", "-a", "a\n"])
def test_a_name_that_no_flow_can_have_writes_nothing(here, name):
    done = flowhook("new", "--provider", "stripe", "--", name)
    assert (done.code, "NAME: letters, digits" in done.err) == (2, True)
    assert list(here.iterdir()) == []


def test_an_unknown_provider_is_told_those_that_there_are(here):
    done = flowhook("new", "x", "--provider", "strip")
    assert (done.code, ", ".join(provider_names()) in done.err) == (1, True)


def test_what_differs_is_told_by_path(here):
    (here / "sum.yaml").write_text(
        HEAD.replace("NAME", "sum") + "do:\n  - add: {set: {sum: '${ .body.a + 1 }'}}\nwebhook: {auth: none}\n"
    )
    tests = here / "tests" / "sum"
    assert "no tests: a test of sum.yaml is a file tests/sum/NAME.json" in flowhook("test").err
    tests.mkdir(parents=True)
    for name, test in {
        "right": {"body": {"a": 1}, "output": {"sum": 2}},
        "wrong": {"body": {"a": 1}, "output": {"sum": 3, "more": 1}},
        "fails": {"body": {"a": "x"}, "error": {"status": 400}},
        "fails-otherwise": {"body": {"a": "x"}, "error": {"status": 500}},
        "fails-instead": {"body": {"a": "x"}, "output": {}},
        "no-output": {"body": {}},
        "no-body": {"output": {}},
    }.items():
        (tests / f"{name}.json").write_text(json.dumps(test))
    (tests / "no-json.json").write_text("{")
    done = flowhook("test", "--json")
    problems = {row["test"].split("/")[-1].removesuffix(".json"): row["problems"] for row in done.rows}
    assert done.code == 1
    assert problems["right"] == problems["fails"] == []
    assert problems["wrong"] == [
        "/output/sum: expected 3, but it is 2", "/output/more: expected 1, but it is not there"
    ]  # fmt: skip
    assert problems["fails-otherwise"] == ["/error/status: expected 500, but it is 400"]
    assert problems["fails-instead"][0].startswith("/output: expected {}, but it is not there")
    assert problems["no-output"] == ["not a test: say what is expected: output, error, waiting or reply"]
    assert problems["no-body"] == ["not a test: set either body or text"]
    assert problems["no-json"][0].startswith("not a test: it is not JSON: ")
