"""Flows and secrets."""

import asyncio
import dataclasses

import pytest

from flowhook.errors import ExhaustedError, OutOfRangeError
from flowhook.model import Change, Flow, FlowRevision
from flowhook.model.flows import SecretInfo
from router.storage.limits import StorageLimits
from router.storage.registry import RegistryChange


async def apply(cluster, *drafts, now_ms=1_000):
    return await cluster.registry.apply_flows(drafts, now_ms=now_ms)


async def test_a_new_flow_has_revision_one(cluster, draft):
    [(flow, change)] = await apply(cluster, draft("shop", b"doc", b"{}"))
    assert change == Change.CREATED
    assert flow == Flow("shop", b"doc", b"{}", 1, False, True, 1_000, 1_000)
    await cluster.restart()
    assert await cluster.registry.get_flow("shop") == flow


async def test_the_same_document_and_definition_change_nothing(cluster, draft):
    [(first, _)] = await apply(cluster, draft())
    [(second, change)] = await apply(cluster, draft(), now_ms=2_000)
    assert (second, change) == (first, Change.UNCHANGED)
    assert await cluster.registry.revision() == 1


@pytest.mark.parametrize("fields", [{"document": b"# comment"}, {"definition": b'{"do":[1]}'}])
async def test_another_document_or_definition_makes_a_revision(cluster, draft, fields):
    await apply(cluster, draft())
    [(flow, change)] = await apply(cluster, draft(**fields), now_ms=2_000)
    assert (flow.revision, change) == (2, Change.UPDATED)
    assert (flow.create_time_ms, flow.update_time_ms) == (1_000, 2_000)
    assert await cluster.registry.get_flow("shop") == flow


async def test_former_revisions_stay_readable(cluster, draft):
    await apply(cluster, draft("shop", b"one", has_webhook=True))
    await apply(cluster, draft("shop", b"two", has_webhook=False), now_ms=2_000)
    former = await cluster.registry.get_flow("shop", revision=1)
    assert (former.document, former.revision, former.has_webhook, former.update_time_ms) == (b"one", 1, True, 1_000)
    assert await cluster.registry.get_flow("shop", revision=3) is None


async def test_a_version_of_the_document_finds_its_latest_revision(cluster, draft):
    def of(version, document):
        return draft("shop", document, b'{"document":{"version":"%s"}}' % version)

    await apply(cluster, of(b"1.0.0", b"a"))
    await apply(cluster, of(b"1.0.0", b"b"))
    await apply(cluster, of(b"2.0.0", b"c"), draft("other", b"d", b'{"document":{"version":"3.0.0"}}'), draft("odd"))
    find = cluster.registry.find_revision
    assert [await find("shop", version=version) for version in ("1.0.0", "2.0.0", "3.0.0")] == [2, 3, None]
    assert [await find(flow_id, version="1.0.0") for flow_id in ("odd", "unknown")] == [None, None]
    await cluster.registry.delete_flow("shop")
    assert await find("shop", version="1.0.0") is None
    await apply(cluster, of(b"2.0.0", b"e"), now_ms=2_000)
    assert [await find("shop", version=version) for version in ("1.0.0", "2.0.0")] == [None, 4]


async def test_the_revisions_of_a_flow_are_listed_in_pages_the_newest_first(cluster, draft):
    def of(version):
        return draft("shop", version, b'{"document":{"version":"%s"}}' % version)

    for now_ms, version in ((1_000, b"1.0.0"), (2_000, b"1.1.0"), (3_000, b"2.0.0")):
        await apply(cluster, of(version), now_ms=now_ms)
    await apply(cluster, draft("other"), draft("odd", b"x", b"{}"))
    revisions = cluster.registry.list_revisions
    first = await revisions("shop", limit=2)
    second = await revisions("shop", before=2, limit=2)
    assert first == [FlowRevision(3, "2.0.0", 3_000), FlowRevision(2, "1.1.0", 2_000)]
    assert second == [FlowRevision(1, "1.0.0", 1_000)]
    assert [revision.version for revision in await revisions("odd")] == [""]
    assert await revisions("unknown") == []
    await cluster.registry.delete_flow("shop")
    assert await revisions("shop") == []


async def test_of_some_ids_those_are_told_that_are_of_flows(cluster, draft):
    await cluster.registry.apply_flows([draft("a"), draft("b"), draft("c")], now_ms=1)
    await cluster.registry.delete_flow("b")
    many = [f"made-up-{number}" for number in range(300)]
    assert sorted(await cluster.registry.existing_flows(["c", "b", "a", "a", *many])) == ["a", "c"]
    assert await cluster.registry.existing_flows([]) == []


async def test_of_some_ids_the_latest_revisions_are_read_at_once(cluster, draft):
    await cluster.registry.apply_flows([draft("a"), draft("b"), draft("c")], now_ms=1)
    await cluster.registry.apply_flows([draft("a", b"do: [{}]")], now_ms=2)
    await cluster.registry.delete_flow("b")
    many = [f"made-up-{number}" for number in range(300)]
    found = await cluster.registry.get_flows(["c", "b", "a", "a", *many])
    expected = [await cluster.registry.get_flow(flow_id) for flow_id in "ac"]
    assert sorted(found, key=lambda flow: flow.id) == [dataclasses.replace(flow, document=b"") for flow in expected]
    assert await cluster.registry.get_flows([]) == []


async def test_flows_are_listed_by_id_without_documents_in_pages(cluster, draft):
    await apply(cluster, draft("b", b"doc", b"{}"), draft("c"), draft("a"))
    first = await cluster.registry.list_flows(limit=2)
    second = await cluster.registry.list_flows(after_id="b", limit=2)
    assert [flow.id for flow in first + second] == ["a", "b", "c"]
    assert (first[1].document, first[1].definition) == (b"", b"{}")


async def test_flows_that_react_are_listed_apart_by_what_their_latest_revision_says(cluster, draft):
    drafts = [draft(flow_id, reacts=flow_id != "b") for flow_id in ("a", "b", "c", "d", "e")]
    await apply(cluster, *drafts)
    await apply(cluster, draft("b", b"two", reacts=True), draft("c", b"two", reacts=False))
    await cluster.registry.delete_flow("d")
    await cluster.restart()
    first = await cluster.registry.list_flows(reacting=True, limit=1)
    second = await cluster.registry.list_flows(reacting=True, after_id="a")
    assert [(flow.id, flow.definition) for flow in first + second] == [(name, b'{"do":[]}') for name in "abe"]
    assert [flow.id for flow in await cluster.registry.list_flows()] == ["a", "b", "c", "e"]


async def test_pausing_makes_no_revision_of_the_flow_but_one_of_the_registry(cluster, draft):
    await apply(cluster, draft())
    paused = await cluster.registry.set_paused("shop", paused=True)
    assert (paused.paused, paused.revision) == (True, 1)
    assert await cluster.registry.revision() == 2
    assert await cluster.registry.set_paused("shop", paused=True) == paused
    assert await cluster.registry.revision() == 2
    assert (await cluster.registry.set_paused("shop", paused=False)).paused is False
    assert await cluster.registry.set_paused("unknown", paused=True) is None


async def test_a_paused_flow_stays_paused_over_revisions(cluster, draft):
    await apply(cluster, draft())
    await cluster.registry.set_paused("shop", paused=True)
    [(flow, _)] = await apply(cluster, draft(document=b"new"))
    assert flow.paused


async def test_a_deleted_flow_is_gone_but_for_the_executions_that_run_it(cluster, draft, new_event):
    await apply(cluster, draft())
    await cluster.append(new_event())
    assert await cluster.registry.delete_flow("shop") is True
    assert await cluster.registry.get_flow("shop") is None
    assert await cluster.registry.list_flows() == []
    assert (await cluster.registry.get_flow("shop", revision=1)).document == b"do: []"
    assert await cluster.registry.delete_flow("shop") is False
    assert await cluster.registry.set_paused("shop", paused=True) is None


async def test_a_deleted_flow_that_comes_back_counts_on_from_the_revisions_that_are_kept(cluster, draft, new_event):
    await apply(cluster, draft())
    await cluster.registry.set_paused("shop", paused=True)
    await cluster.append(new_event())
    await cluster.registry.delete_flow("shop")
    [(flow, change)] = await apply(cluster, draft(document=b"new"), now_ms=5_000)
    assert (flow.revision, change, flow.create_time_ms, flow.paused) == (2, Change.CREATED, 5_000, False)
    assert (await cluster.registry.get_flow("shop", revision=1)).document == b"do: []"


async def test_a_deleted_flow_without_executions_leaves_the_number_of_its_revision(cluster, draft):
    await apply(cluster, draft())
    await cluster.registry.delete_flow("shop")
    # an event that is being accepted may still be pinned to it
    assert (await cluster.registry.get_flow("shop", revision=1)).document == b"do: []"
    await cluster.state.expire(ended_before_ms=2**46)
    assert await cluster.registry.get_flow("shop", revision=1) is None
    [(flow, change)] = await apply(cluster, draft(document=b"new"))
    assert (flow.revision, change) == (2, Change.CREATED)


async def test_secrets_come_back_as_they_were_sealed(cluster):
    assert await cluster.registry.set_secret("bank", b"\x00sealed", now_ms=1_000) == SecretInfo("bank", 1_000)
    await cluster.registry.set_secret("blog", b"other", now_ms=1_500)
    await cluster.registry.set_secret("bank", b"new", now_ms=2_000)
    await cluster.restart()
    assert await cluster.registry.get_secrets(["bank", "unknown"]) == {"bank": b"new"}
    assert await cluster.registry.get_secrets([]) == {}
    assert await cluster.registry.list_secrets() == [SecretInfo("bank", 2_000), SecretInfo("blog", 1_500)]
    assert await cluster.registry.delete_secret("bank") is True
    assert await cluster.registry.delete_secret("bank") is False
    assert await cluster.registry.get_secrets(["bank"]) == {}


async def test_one_secret_too_many_is_refused_while_those_there_can_be_replaced(cluster):
    await cluster.restart(StorageLimits(secrets=2))
    for name in ("a", "b"):
        await cluster.registry.set_secret(name, b"sealed", now_ms=1)
    with pytest.raises(ExhaustedError) as raised:
        await cluster.registry.set_secret("c", b"sealed", now_ms=1)
    assert raised.value.reason == "TOO_MANY_SECRETS"
    await cluster.registry.set_secret("a", b"new", now_ms=2)
    assert [secret.name for secret in await cluster.registry.list_secrets()] == ["a", "b"]
    assert await cluster.registry.revision() == 3


async def test_every_change_is_told_once_by_ascending_revision(cluster, draft):
    await apply(cluster, draft("a"), draft("b"))
    await cluster.registry.set_secret("s", b"sealed", now_ms=1)
    await cluster.registry.set_paused("a", paused=True)
    await cluster.registry.delete_flow("b")
    await cluster.registry.delete_secret("s")
    expected = [("a", ""), ("b", ""), ("", "s"), ("a", ""), ("b", ""), ("", "s")]
    await cluster.restart()
    changes = await cluster.registry.changes(after_revision=0)
    assert changes == [RegistryChange(number, *change) for number, change in enumerate(expected, start=1)]
    assert await cluster.registry.changes(after_revision=4, limit=1) == changes[4:5]
    assert await cluster.registry.changes(after_revision=6) == []
    assert await cluster.registry.revision() == 6


async def test_changes_that_are_no_longer_kept_are_told_as_such(cluster, draft):
    kept = 10_000
    for start in range(0, kept + 20, 500):
        drafts = [draft(f"flow-{number}", b"d") for number in range(start, start + 500)]
        await apply(cluster, *drafts)
    latest = await cluster.registry.revision()
    assert len(await cluster.registry.changes(after_revision=latest - kept, limit=2 * kept)) == kept
    with pytest.raises(OutOfRangeError) as raised:
        await cluster.registry.changes(after_revision=latest - kept - 1)
    assert raised.value.reason == "REVISION_COMPACTED"
    assert raised.value.metadata == {"revision": str(latest)}


async def test_followers_are_told_the_latest_revision_before_the_change_returns(cluster, draft):
    told = []
    cluster.registry.follow(told.append)
    await apply(cluster, draft())
    assert told == [1]
    await apply(cluster, draft())
    await cluster.registry.set_secret("s", b"sealed", now_ms=1)
    assert told == [1, 2]
    await asyncio.gather(*(cluster.registry.set_secret(f"s{number}", b"x", now_ms=1) for number in range(5)))
    assert told == sorted(told)
    assert told[-1] == 7


async def test_a_revision_is_never_used_again(cluster, draft):
    await apply(cluster, draft())
    await cluster.registry.delete_flow("shop")
    await cluster.restart()
    told = []
    cluster.registry.follow(told.append)
    await apply(cluster, draft())
    assert told == [3]
