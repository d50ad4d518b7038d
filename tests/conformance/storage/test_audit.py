"""The audit log: numbered, listed newest first under conditions, and bounded."""

from __future__ import annotations

from flowhook.audit_entry import AuditEntry
from router.storage.model import AuditFilter
from router.storage.sqlite import audit


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
    await add(cluster, entry("orders", error="FLOW_NOT_FOUND"))
    (found,), _ = await cluster.storage.audit.page(AuditFilter())
    assert found == AuditEntry(1, 1000, "admin", "FlowService/PauseFlow", "orders", "because", "FLOW_NOT_FOUND")


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
