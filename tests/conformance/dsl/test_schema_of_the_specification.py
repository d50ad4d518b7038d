"""The specification's JSON Schema and ours say the same of what both have, for its documents and for ours.

Where there is a copy of the specification (`support.specification`): its schema as of the commit there and, if the copy
is a clone, that of its last release.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from conformance.dsl.test_examples_of_the_specification import REFUSED
from jsonschema import Draft202012Validator
from support.specification import COMMIT, examples, needs_copy, schema

from flowhook.document.diagnostics.source import read
from flowhook.document.json_schema import flow_schema

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))

LATER = {"alerts.yaml": "read"}
"""Our examples with a key that the last release does not have."""


def problems(revision, document):
    """Return what the specification's schema says of a document of ours, without the keys that are ours."""
    text = schema(revision)
    if text is None:
        pytest.skip(f"the copy has no {revision}")
    data = read(document.read_bytes()).data
    standard = {key: value for key, value in data.items() if key not in ("webhook", "execution")}
    return [error.message for error in Draft202012Validator(read(text).data).iter_errors(standard)]


@needs_copy
@pytest.mark.parametrize("document", EXAMPLES, ids=lambda path: path.name)
def test_an_example_of_ours_is_valid_by_the_schema_of_the_specification(document):
    assert problems(COMMIT, document) == []


@needs_copy
@pytest.mark.parametrize("document", EXAMPLES, ids=lambda path: path.name)
def test_an_example_of_ours_is_valid_by_the_schema_of_the_last_release(document):
    found = problems("v1.0.3", document)
    later = LATER.get(document.name)
    assert [message for message in found if later is None or f"'{later}' was unexpected" not in message] == []
    assert bool(found) is (later is not None)


@needs_copy
def test_an_example_that_runs_is_valid_by_our_schema():
    ours = Draft202012Validator(flow_schema())
    invalid = {stem for stem, text in examples().items() if not ours.is_valid(read(text).data)}
    assert invalid <= REFUSED.keys()
