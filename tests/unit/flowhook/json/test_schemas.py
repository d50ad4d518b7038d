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


def test_a_place_is_cut_that_consists_of_what_was_sent():
    [found] = JsonSchema({"additionalProperties": False}).violations({"a": 1}) or [None]
    assert found.path == "."
    [found] = JsonSchema({"additionalProperties": {"type": "string"}}).violations({"k" * 100_000: 1})

    assert (len(found.path), len(found.pointer), len(str(found))) == (
        200,
        200,
        200 + len(' does not meet type: "string"'),
    )


@pytest.mark.parametrize("schema", [{"items": {"items": {"type": "string"}}}, {"const": 1}, False])
def test_what_is_nested_deeply_is_wrong_somewhere(schema):
    deep = 0
    for _ in range(1000):
        deep = [deep]

    [found] = JsonSchema(schema).violations(deep)

    assert (found.pointer, "too deeply" in found.rule) == ("", True)


@pytest.mark.parametrize("document", [{"$ref": "https://x.example/a"}, {"$ref": "other"}, {"pattern": "("}])
def test_nothing_is_fetched_and_what_is_no_schema_is_refused(document):
    with pytest.raises(InvalidError):
        JsonSchema(document)
