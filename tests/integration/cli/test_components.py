"""`flowhook components`, with a package of somebody else's installed beside ours."""

from __future__ import annotations

import sys

import pytest
from jsonschema import Draft202012Validator
from support.commands import flowhook, flowhook_process

from runner.components import registry

ACME = '''
from decimal import Decimal
from pydantic import BaseModel
from runner.components import Context, component


class Pair:
    pass


class Arguments(BaseModel):
    """`with` of a `call: acme.page`."""
    to: str
    urgent: bool = False


class Odd(BaseModel, arbitrary_types_allowed=True):
    pair: Pair


@component("acme.page")
async def page(arguments: Arguments, context: Context):
    """Page somebody.

    And more.
    """


@component("acme.note")
async def note(text: str, context: Context, copies: int = 1):
    return None


@component("acme.odd")
async def odd(arguments: Odd, context: Context):
    """Takes what no schema describes."""


not_one = print
'''


@pytest.fixture
def package(tmp_path):
    """The folder that the package is in."""
    (tmp_path / "acme_flowhook.py").write_text(ACME)
    metadata = tmp_path / "acme_flowhook-1.2.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-flowhook\nVersion: 1.2.0\n")
    (metadata / "entry_points.txt").write_text(
        "[flowhook.components]\n"
        "acme.page = acme_flowhook:page\n"
        "acme.note = acme_flowhook:note\n"
        "acme.odd = acme_flowhook:odd\n"
        "acme.broken = acme_flowhook:missing\n"
        "acme.print = acme_flowhook:not_one\n"
    )
    return tmp_path


@pytest.fixture
def installed(package, monkeypatch):
    """The package is on the path of this process, where a command costs a tenth of one in its own."""
    monkeypatch.syspath_prepend(package)
    registry.components.cache_clear()
    yield
    registry.components.cache_clear()
    sys.modules.pop("acme_flowhook", None)


def test_all_components_are_listed_with_package_and_summary(package):
    result = flowhook_process("components", "list", "--json", PYTHONPATH=package)
    assert result.code == 0
    rows = {row["name"]: row for row in result.rows}
    assert rows["acme.page"] == {"name": "acme.page", "package": "acme-flowhook 1.2.0", "summary": "Page somebody."}
    assert rows["acme.note"]["summary"] == ""
    assert {"http", "email.send", "twitter.post", "webhook.send"} <= set(rows)
    assert all(row["package"] == "flowhook" and row["summary"] for name, row in rows.items() if "acme" not in name)


def test_one_that_cannot_be_loaded_is_reported_on_stderr_and_hides_no_other(installed):
    result = flowhook("components", "list")
    assert result.code == 0
    assert "acme.page" in result.out
    assert "acme.broken" not in result.out
    assert [name for name in ("acme.broken", "acme.print", "acme.page") if name in result.err] == [
        "acme.broken",
        "acme.print",
    ]


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("acme.page", {"to": "ada", "urgent": True}, {"urgent": True}),
        ("acme.note", {"text": "hello"}, {"text": "hello", "colour": "red"}),
        ("webhook.send", {"url": "https://example.com", "body": {}, "secret": "partner"}, {"body": {}}),
        ("email.send", {"to": ["a@b.c"], "from": "a@b.c", "subject": "s", "text": "t"}, {"to": [1]}),
        ("http", {"method": "get", "endpoint": {"uri": "https://example.com"}}, {"method": "get"}),
    ],
)
def test_the_schema_of_the_arguments_takes_what_the_component_takes(installed, name, good, bad):
    (shown,) = flowhook("components", "show", name, "--json").rows
    assert shown["name"] == name
    Draft202012Validator.check_schema(shown["arguments"])
    schema = Draft202012Validator(shown["arguments"])
    assert schema.is_valid(good)
    assert not schema.is_valid(bad)


def test_a_component_whose_types_have_no_schema_is_shown_without_one(installed):
    (shown,) = flowhook("components", "show", "acme.odd", "--json").rows
    assert shown["arguments"] is None


def test_people_get_the_summary_and_the_schema():
    result = flowhook("components", "show", "webhook.send")
    assert result.code == 0
    assert "Send a signed webhook" in result.out
    assert '"description": "Name of the secret to sign with' in result.out


def test_an_unknown_component_is_refused_with_those_there_are():
    result = flowhook("components", "show", "nope")
    assert (result.code, result.out) == (1, "")
    known = "asyncapi, email.send, grpc, http, mcp, openapi, reply, twitter.post, webhook.send"
    assert f"there is no component nope; there are {known}" in result.err
