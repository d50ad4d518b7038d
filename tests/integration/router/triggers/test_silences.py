"""Flows that get no event for longer than they expect: each silence is published once when it begins, and once when it
ends, whatever happens to the router and to the flow in between.
"""

from __future__ import annotations

import asyncio

import orjson
import pytest
from support.triggers import NOON, triggers

from flowhook.errors import UnavailableError
from flowhook.events.workflow_input import rfc3339
from flowhook.model.executions import LinkKind
from router.flows.schedules import DueRun
from router.storage.model import Cause
from router.storage.silences import SilenceLog
from router.triggers.cron_scheduler import run_id
from router.triggers.event_publisher import EventPublisher
from router.triggers.silence_watch import GRACE_MS

HOUR = 3_600_000
MINUTE = 60_000
BEGAN, ENDED = "flowhook.silence.began", "flowhook.silence.ended"
LISTENS = f"{{read: envelope, on: {{any: [{{with: {{type: {BEGAN}}}}}, {{with: {{type: {ENDED}}}}}]}}}}"
EXPECTS = "webhook: {auth: none, expect: {every: PT1H}}"


@pytest.fixture
async def router(tmp_path):
    async with triggers(tmp_path) as router:
        await router.apply("alerts", LISTENS)
        yield router


async def told(router, at_ms):
    return [(each["type"], each["subject"]) for each in await router.look(at_ms)]


async def test_it_begins_when_the_last_event_is_too_long_ago_and_ends_with_the_next_one(router):
    await router.apply("shop", "", rest=EXPECTS)
    assert await router.look(NOON + MINUTE) == []
    await router.shard.append("shop", at_ms=NOON + 10 * MINUTE)
    assert await router.look(NOON + HOUR + 9 * MINUTE) == []
    assert router.silence_watch.silent_since("shop") is None
    [began] = await router.look(NOON + HOUR + 10 * MINUTE)
    assert began["type"] == BEGAN
    assert (began["source"], began["subject"]) == ("/flows/shop", "shop")
    assert began["data"] == {
        "flow": "shop",
        "silentSince": rfc3339(NOON + 10 * MINUTE),
        "beganAt": rfc3339(NOON + HOUR + 10 * MINUTE),
    }
    assert router.silence_watch.silent_since("shop") == NOON + 10 * MINUTE
    assert len(router.silence_watch) == 1
    assert await router.look(NOON + 9 * HOUR) == await router.look(NOON + 99 * HOUR) == []  # once per silence
    await router.shard.append("shop", at_ms=NOON + 99 * HOUR)
    [ended] = await router.look(NOON + 99 * HOUR + 1)
    assert ended["type"] == ENDED
    assert ended["data"] == began["data"] | {"endedAt": rfc3339(NOON + 99 * HOUR)}
    assert router.silence_watch.silent_since("shop") is None
    assert await told(router, NOON + 100 * HOUR) == [(BEGAN, "shop")]


async def test_an_event_ends_a_silence_also_if_it_is_looked_at_when_the_next_one_is_due(router):
    await router.apply("shop", "", rest=EXPECTS)
    assert await told(router, NOON + HOUR) == [(BEGAN, "shop")]
    await router.shard.append("shop", at_ms=NOON + HOUR + 1)
    assert await told(router, NOON + 9 * HOUR) == [(ENDED, "shop")]
    assert await told(router, NOON + 9 * HOUR + 1) == [(BEGAN, "shop")]


async def test_a_flow_that_never_got_an_event_is_silent_since_it_was_applied(router):
    await router.apply("shop", "", rest=EXPECTS, at_ms=NOON + MINUTE)
    assert await router.look(NOON + HOUR) == []
    [began] = await router.look(NOON + HOUR + MINUTE)
    assert began["data"]["silentSince"] == rfc3339(NOON + MINUTE)


async def test_only_what_was_sent_ends_a_silence(router):
    await router.apply("shop", "", rest=EXPECTS)
    [sent] = await router.shard.append("shop", at_ms=NOON)
    assert await told(router, NOON + HOUR) == [(BEGAN, "shop")]
    original = (await router.shard.state.records([sent]))[sent].id
    later = NOON + 2 * HOUR
    await router.shard.append("shop", at_ms=later, replay_of=original, replay_root=original)
    await router.shard.append("shop", at_ms=later, quiet=True)
    await router.shard.append("shop", at_ms=later, causes=(Cause(original, LinkKind.RUN),))
    awaited = router.shard.host.parts.awaited
    assert (awaited.flows, awaited.take()) == ({"shop"}, set())  # so no time is spent on looking for the last event
    assert await router.look(later) == []
    await router.shard.append("shop", at_ms=later, causes=(Cause(original, LinkKind.LISTEN),))  # it received an event
    assert await told(router, later) == [(ENDED, "shop")]
    await router.apply("both", "{every: PT10M}", rest=EXPECTS)
    assert [each.flow_id for each in await router.executions() if each.flow_id == "both"] == []
    for number in range(1, 7):
        await router.turn(NOON + number * 10 * MINUTE)
    assert {run_id(DueRun("both", NOON + HOUR))} <= {each.id for each in await router.executions()}
    assert await told(router, NOON + HOUR) == [(BEGAN, "both")]


async def test_what_an_operator_accepts_later_counts_as_of_its_own_time(router):
    await router.apply("shop", "", rest=EXPECTS)
    await router.shard.append("shop", at_ms=NOON + HOUR)
    await router.shard.append("shop", at_ms=NOON + MINUTE)
    assert await router.look(NOON + HOUR + 30 * MINUTE) == []
    assert await told(router, NOON + 2 * HOUR) == [(BEGAN, "shop")]


async def test_a_flow_that_expects_events_from_now_on_is_judged_by_the_last_one(router):
    await router.apply("shop", "")
    await router.shard.append("shop", at_ms=NOON)
    await router.apply("shop", "", rest=EXPECTS, at_ms=NOON + 3 * HOUR)
    [began] = await router.look(NOON + 3 * HOUR)
    assert began["data"]["silentSince"] == rfc3339(NOON)


async def test_a_silence_ends_when_the_flow_expects_less_or_nothing_or_is_deleted(router):
    for flow_id in ("rarer", "never", "deleted", "same"):
        await router.apply(flow_id, "", rest=EXPECTS)
        await router.shard.append(flow_id, at_ms=NOON)
    assert sorted(await told(router, NOON + HOUR)) == [(BEGAN, each) for each in ("deleted", "never", "rarer", "same")]
    await router.apply("rarer", "", rest=EXPECTS.replace("1H", "9H"), at_ms=NOON + HOUR)
    await router.apply("never", "", rest="webhook: {auth: none}", at_ms=NOON + HOUR)
    await router.delete("deleted")
    await router.apply("same", "", rest=EXPECTS.replace("1H", "30M"), at_ms=NOON + HOUR)
    assert sorted(await told(router, NOON + HOUR + 1)) == [(ENDED, each) for each in ("deleted", "never", "rarer")]
    # a flow of the same name is another one
    await router.apply("deleted", "", rest=EXPECTS, at_ms=NOON + 2 * HOUR)
    assert await router.look(NOON + 2 * HOUR) == []
    assert await told(router, NOON + 3 * HOUR) == [(BEGAN, "deleted")]


async def test_an_event_that_comes_while_a_silence_begins_ends_it(router):
    await router.apply("shop", "", rest=EXPECTS)
    state = router.shard.state
    gate = state.delay("latest_requests")

    async def arrive():
        await state.reading.wait()
        await router.shard.append("shop", at_ms=NOON + HOUR)
        gate.set()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(arrive())
        assert await told(router, NOON + HOUR) == [(BEGAN, "shop")]
    assert await told(router, NOON + HOUR + 1000) == [(ENDED, "shop")]


async def test_a_clock_that_is_set_back_makes_no_silence_later(router):
    await router.apply("shop", "", rest=EXPECTS)
    await router.shard.append("shop", at_ms=NOON + 24 * HOUR)
    assert await router.look(NOON + 24 * HOUR) == []
    assert await router.look(NOON) == []
    assert await told(router, NOON + HOUR) == []
    assert await router.look(NOON + 25 * HOUR) != []


async def test_a_silence_goes_on_over_restarts_and_is_not_published_again(tmp_path):
    async with triggers(tmp_path) as router:
        await router.apply("alerts", LISTENS)
        await router.apply("shop", "", rest=EXPECTS)
        await router.apply("mail", "", rest=EXPECTS)
        assert len(await router.look(NOON + HOUR)) == 2
    async with triggers(tmp_path, at_ms=NOON + 2 * HOUR) as router:
        assert await router.look(NOON + 2 * HOUR) == []
        assert router.silence_watch.silent_since("shop") == NOON
        await router.delete("mail")
    async with triggers(tmp_path, at_ms=NOON + 3 * HOUR) as router:
        assert await told(router, NOON + 3 * HOUR) == [(ENDED, "mail")]
        await router.shard.append("shop", at_ms=NOON + 3 * HOUR)
    async with triggers(tmp_path, at_ms=NOON + 4 * HOUR - 1) as router:  # it came when nobody looked
        assert await told(router, NOON + 4 * HOUR - 1) == [(ENDED, "shop")]


async def test_a_router_that_was_away_gives_senders_time_and_says_since_when_it_serves(tmp_path):
    async with triggers(tmp_path) as router:
        await router.apply("alerts", LISTENS)
        await router.apply("shop", "", rest=EXPECTS)
        await router.apply("busy", "", rest=EXPECTS.replace("1H", "1M"))
        assert await router.look(NOON) == []
    back = NOON + 5 * HOUR
    async with triggers(tmp_path, at_ms=back) as router:
        assert await router.look(back) == []
        assert await told(router, back + MINUTE) == [(BEGAN, "busy")]
        assert await router.look(back + GRACE_MS - 1) == []
        [began] = await router.look(back + GRACE_MS)
        assert began["data"]["routerStartedAt"] == rfc3339(back)
        assert began["data"]["silentSince"] == rfc3339(NOON)


@pytest.mark.parametrize("failing", ["save", "publish_lifecycle_event", "remove"])
async def test_each_step_that_fails_is_done_later(router, failing, monkeypatch):
    await router.apply("shop", "", rest=EXPECTS)
    watch = router.silence_watch

    async def fail(*_values, **_options):
        raise UnavailableError("storage is away", reason="STORAGE_UNAVAILABLE")

    seen = []
    for at_ms, type_ in ((NOON + HOUR, BEGAN), (NOON + 3 * HOUR, ENDED)):
        if type_ == ENDED:
            await router.shard.append("shop", at_ms=at_ms)
        with monkeypatch.context() as patched:
            patched.setattr(EventPublisher if failing.startswith("publish") else SilenceLog, failing, fail)
            router.set_clock(at_ms)
            before = await router.executions()
            if failing != "remove" or type_ == ENDED:
                with pytest.raises(UnavailableError):
                    await watch.turn()
            seen += [1 for each in await router.executions() if each not in before and each.flow_id == "alerts"]
        seen += await told(router, at_ms + 1)
    assert len(seen) == 2
    assert watch.silent_since("shop") is None
    assert len(watch) == 0


@pytest.mark.parametrize("step", ["publish", "announced"])
async def test_a_crash_at_a_step_leaves_each_event_published_once(tmp_path, step, monkeypatch):
    save = SilenceLog.save

    async def fail(*_values, **_options):
        raise UnavailableError("the router dies", reason="STORAGE_UNAVAILABLE")

    async def save_first(log, silence):
        await (fail() if silence.announced else save(log, silence))

    async with triggers(tmp_path) as router:
        await router.apply("alerts", LISTENS)
        await router.apply("shop", "", rest=EXPECTS)
        with monkeypatch.context() as patched:
            if step == "publish":
                patched.setattr(EventPublisher, "publish_lifecycle_event", fail)
            else:
                patched.setattr(SilenceLog, "save", save_first)
            with pytest.raises(UnavailableError):
                await router.look(NOON + HOUR)
    async with triggers(tmp_path, at_ms=NOON + 2 * HOUR) as router:
        await router.look(NOON + 2 * HOUR)
        [alert] = [each for each in await router.executions() if each.flow_id == "alerts"]
        [began] = orjson.loads(await router.input_of(alert))
        assert (began["type"], began["data"]["beganAt"]) == (BEGAN, rfc3339(NOON + HOUR))
        assert "routerStartedAt" not in began["data"], "the router that found it served before"
