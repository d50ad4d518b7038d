"""What is said of a `webhook.accept` that decides nothing, or not here."""

from __future__ import annotations

import orjson
from support.cases import cases
from support.flow_files import HEAD, causes_of

from flowhook.document.loader import parse

TASKS = "do: [{keep: {set: '${ .body }'}}]\n"
SCHEMA = "webhook.accept.schema"


def flow(accept):
    return f"{HEAD}webhook: {{auth: none, accept: {orjson.dumps(accept).decode()}}}\n{TASKS}"


@cases(
    ("accept", "key", "cause"),
    [
        ({}, "webhook.accept", "needs a `filter`, a `schema`, or both"),
        ({"filter": ".body | env"}, "webhook.accept.filter", "env is not allowed"),
        ({"filter": "${ $secrets.key }"}, "webhook.accept.filter", "unknown variable $secrets"),
        ({"filter": "${ .a && .b }"}, "webhook.accept.filter", "`&&` is written `and`"),
        ({"filter": ".a", "otherwise": {"filtered": 99}}, "webhook.accept.otherwise.filtered", "at least 200"),
        ({"schema": {"format": "xml", "document": {}}}, f"{SCHEMA}.format", "not supported yet"),
        ({"schema": {"document": {"type": "text"}}}, f"{SCHEMA}.document.type", "invalid JSON Schema"),
        ({"schema": {"document": {"$ref": "https://x.example/a"}}}, f"{SCHEMA}.document.$ref", "are not fetched"),
        ({"schema": {"document": {"$ref": "file:///etc/passwd"}}}, f"{SCHEMA}.document.$ref", "are not fetched"),
        (
            {"schema": {"document": {"$dynamicRef": "https://x.example/a"}}},
            f"{SCHEMA}.document",
            "is not present",
        ),
        (
            {"schema": {"document": {"$ref": "#/$defs/none"}}},
            f"{SCHEMA}.document.$ref",
            "is not defined in this schema",
        ),
        ({"schema": {"document": {"pattern": "(?"}}}, f"{SCHEMA}.document.pattern", "invalid JSON Schema"),
    ],
)
def test_what_can_not_decide_is_refused(accept, key, cause):
    [(_, found, said)] = causes_of(flow(accept))

    assert found == key
    assert cause in said


def test_a_schema_may_refer_to_its_own_parts():
    schema = {"$defs": {"n": {"minimum": 1}}, "properties": {"body": {"$ref": "#/$defs/n"}}}
    accept = parse(flow({"schema": {"document": schema}}).encode()).webhook.accept

    assert accept.schema_.document == schema
    assert (accept.otherwise.filtered, accept.otherwise.invalid) == (204, 422)
