"""When secrets last verified a request."""

from __future__ import annotations

import pytest

from flowhook.document.loader import canonical, parse
from flowhook.errors import OutOfRangeError, UnavailableError
from router.secrets.flow_secrets import SecretMatches, SecretNames
from router.storage.limits import StorageLimits
from router.storage.registry import FlowDraft
from router.storage.storage import open_storage


def test_the_last_match_of_each_pair_is_noted():
    matches = SecretMatches(5)
    for flow, secret, now in (("a", "x", 10), ("a", "y", 20), ("b", "x", 30), ("a", "x", 40)):
        matches.note(flow, secret, now)
    assert [matches.last(*pair) for pair in (("a", "x"), ("a", "y"), ("b", "x"), ("b", "y"))] == [40, 20, 30, None]
    assert matches.since_ms == 5


def test_the_number_of_pairs_is_bounded():
    matches = SecretMatches(0, max_pairs=2)
    for number in range(4):
        matches.note("a", f"s{number}", number + 1)
    assert [matches.last("a", f"s{number}") for number in range(4)] == [None, None, 3, 4]


def test_names_that_no_secret_has_are_not_noted():
    matches = SecretMatches(0)
    matches.note("a", "", 1)
    matches.note("a", "x" * 128, 1)
    assert matches.last("a", "") is None
    assert matches.last("a", "x" * 128) is None


class CountingRegistry:
    """A registry that notes which flows are read."""

    def __init__(self, registry):
        self._registry = registry
        self.read = []
        self.fails = False

    async def list_flows(self, **arguments):
        if self.fails and arguments.get("after_id"):
            raise UnavailableError("storage is closed", reason="STORAGE_UNAVAILABLE")
        flows = await self._registry.list_flows(**arguments)
        self.read += [flow.id for flow in flows]
        return flows

    async def get_flows(self, flow_ids):
        self.read += flow_ids
        return await self._registry.get_flows(flow_ids)

    def __getattr__(self, name):
        return getattr(self._registry, name)

    def reads(self):
        """Return the flows that were read since the last call."""
        read, self.read = self.read, []
        return read


@pytest.fixture
async def registry(tmp_path):
    storage = await open_storage(tmp_path / "flowhook.db", limits=StorageLimits(registry_changes=10))
    yield CountingRegistry(storage.registry)
    await storage.close()


async def apply(registry, name, *secrets):
    named = f"webhook: {{auth: {{api_key: {{header: x, secrets: [{', '.join(secrets)}]}}}}}}\n" if secrets else ""
    source = f"document: {{dsl: 1.0.3, namespace: default, name: {name}, version: 1.0.0}}\n{named}do: []\n"
    document = parse(source.encode())
    draft = FlowDraft(document.id, source.encode(), canonical(document.definition), bool(secrets))
    [(flow, _)] = await registry.apply_flows([draft], now_ms=1)
    return await registry.get_flow(flow.id)


async def named(index):
    """Return the secrets that each flow names, as both directions of the index have them."""
    users = await index.users()
    found = {flow_id: sorted(index.known(flow_id).all) for flow_ids in users.values() for flow_id in flow_ids}
    assert {name: {each for each in found if name in found[each]} for name in users} == users
    return found


async def test_flows_are_read_once_and_then_only_those_that_changed(registry):
    index = SecretNames(registry)
    for name in ("one", "two", "none"):
        await apply(registry, name, *([f"of-{name}", "shared"] if name != "none" else []))
    registry.reads()
    expected = {"one": ["of-one", "shared"], "two": ["of-two", "shared"]}
    assert await named(index) == expected
    assert sorted(registry.reads()) == ["none", "one", "two"]
    assert await named(index) == expected
    assert registry.reads() == []
    await apply(registry, "two", "other")
    await apply(registry, "three", "shared")
    await registry.delete_flow("one")
    registry.reads()
    assert await named(index) == {"two": ["other"], "three": ["shared"]}
    assert sorted(registry.reads()) == ["one", "three", "two"]


async def test_after_more_changes_than_the_registry_stores_all_flows_are_read_again(registry):
    index = SecretNames(registry)
    await apply(registry, "gone", "a")
    await named(index)
    await registry.delete_flow("gone")
    for number in range(25):
        await apply(registry, f"f{number}", "b")
    with pytest.raises(OutOfRangeError):
        await registry.changes(after_revision=2)
    assert await named(index) == {f"f{number}": ["b"] for number in range(25)}


async def test_reading_all_flows_continues_after_an_error(registry):
    index = SecretNames(registry)
    await apply(registry, "one", "a")
    registry.fails = True
    with pytest.raises(UnavailableError):
        await index.users()
    registry.fails = False
    assert await named(index) == {"one": ["a"]}


async def test_what_was_read_before_a_change_does_not_replace_it(registry):
    index = SecretNames(registry)
    old, doomed = await apply(registry, "one", "old"), await apply(registry, "two", "a")
    assert (await index.of(old)).all == {"old"}
    await apply(registry, "one", "new")
    await registry.delete_flow("two")
    assert await named(index) == {"one": ["new"]}
    assert ((await index.of(old)).all, (await index.of(doomed)).all) == ({"old"}, {"a"})
    assert await named(index) == {"one": ["new"]}


async def test_a_new_flow_is_found_before_all_are_requested_again(registry):
    index = SecretNames(registry)
    assert await named(index) == {}
    flow = await apply(registry, "one", "a")
    assert (await index.of(flow)).all == {"a"}
    registry.reads()
    assert await named(index) == {"one": ["a"]}
    assert registry.reads() == []
