"""Senders' events are found by what their flow declares, and by what is in them, with the whole cluster."""

from __future__ import annotations

import orjson
import pytest
from support.systems import document

from flowhook.model.execution_filter import ExecutionFilter

pytestmark = pytest.mark.e2e

SEARCH = "{search: {order: .body.order.id, via: '${ .query.via }'}}"


async def test_an_event_is_found_by_its_attributes_however_large_it_is_and_a_replay_too(system):
    await system.apply(document("searched", execution=SEARCH))
    small = (await system.send("searched?via=shop", {"order": {"id": 4711}})).id
    large = (await system.send("searched", {"order": {"id": "4711"}, "lines": ["x" * 50] * 4000})).id
    other = (await system.send("searched?via=shop", {"order": {"id": 4712}})).id
    await system.completed(small)
    replay = (await system.client.executions.replay(small)).id

    async def found(*attributes):
        return [each.id for each in await system.executions("searched", where=ExecutionFilter(attributes=attributes))]

    assert await found(("order", "4711")) == [replay, large, small]
    assert await found(("order", "4711"), ("via", "shop")) == [replay, small]
    assert await found(("via", "shop")) == [replay, other, small]
    shown = await system.flowhook("executions", "get", replay, "--json")
    assert orjson.loads(shown.out)["attributes"] == {"order": "4711", "via": "shop"}
    searched = await system.flowhook(
        "executions", "list", "--json", "--flow", "searched", "--jq", ".body.order.id == 4712"
    )
    assert [row["id"] for row in searched.rows] == [other]
