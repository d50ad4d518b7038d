"""What applying a flow warns of."""

from __future__ import annotations

from support.routers import flow

DOCUMENT = b"""
document: {dsl: 1.0.3, namespace: default, name: greet, version: 1.0.0}
use: {secrets: [known, unknown]}
do:
  - greet: {set: {text: "Hello ${ .body.name }"}}
"""


async def test_unset_secrets_and_expressions_that_are_none(client):
    await client.secrets.set("known", b"value")
    (plain, greet) = await client.flows.apply([flow("plain"), DOCUMENT])
    assert plain.warnings == ()
    inside, unset = greet.warnings
    assert inside.startswith("do[0].greet.set.text: '${ .body.name }' is not evaluated")
    assert unset.startswith("secret unknown is not set yet")
    assert [(each.line, each.code) for each in greet.located_warnings] == [
        (5, "NOT_AN_EXPRESSION"),
        (3, "SECRET_NOT_SET"),
    ]
    assert [f"{each.key}: {each.cause}".removeprefix(": ") for each in greet.located_warnings] == list(greet.warnings)


async def test_a_secret_that_a_call_reads_by_default_is_needed(client):
    posts = flow("posts").rpartition(b"do:")[0] + b"do: [{post: {call: twitter.post, with: {text: Hello}}}]"
    [applied] = await client.flows.apply([posts])
    assert [each.partition(" is")[0] for each in applied.warnings] == ["secret twitter"]
    assert (await client.flows.statistics("posts")).items[0].missing_secrets == ("twitter",)
    [use] = [each for each in (await client.secrets.uses()).secrets if each.name == "twitter"]
    assert [(each.flow_id, each.verifies, each.expressions) for each in use.users] == [("posts", False, False)]
    await client.secrets.set("twitter", b"{}")
    assert (await client.flows.statistics("posts")).items[0].missing_secrets == ()
