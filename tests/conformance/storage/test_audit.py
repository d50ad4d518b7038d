"""The audit log: numbered, listed newest first under conditions, and bounded."""

from __future__ import annotations

from flowhook.model.audit import AuditEntry
from router.storage import audit
from router.storage.audit import AuditFilter


def entry(target, *, actor="admin", action="FlowService/PauseFlow", error=""):
    return AuditEntry(0, 1000, actor, action, target, "because", error)


async def add(cluster, *entries):
    for each in entries:
        await cluster.storage.audit.add(each)


async def targets(cluster, *conditions, **page):
    found, following = await cluster.storage.audit.page(AuditFilter(*conditions), **page)
    return [each.target for each in found], following


async def test_entries_are_listed_newest_first_and_page_by_page(cluster):
    await add(cluster, entry("a"), entry("b"), entry("c"))
    assert await targets(cluster) == (["c", "b", "a"], None)
    found, following = await targets(cluster, limit=2)
    assert found == ["c", "b"]
    assert await targets(cluster, before_number=following, limit=2) == (["a"], None)


async def test_an_entry_is_stored_whole(cluster):
    await add(cluster, entry("orders", error="FLOW_NOT_FOUND")._replace(address="192.0.2.1"))
    (found,), _ = await cluster.storage.audit.page(AuditFilter())
    assert found == AuditEntry(
        1, 1000, "admin", "FlowService/PauseFlow", "orders", "because", "FLOW_NOT_FOUND", 1, 1000, "192.0.2.1"
    )


async def test_all_conditions_hold(cluster):
    await add(
        cluster,
        entry("orders"),
        entry("orders", actor="ann"),
        entry("orders", action="FlowService/ResumeFlow"),
        entry("payments"),
    )
    assert len((await targets(cluster, "admin"))[0]) == 3
    assert (await targets(cluster, "ann", "FlowService/PauseFlow", "order"))[0] == ["orders"]
    assert (await targets(cluster, "", "", "pay"))[0] == ["payments"]
    assert (await targets(cluster, "ann", "", "pay"))[0] == []


async def test_a_page_examines_a_bounded_number_of_entries(cluster, monkeypatch):
    monkeypatch.setattr(audit, "_FOUND", audit._FOUND.replace("LIMIT 10000", "LIMIT 2"))
    monkeypatch.setattr(audit, "_OLDEST_EXAMINED", audit._OLDEST_EXAMINED.replace("OFFSET 10000", "OFFSET 2"))
    await add(cluster, entry("wanted"), entry("a"), entry("b"), entry("c"))
    found, following = await targets(cluster, "", "", "wanted")
    assert (found, following) == ([], 3)
    assert await targets(cluster, "", "", "wanted", before_number=following) == (["wanted"], None)


async def test_the_oldest_make_room(cluster, monkeypatch):
    monkeypatch.setattr(audit, "MAX_ENTRIES", 2)
    await add(cluster, entry("a"), entry("b"), entry("c"))
    assert (await targets(cluster))[0] == ["c", "b"]


def refusal(target, time_ms=1000, *, reason="", **fields):
    return entry(target, error="FLOW_NOT_FOUND", **fields)._replace(time_ms=time_ms, reason=reason)


async def stored(cluster):
    found, _ = await cluster.storage.audit.page(AuditFilter())
    return [(each.target, each.calls, each.time_ms, each.last_time_ms) for each in found]


async def test_refusals_of_one_kind_are_one_entry_for_a_day(cluster):
    await add(cluster, refusal("a"), entry("done"), *(refusal("b", 1000 + number) for number in range(1, 50)))
    assert await stored(cluster) == [("done", 1, 1000, 1000), ("b", 50, 1000, 1049)]
    await cluster.restart()
    await add(cluster, refusal("c", 2000, reason="once more"))
    assert (await stored(cluster))[1] == ("c", 51, 1000, 2000)
    (found,), _ = await cluster.storage.audit.page(AuditFilter("", "", "c"))
    assert found.reason == "once more"
    await add(cluster, refusal("d", 1000 + audit.AGGREGATED_MS))
    assert [each[0] for each in await stored(cluster)] == ["d", "done", "c"]


async def test_refusals_of_other_kinds_are_entries_of_their_own(cluster):
    others = (refusal("b", actor="ann"), refusal("c", action="FlowService/ResumeFlow"), entry("d", error="CONFLICT"))
    await add(cluster, refusal("a"), *others, entry("e"), entry("f"))
    assert [each[:2] for each in await stored(cluster)] == [(name, 1) for name in "fedcba"]


async def test_refusals_do_not_push_out_what_was_done(cluster, monkeypatch):
    monkeypatch.setattr(audit, "MAX_ENTRIES", 3)
    await add(cluster, entry("done"), *(refusal("again", 1000 + number) for number in range(20)))
    assert [each[0] for each in await stored(cluster)] == ["again", "done"]
    await add(cluster, *(entry(name) for name in "xyz"), refusal("again", 2000))  # its entry made room
    assert [each[:2] for each in await stored(cluster)] == [("again", 1), ("z", 1), ("y", 1)]
