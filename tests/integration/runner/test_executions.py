"""Whole runners, parent and child, against a router that speaks the real protocol."""

from __future__ import annotations

import orjson


async def test_a_flow_of_set_switch_and_do_completes(router, served):
    router.define(
        "orders",
        [
            {"total": {"set": {"id": "${ .body.id }", "total": "${ [.body.items[].price] | add }"}}},
            {
                "size": {
                    "switch": [
                        {"large": {"when": ".total > 100", "then": "review"}},
                        {"other": {"then": "accept"}},
                    ]
                }
            },
            {"accept": {"set": {"accepted": "${ .id }"}, "then": "end"}},
            {"review": {"do": [{"mark": {"set": {"review": "${ .id }", "total": "${ .total }"}}}]}},
        ],
    )
    stream = await router.attached()
    outcome = await router.run(stream, "orders", {"id": "o-1", "items": [{"price": 60}, {"price": 70}]})
    assert orjson.loads(outcome.completed.output) == {"review": "o-1", "total": 130}
    outcome = await router.run(stream, "orders", {"id": "o-2", "items": [{"price": 6}]})
    assert orjson.loads(outcome.completed.output) == {"accepted": "o-2"}
