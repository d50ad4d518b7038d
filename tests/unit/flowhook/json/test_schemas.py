from __future__ import annotations

import pytest

from flowhook.errors import InvalidError
from flowhook.json.schemas import MAX_VIOLATIONS, JsonSchema


def test_violations_name_places_and_rules_and_never_what_was_sent():
    schema = JsonSchema(
        {
            "required": ["id"],
            "properties": {"a/b~": {"items": {"$ref": "#/$defs/n"}}, "secret": {"const": "expected"}},
            "$defs": {"n": {"minimum": 3}},
        }
    )

    found = schema.violations({"a/b~": [5, 1], "secret": "hunter2"})

    assert [str(each) for each in found] == [
        '. does not meet required: ["id"]',
        '.secret does not meet const: "expected"',
        ".a/b~[1] does not meet minimum: 3",
    ]
    assert found[2].pointer == "/a~1b~0/1"
    assert schema.violations({"id": 1}) == []


def test_a_value_that_is_wrong_everywhere_has_a_few_violations():
    assert len(JsonSchema({"items": False}).violations([0] * 100)) == MAX_VIOLATIONS


def test_a_long_rule_is_cut():
    [found] = JsonSchema({"enum": list(range(1000))}).violations("x")

    assert len(found.rule) == 200


@pytest.mark.parametrize("document", [{"$ref": "https://x.example/a"}, {"$ref": "other"}, {"pattern": "("}])
def test_nothing_is_fetched_and_what_is_no_schema_is_refused(document):
    with pytest.raises(InvalidError):
        JsonSchema(document)
