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
