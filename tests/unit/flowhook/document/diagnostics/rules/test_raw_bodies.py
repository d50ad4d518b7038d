"""Expressions of webhooks that leave bodies as they are."""

from __future__ import annotations

import orjson
import pytest
from support.cases import cases
from support.flow_files import HEAD, causes_of

from flowhook.document.diagnostics.rules.workflow import CAUSE
from flowhook.document.loader import load_definition, parse

DO = "do: [{a: {set: {c: 1}}}]\n"


@cases(
    ("keys", "line", "key"),
    [
        ("webhook: {auth: none, parse: raw}\nexecution: {order_by: '${ .body.x }'}\n", 3, "execution.order_by"),
        ("webhook: {auth: none, parse: raw}\nexecution: {search: {order: .body.x}}\n", 3, "execution.search.order"),
        ("webhook: {auth: none, parse: raw}\nexecution: {order_by: '${ .[\"body\"] }'}\n", 3, "execution.order_by"),
        (
            "webhook: {auth: none, parse: raw, dedupe: {key: '${ \"a\\(.body.x)\" }'}}\n",
            2,
            "webhook.dedupe.key",
        ),
        ("webhook: {auth: none, parse: raw, accept: {filter: '[.body.x] | any'}}\n", 2, "webhook.accept.filter"),
        ("webhook: {auth: none, parse: raw, respond: {body: {a: ['${ .body.x }']}}}\n", 2, "webhook.respond.body.a[0]"),
        (
            "webhook: {auth: none, parse: raw, respond: {headers: {X: '${ .body.x }'}}}\n",
            2,
            "webhook.respond.headers.X",
        ),
        (
            "webhook: {auth: none, callbacks: {paid: {auth: none, parse: raw, dedupe: {key: '${ .body.x }'}}}}\n",
            2,
            "webhook.callbacks.paid.dedupe.key",
        ),
    ],
)
def test_an_expression_about_a_body_that_is_not_parsed_is_refused(keys, line, key):
    assert causes_of(HEAD + keys + DO) == [(line, key, CAUSE)]


@pytest.mark.parametrize(
    "keys",
    [
        "webhook: {auth: none, parse: raw, dedupe: {key: '${ .headers.body }'}}\n",
        "webhook: {auth: none, parse: raw}\nexecution: {order_by: '${ .query.body }'}\n",
        "webhook: {auth: none, dedupe: {key: '${ .body.x }'}}\nexecution: {order_by: '${ .body.x }'}\n",
        "webhook: {auth: none, parse: raw, respond: {body: .body.x}}\n",
        "webhook: {auth: none, callbacks: {paid: {auth: none, parse: raw}}}\nexecution: {order_by: '${ .body.x }'}\n",
    ],
)
def test_others_are_not(keys):
    assert parse((HEAD + keys + DO).encode(), file="f.yaml", functions=()).webhook


def test_a_flow_that_was_stored_before_is_read_all_the_same():
    keys = "webhook: {auth: none, parse: auto}\nexecution: {order_by: '${ .body.x }'}\n"
    definition = parse((HEAD + keys + DO).encode(), file="f.yaml", functions=()).definition
    definition["webhook"]["parse"] = "raw"
    assert load_definition(orjson.dumps(definition)).execution.order_by == "${ .body.x }"
