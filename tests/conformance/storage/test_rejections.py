"""The log of refused requests: a ring for each flow, and one for all."""

from __future__ import annotations

from dataclasses import astuple

from router.storage.rejections import StoredRejection

DAY_MS = 24 * 3600 * 1000


def rejection(number, flow_id="f", *, time_ms=1000):
    return StoredRejection(0, f"rej_{number:026d}", flow_id, time_ms, b"content %d" % number)


async def ids(cluster, **conditions):
    return [int(each.id[4:]) for each in await cluster.storage.rejections.page(**conditions)]


async def test_they_are_listed_newest_first_and_page_by_page(cluster):
    await cluster.storage.rejections.add([rejection(1), rejection(2, "g"), rejection(3)])
    assert await ids(cluster) == [3, 2, 1]
    assert await ids(cluster, flow_id="f") == [3, 1]
    (last,) = await cluster.storage.rejections.page(limit=1)
    assert await ids(cluster, before_number=last.number, limit=1) == [2]


async def test_one_is_found_by_its_id(cluster):
    await cluster.storage.rejections.add([rejection(1)])
    found = await cluster.storage.rejections.get(rejection(1).id)
    assert (found.flow_id, found.time_ms, found.content) == ("f", 1000, b"content 1")
    assert await cluster.storage.rejections.get("rej_none") is None


async def test_the_same_one_twice_is_one(cluster):
    await cluster.storage.rejections.add([rejection(1), rejection(1)])
    await cluster.storage.rejections.add([rejection(1)])
    assert await ids(cluster) == [1]


async def test_the_oldest_of_a_flow_make_room(cluster):
    await cluster.storage.rejections.add([rejection(1000, "quiet")])
    await cluster.storage.rejections.add([rejection(number) for number in range(60)])
    await cluster.storage.rejections.add([rejection(number) for number in range(60, 130)])
    assert await ids(cluster, flow_id="f") == list(range(129, 29, -1))
    assert await ids(cluster, flow_id="quiet") == [1000]


async def test_what_is_a_week_older_than_the_newest_goes(cluster):
    await cluster.storage.rejections.add([rejection(1), rejection(2, time_ms=2 * DAY_MS)])
    await cluster.storage.rejections.add([rejection(3, time_ms=8 * DAY_MS)])
    assert await ids(cluster) == [3, 2]


def refused(number, reason, flow_id="f"):
    return rejection(number, flow_id, time_ms=1000 + number)._replace(reason=reason, sealed=b"sealed %d" % number)


async def test_they_are_found_and_counted_by_reason(cluster):
    log = cluster.storage.rejections
    await log.add([refused(1, "A"), refused(2, "B"), refused(3, "A"), refused(4, "A", "g")])
    assert await ids(cluster, reason="A") == [4, 3, 1]
    assert await ids(cluster, flow_id="f", reason="A") == [3, 1]
    counts = [astuple(each) for each in await log.count(limit=2)]
    assert counts == [("f", "A", 2, 1001, 1003), ("f", "B", 1, 1002, 1002)]
    assert [each.flow_id for each in await log.count(flow_id="g", limit=9)] == ["g"]


async def test_the_request_of_one_that_was_accepted_is_deleted_and_the_first_acceptance_counts(cluster):
    log = cluster.storage.rejections
    await log.add([refused(1, "A"), refused(2, "A")])
    assert await log.sealed(rejection(1).id) == b"sealed 1"
    assert (await log.get(rejection(1).id)).sealed is None
    for event_id, now_ms in (("evt_1", 5000), ("evt_2", 6000)):
        await log.accepted(rejection(1).id, event_id, by=f"by {event_id}", now_ms=now_ms)
    found = await log.get(rejection(1).id)
    assert (found.accepted_id, found.accepted_by, found.accept_time_ms, found.reason) == (
        "evt_1",
        "by evt_1",
        5000,
        "A",
    )
    assert (await log.sealed(rejection(1).id), await log.sealed(rejection(2).id)) == (None, b"sealed 2")
    await log.accepted("rej_none", "evt_3", by="", now_ms=1)
