"""Requests that were not refused are kept beside those that were, and push none of them out."""

from __future__ import annotations

from router.storage.rejections import MAX_OF_FLOW, StoredRejection


def row(number, outcome):
    return StoredRejection(0, f"rej_{number}", "busy", number, b"", "WHY", outcome=outcome)


async def test_many_others_push_out_no_refused_one(cluster):
    log = cluster.storage.rejections
    await log.add([row(number, "refused") for number in range(3)])
    for start in range(10, 10 + 3 * MAX_OF_FLOW, 50):
        await log.add([row(number, "filtered") for number in range(start, start + 50)])

    assert [each.id for each in await log.page()] == ["rej_2", "rej_1", "rej_0"]
    assert len(await log.page(outcome="filtered", limit=1000)) == MAX_OF_FLOW
    assert len(await log.page(flow_id="busy", outcome="", limit=1000)) == MAX_OF_FLOW + 3
    assert [(each.reason, each.count) for each in await log.count(limit=9)] == [("WHY", 3)]
