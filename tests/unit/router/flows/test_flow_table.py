"""The flow table: never older than what was committed before, whoever changed it, and bounded."""

from __future__ import annotations

import asyncio

import pytest
from support.patience import until

from flowhook.document.loader import canonical, parse
from flowhook.errors import InternalError, UnavailableError
from router.flows.event_triggers import FlowTriggers, parse_triggers
from router.flows.flow_table import FlowTable
from router.flows.schedules import EverySpec
from router.scheduling.queues import FlowPolicy
from router.storage.limits import StorageLimits
from router.storage.registry import FlowDraft
from router.storage.storage import open_storage


class Policies:
    """Keeps the policies that are in force."""

    def __init__(self):
        self.now = {}

    def set_policy(self, flow_id, policy):
        self.now[flow_id] = policy

    def retire(self, flow_id):
        if flow_id in self.now:
            self.now[flow_id] = FlowPolicy(self.now[flow_id].concurrency, retired=True)


class Reacting:
    """Keeps what flows react to."""

    def __init__(self):
        self.now = {}

    def react(self, flow, reactions):
        self.now[flow.id] = reactions

    def remove(self, flow_id):
        self.now.pop(flow_id, None)


class HoldableRegistry:
    """A registry whose reads of a flow can be held, after they were made, or refused."""

    def __init__(self, registry):
        self._registry = registry
        self.hold = None
        self.reached = asyncio.Event()
        self.away = False

    def __getattr__(self, name):
        return getattr(self._registry, name)

    async def get_flow(self, flow_id, *, revision=0):
        if self.away:
            raise UnavailableError("away")
        flow = await self._registry.get_flow(flow_id, revision=revision)
        hold, self.hold = self.hold, None
        if hold is not None:
            self.reached.set()
            await hold.wait()
        return flow


@pytest.fixture
async def open_registry(tmp_path):
    """Open a registry with limits of one's own."""
    opened = []

    async def open_registry(**limits):
        opened.append(await open_storage(tmp_path / "flowhook.db", limits=StorageLimits(**limits)))
        return HoldableRegistry(opened[-1].registry)

    yield open_registry
    for each in opened:
        await each.close()


@pytest.fixture
async def registry(open_registry):
    return await open_registry()


@pytest.fixture
def policies():
    return Policies()


@pytest.fixture
async def now():
    return [0.0]


@pytest.fixture
async def table(registry, policies, now):
    table = FlowTable(registry, policies=policies, clock=lambda: now[0], max_flows=3, retry_seconds=0.01)
    await table.start({})
    following = asyncio.create_task(table.follow())
    yield table
    following.cancel()


async def apply(registry, name="shop", extra=""):
    source = f"""
document: {{dsl: 1.0.3, namespace: default, name: {name}, version: 1.0.0}}
do: [{{keep: {{set: {{a: 1}}}}}}]
{extra}
"""
    document = parse(source.encode())
    has_webhook, reacts = document.webhook is not None, bool(parse_triggers(document.definition))
    draft = FlowDraft(document.id, source.encode(), canonical(document.definition), has_webhook, reacts)
    return await registry.apply_flows([draft], now_ms=1)


async def test_a_flow_is_loaded_when_first_requested(table, registry, policies):
    assert table.known("shop") is None
    assert await table.load("shop") is None
    await apply(registry, extra="execution: {concurrency: 3, max_backlog: 7}")
    entry = await table.load("shop")
    assert (entry.revision, entry.max_backlog) == (1, 7)
    assert table.known("shop") is entry
    assert policies.now["shop"] == FlowPolicy(concurrency=3)


async def test_a_change_is_in_force_after_catching_up(table, registry, policies):
    await apply(registry)
    await table.load("shop")
    await apply(registry, extra="execution: {concurrency: 2}")
    await registry.set_paused("shop", paused=True)
    await table.catch_up()
    assert table.known("shop").revision == 2
    assert policies.now["shop"] == FlowPolicy(concurrency=2, paused=True)


async def test_a_change_is_put_in_force_although_its_caller_went_away(table, registry, policies):
    await apply(registry)
    await table.load("shop")
    await registry.set_paused("shop", paused=True)  # and nobody catches up
    await until(lambda: policies.now["shop"].paused)


async def test_a_change_is_put_in_force_although_it_could_not_be_read_at_once(table, registry, policies):
    await apply(registry)
    await table.load("shop")
    registry.away = True
    await registry.set_paused("shop", paused=True)
    with pytest.raises(UnavailableError):
        await table.catch_up()
    registry.away = False
    await until(lambda: policies.now["shop"].paused)


async def test_more_changes_than_are_retained_are_put_in_force_all_the_same(open_registry, policies):
    registry = await open_registry(registry_changes=3)
    table, reacting = FlowTable(registry, policies=policies, clock=lambda: 0.0), Reacting()
    await apply(registry, "timed", "schedule: {every: {seconds: 5}}")
    await table.start({}, [reacting])
    assert list(reacting.now) == ["timed"]
    for name in ("paused", "gone"):
        await apply(registry, name)
        await table.load(name)
    await registry.set_paused("paused", paused=True)
    for flow_id in ("gone", "timed"):
        await registry.delete_flow(flow_id)
    for number in range(4):
        await apply(registry, f"other{number}")
    await table.catch_up()
    assert policies.now["paused"] == FlowPolicy(paused=True)
    assert policies.now["gone"].retired
    assert (table.known("gone"), "timed" in reacting.now) == (None, False)
    assert await table.load("other3") is table.known("other3") is not None


@pytest.mark.parametrize("readable", [True, False])
async def test_a_paused_flow_that_nobody_remembers_does_not_stay_paused_when_it_is_deleted(
    open_registry, policies, readable
):
    registry = await open_registry(registry_changes=3)
    table = FlowTable(registry, policies=policies, clock=lambda: 0.0, max_flows=1)
    await table.start({})
    if readable:
        await apply(registry)
    else:
        await registry.apply_flows([FlowDraft("shop", b"x", b'{"document": 1}', has_webhook=False)], now_ms=1)
    await registry.set_paused("shop", paused=True)
    await table.catch_up()
    await apply(registry, "other")
    await table.load("other")
    assert (table.known("shop"), policies.now["shop"].paused) == (None, True)
    await registry.delete_flow("shop")
    for number in range(4):
        await apply(registry, f"other{number}")
    await table.catch_up()
    assert policies.now["shop"] == FlowPolicy(retired=True)


async def test_callbacks_have_limits_of_their_own_which_last_as_long_as_the_revision(table, registry, now):
    callbacks = "slow: {auth: none, rate_limit: {per_second: 0.1}}, raw: {auth: none, parse: raw}"
    webhook = f"webhook: {{auth: none, callbacks: {{{callbacks}}}}}"
    await apply(registry, extra=webhook)
    callbacks = (await table.load("shop")).callbacks
    assert [(name, each.bucket is None, each.raw) for name, each in sorted(callbacks.items())] == [
        ("raw", True, True),
        ("slow", False, False),
    ]
    assert callbacks["slow"].bucket.take(now[0]) == 0
    await registry.set_paused("shop", paused=True)
    await table.catch_up()
    assert table.known("shop").callbacks["slow"].bucket.take(now[0]) > 0
    await apply(registry, extra=webhook + "\n# changed")
    await table.catch_up()
    assert table.known("shop").callbacks["slow"].bucket.take(now[0]) == 0


async def test_an_earlier_read_that_ends_late_does_not_bring_back_what_was(table, registry, policies):
    await apply(registry)
    registry.hold = gate = asyncio.Event()
    loading = asyncio.create_task(table.load("shop"))
    await registry.reached.wait()
    await registry.set_paused("shop", paused=True)
    catching_up = asyncio.create_task(table.catch_up())
    gate.set()
    await asyncio.gather(loading, catching_up)
    assert policies.now["shop"].paused


async def test_a_deleted_flow_is_gone_and_its_limits_hold_for_what_it_left(table, registry, policies):
    await apply(registry, extra="execution: {concurrency: 2}")
    await table.load("shop")
    await registry.set_paused("shop", paused=True)
    await registry.delete_flow("shop")
    await table.catch_up()
    assert table.known("shop") is None
    assert await table.load("shop") is None
    assert policies.now["shop"] == FlowPolicy(concurrency=2, retired=True)
    await apply(registry)
    await table.catch_up()
    assert (await table.load("shop")).revision == 2
    assert policies.now["shop"] == FlowPolicy()


async def test_what_a_deleted_flow_left_keeps_its_limits_over_a_restart(registry, policies):
    await apply(registry, extra="execution: {concurrency: 2}")
    await registry.delete_flow("shop")
    await FlowTable(registry, policies=policies, clock=lambda: 0.0).start({"shop": 1, "never-there": 1})
    assert policies.now["shop"] == FlowPolicy(concurrency=2, retired=True)


async def test_a_flow_that_can_not_be_read_troubles_no_other(table, registry, policies):
    await registry.apply_flows([FlowDraft("odd", b"x", b'{"document": 1}', has_webhook=False)], now_ms=1)
    await apply(registry)
    await table.catch_up()
    assert (await table.load("shop")).revision == 1
    with pytest.raises(InternalError) as caught:
        await table.load("odd")
    assert caught.value.reason == "FLOW_UNREADABLE"
    await registry.set_paused("odd", paused=True)
    await table.catch_up()
    assert policies.now["odd"].paused
    await FlowTable(registry, policies=policies, clock=lambda: 0.0).start({"odd": 1, "shop": 1})


async def test_what_flows_react_to_is_distinguished_from_the_start_on_and_whenever_it_changes(registry, policies):
    for number in range(5):
        await apply(registry, f"tick-{number}", "schedule: {every: PT5S}")
    await apply(registry, "still")
    odd = FlowDraft("odd", b"x", b'{"schedule": {"every": 1}}', has_webhook=False, reacts=True)
    await registry.apply_flows([odd], now_ms=1)
    reacting = Reacting()
    table = FlowTable(registry, policies=policies, clock=lambda: 0.0, page=2)
    await table.start({}, [reacting])
    assert reacting.now == {f"tick-{number}": FlowTriggers(EverySpec(5000)) for number in range(5)}
    await apply(registry, "tick-0", "schedule: {every: PT6S}")
    await apply(registry, "tick-1")
    await registry.delete_flow("tick-2")
    await table.catch_up()
    assert [reacting.now.get(f"tick-{number}") for number in range(3)] == [
        FlowTriggers(EverySpec(6000)),
        FlowTriggers(),
        None,
    ]


async def test_the_table_is_bounded(table, registry):
    for number in range(5):
        await apply(registry, f"flow-{number}")
        await table.load(f"flow-{number}")
    assert [table.known(f"flow-{number}") is not None for number in range(5)] == [False, False, True, True, True]
    assert await table.load("flow-0") is not None


async def test_pausing_does_not_refill_a_rate_limit_and_a_new_revision_does(table, registry, now):
    limit = "webhook: {auth: none, rate_limit: {per_second: 1, burst: 1}}"
    await apply(registry, extra=limit)
    bucket = (await table.load("shop")).bucket
    assert bucket.take(now[0]) == 0
    await registry.set_paused("shop", paused=True)
    await table.catch_up()
    assert table.known("shop").bucket is bucket
    await apply(registry, extra=limit.replace("burst: 1", "burst: 2"))
    await table.catch_up()
    assert table.known("shop").bucket.take(now[0]) == 0


ON_EVENTS = "use: {secrets: [chat]}\nschedule: {on: {one: {with: {type: t}}}}"


async def test_a_flow_that_events_start_is_held_while_a_secret_of_its_tasks_is_not_set(registry, table, policies):
    await apply(registry, "alerts", ON_EVENTS)
    await apply(registry, "hook", "use: {secrets: [chat]}\nwebhook: {auth: none}")
    await table.catch_up()
    assert policies.now["alerts"].paused
    assert table.lacking == {"alerts"}
    assert not policies.now["hook"].paused  # whoever sets it up sees the fault
    await registry.set_secret("other", b"x", now_ms=1)
    await table.catch_up()
    assert policies.now["alerts"].paused
    await registry.set_secret("chat", b"x", now_ms=1)
    await table.catch_up()
    assert not policies.now["alerts"].paused
    assert table.lacking == set()
    await registry.delete_secret("chat")
    await table.catch_up()
    assert policies.now["alerts"].paused


async def test_a_flow_that_is_held_for_a_secret_is_held_after_a_restart_and_paused_for_itself(registry, policies):
    await apply(registry, "alerts", ON_EVENTS)
    await registry.set_paused("alerts", paused=True)
    table = FlowTable(registry, policies=policies, clock=lambda: 0.0)
    await table.start({}, [Reacting()])
    assert policies.now["alerts"].paused
    assert table.lacking == {"alerts"}
    await registry.set_secret("chat", b"x", now_ms=1)
    await table.catch_up()
    assert policies.now["alerts"].paused
    assert table.lacking == set()
    await registry.set_paused("alerts", paused=False)
    await table.catch_up()
    assert not policies.now["alerts"].paused
