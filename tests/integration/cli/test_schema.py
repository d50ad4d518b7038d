"""`flowhook schema`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from support.commands import flowhook

from flowhook.document.diagnostics.source import read

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))


@pytest.fixture(scope="module")
def schema():
    (found,) = flowhook("schema", "--json").rows
    return found


def test_every_example_meets_what_is_printed(schema):
    Draft202012Validator.check_schema(schema)
    for path in EXAMPLES:
        Draft202012Validator(schema).validate(read(path.read_bytes()).data)


def test_the_arguments_of_installed_components_are_in_it(schema):
    assert {"email.send", "webhook.send"} <= set(schema["$defs"])
    flow = {
        "document": {"dsl": "1.0.3", "namespace": "default", "name": "x", "version": "1.0.0"},
        "do": [{"tell": {"call": "webhook.send", "with": {"url": "${ .url }", "body": {}, "secret": "partner"}}}],
    }
    assert Draft202012Validator(schema).is_valid(flow)
    del flow["do"][0]["tell"]["with"]["url"]
    assert not Draft202012Validator(schema).is_valid(flow)


def test_without_json_it_is_the_same_on_many_lines(schema):
    result = flowhook("schema")
    assert (result.code, result.err, json.loads(result.out)) == (0, "", schema)
    assert len(result.out.splitlines()) > 100
