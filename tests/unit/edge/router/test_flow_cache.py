from __future__ import annotations

import asyncio
import time

import pytest
import structlog
from support.patience import PATIENCE

from edge.router.flow_cache import MAX_WAITING, PACE_SECONDS, FlowCache
from flowhook import limits
from flowhook.errors import InternalError, OutOfRangeError, UnauthenticatedError, UnavailableError

OPEN = {"auth": "none"}
GITHUB = {"auth": {"github": {"secret": "key"}}}


@pytest.fixture
async def start(router, counts, running, settled):
    """Start a cache of three flows."""

    async def start(**options):
        router.flows = {"a": OPEN, "b": OPEN, "g": GITHUB}
        cache = FlowCache(router, counts, size=3, lookup_seconds=PATIENCE, silence_seconds=PATIENCE, **options)
        running(cache.run())
        router.progress()
        await settled()
        return cache

    return start


@pytest.fixture
async def directory(start):
    return await start()


async def test_a_flow_is_looked_up_once(directory, router, counts):
    assert (await directory.find("a")).flow_id == "a"
    assert (await directory.find("a")).flow_id == "a"

    assert router.requested == ["a"]
    assert (counts.cache_hits, counts.cache_misses) == (1, 1)


async def test_an_unknown_flow_is_looked_up_once(directory, router):
    assert await directory.find("nope") is None
    assert await directory.find("nope") is None
    assert (router.searches, router.requested) == ([["nope"]], [])


async def test_a_flow_without_webhook_is_no_endpoint(directory, router):
    router.flows["quiet"] = None
    assert await directory.find("quiet") is None


@pytest.mark.parametrize("flow_id", ["", ".", "a.", ".a", "a.b.c", "-a", "a_b", "a%20b", "é", "a" * 64, "a\x00", "a/b"])
async def test_a_malformed_id_is_not_looked_up(directory, router, flow_id):
    assert await directory.find(flow_id) is None
    assert router.requested == []


async def test_requests_that_come_together_share_a_lookup(directory, router, settled):
    router.gate.clear()
    finds = [asyncio.create_task(directory.find("a")) for _ in range(5)]
    await settled()
    router.gate.set()

    assert len(set(await asyncio.gather(*finds))) == 1
    assert router.requested == ["a"]


@pytest.mark.parametrize("change", [{"flow_id": "g"}, {"secret_name": "key"}])
async def test_a_change_makes_the_next_request_look_again(directory, router, settled, change):
    await directory.find("g")
    router.tell(**change)
    await settled()
    await directory.find("g")
    assert router.requested == ["g", "g"]


async def test_a_change_of_something_else_does_not(directory, router, settled):
    await directory.find("g")
    router.tell(flow_id="a")
    router.tell(secret_name="other")
    await settled()
    await directory.find("g")
    assert router.requested == ["g"]


async def test_a_flow_that_is_created_is_found(directory, router, settled):
    assert await directory.find("new") is None
    router.flows["new"] = OPEN
    router.tell(flow_id="new")
    await settled()
    assert await directory.find("new") is not None


async def test_an_answer_that_a_change_has_overtaken_is_not_used(directory, router, settled):
    router.tell(flow_id="g")
    await settled()
    router.gate.clear()
    find = asyncio.create_task(directory.find("g"))
    await settled()
    router.secrets["key"] = b"new"
    router.tell(secret_name="key")
    await settled()
    router.gate.set()

    assert (await find).revision == router.revision
    assert router.requested == ["g", "g"]


async def test_a_deleted_flow_is_not_found_though_its_lookup_began_before(directory, router, settled):
    router.gate.clear()
    find = asyncio.create_task(directory.find("a"))
    await settled()
    del router.flows["a"]
    router.tell(flow_id="a")
    await settled()
    router.gate.set()
    assert await find is None


async def test_an_answer_older_than_what_the_watch_reported_is_not_used(directory, router, settled):
    router.tell(flow_id="b")
    await settled()
    newest = router.revision
    router.revision = 1
    find = asyncio.create_task(directory.find("a"))
    await settled()
    assert not find.done()
    router.revision = newest
    assert (await find).revision == newest


async def test_made_up_ids_go_together_while_a_call_is_under_way(directory, router, settled):
    router.searching.clear()
    finds = [asyncio.create_task(directory.find(f"nope-{number}")) for number in range(600)]
    await settled()
    assert len(router.searches) == 1
    router.searching.set()
    assert set(await asyncio.gather(*finds)) == {None}
    assert len(router.searches) <= 1 + -(-600 // limits.MAX_FOUND_FLOWS)
    assert sorted(flow_id for each in router.searches for flow_id in each) == sorted(f"nope-{n}" for n in range(600))
    assert router.requested == []


async def test_there_is_one_call_for_them_in_so_much_time_however_fast_it_is_answered(directory, router):
    began = time.monotonic()
    for number in range(6):
        assert await directory.find(f"nope-{number}") is None
    assert time.monotonic() - began >= 5 * PACE_SECONDS * 0.99
    assert len(router.searches) == 6


async def test_flows_that_are_known_are_looked_up_while_made_up_ids_wait_and_those_are_limited(start, router, settled):
    directory = await start(pace_seconds=0.0)  # calls follow one another by turns of the loop, not by the clock
    await directory.find("a")
    router.tell(flow_id="a")
    router.tell(flow_id="new")
    router.flows["new"] = OPEN
    await settled()
    router.searching.clear()
    most = MAX_WAITING + limits.MAX_FOUND_FLOWS  # those that a call asks for, and those that wait
    finds = [asyncio.create_task(directory.find(f"nope-{number}")) for number in range(limits.MAX_FOUND_FLOWS)]
    await settled()
    finds += [asyncio.create_task(directory.find(f"more-{number}")) for number in range(MAX_WAITING)]
    await settled()
    with pytest.raises(UnavailableError) as refusal:
        await directory.find("one-too-many")
    assert refusal.value.reason == "LOOKUPS_FULL"
    assert (await directory.find("a")).flow_id == "a"  # it was known before the watch told of a change
    assert (await directory.find("new")).flow_id == "new"  # the watch told of it
    router.searching.set()
    assert set(await asyncio.gather(*finds)) == {None}
    assert sum(map(len, router.searches)) == most + 1
    assert await directory.find("one-too-many") is None


async def test_a_flow_that_nobody_knows_is_found_among_made_up_ids(directory, router):
    router.flows["unheard"] = OPEN
    finds = await asyncio.gather(*(directory.find(flow_id) for flow_id in ("nope-1", "unheard", "nope-2")))
    assert [found and found.flow_id for found in finds] == [None, "unheard", None]
    assert router.requested == ["unheard"]


async def test_made_up_ids_do_not_push_flows_out(directory, router):
    await directory.find("a")
    for number in range(10):
        await directory.find(f"nope-{number}")
    router.requested.clear()
    await directory.find("a")
    assert router.requested == []
    assert directory.cached == 4


async def test_a_url_in_use_is_not_asked_for_again_whatever_other_flows_are_used(directory, router):
    router.flows |= {name: {**OPEN, "path": f"/{name}"} for name in ("own", *map("o{}".format, range(9)))}
    router.urls = {("h", "/own"): "own"}
    for number in range(9):
        endpoints, suffix = await directory.find_url("H:80", "/own")
        assert (endpoints.flow_id, suffix) == ("own", None)
        await directory.find(f"o{number}")
    assert router.searches.count([("h", "/own")]) == 1


async def test_a_path_that_is_too_long_is_nobodys_whoever_is_known(directory, router):
    router.flows["own"] = {**OPEN, "path": "/own", "subpaths": True}
    router.urls = {("h", "/own/a"): "own"}
    assert await directory.find_url("h", "/own/a") is not None
    assert await directory.find_url("h", "/own/" + "a" * limits.MAX_PATH_LENGTH) is None


async def test_the_flow_used_longest_ago_goes_first(directory, router):
    router.flows.update({"c": OPEN, "d": OPEN})
    for flow_id in ("a", "b", "c", "a", "d"):
        await directory.find(flow_id)
    router.requested.clear()
    await directory.find("a")
    await directory.find("b")
    assert router.requested == ["b"]


async def test_nothing_cached_is_used_while_the_watch_is_silent(router, counts, running, settled):
    router.flows["a"] = OPEN
    states = []
    directory = FlowCache(router, counts, size=3, lookup_seconds=PATIENCE, silence_seconds=0.05, on_state=states.append)
    running(directory.run())
    router.progress()
    await settled()
    await directory.find("a")
    await directory.find("a")
    assert router.requested == ["a"]

    while len(router.watches) < 2:  # the silent watch is replaced
        await asyncio.sleep(0.01)
    await directory.find("a")
    await directory.find("a")
    assert router.requested == ["a"] * 3
    assert states == ["", "flows can't be watched: WATCH_SILENT (the router's watch of flows went silent)"]

    router.progress()
    await settled()
    await directory.find("a")
    assert router.requested == ["a"] * 3
    assert states[-1] == ""


async def test_a_watch_that_catches_up_is_not_trusted_before_it_has(router, counts, running, settled):
    router.flows["a"] = OPEN
    directory = FlowCache(router, counts, size=3, lookup_seconds=PATIENCE)
    running(directory.run())
    router.tell(flow_id="b")
    await settled()
    await directory.find("a")
    await directory.find("a")
    assert router.requested == ["a", "a"]


async def test_a_watch_that_breaks_goes_on_where_it_was(directory, router):
    router.changes.put_nowait(UnavailableError("gone"))
    while len(router.watches) < 2:
        await asyncio.sleep(0.01)
    assert router.watches == [0, router.revision]


async def test_a_watch_too_far_behind_forgets_everything(directory, router):
    await directory.find("a")
    router.changes.put_nowait(OutOfRangeError("compacted", metadata={"revision": "7"}))
    while len(router.watches) < 2:
        await asyncio.sleep(0.01)
    assert router.watches == [0, 7]
    assert directory.cached == 0


async def test_an_answer_from_before_everything_was_forgotten_is_not_used(directory, router, settled):
    router.gate.clear()
    find = asyncio.create_task(directory.find("g"))
    await settled()
    router.secrets["key"] = b"new"
    router.revision = 7
    router.changes.put_nowait(OutOfRangeError("compacted", metadata={"revision": "7"}))
    while len(router.watches) < 2:
        await asyncio.sleep(0.01)
    router.gate.set()
    assert (await find).revision == 7
    assert router.requested == ["g", "g"]


async def test_what_was_looked_up_before_the_first_word_of_the_watch_is_not_used(router, counts, running, settled):
    router.flows["g"] = GITHUB
    directory = FlowCache(router, counts, size=3, lookup_seconds=PATIENCE)
    running(directory.run())
    await settled()
    await directory.find("g")
    router.secrets["key"] = b"new"  # a change that a watch which began later does not tell
    router.revision += 1
    router.tell(flow_id="b")
    router.progress()
    await settled()
    await directory.find("g")
    assert router.requested == ["g", "g"]


async def test_another_history_forgets_everything(directory, router, settled):
    router.tell(flow_id="b")
    await settled()
    await directory.find("a")
    router.revision = 1
    router.progress()
    await settled()
    assert directory.cached == 0


async def test_a_router_that_is_away_is_reported_and_not_remembered(router, counts, running, settled):
    directory = FlowCache(router, counts, size=3, lookup_seconds=0.02)
    running(directory.run())
    router.progress()
    await settled()
    router.flows["a"] = UnavailableError("away")
    with pytest.raises(UnavailableError):
        await directory.find("a")
    router.flows["a"] = OPEN
    assert await directory.find("a") is not None


async def test_a_router_that_comes_back_in_time_is_not_missed(directory, router, settled):
    router.flows["a"] = UnavailableError("restarting")
    find = asyncio.create_task(directory.find("a"))
    await settled()
    router.flows["a"] = OPEN
    assert (await find).flow_id == "a"


async def test_a_lookup_that_takes_too_long_is_given_up(router, counts, running, settled):
    directory = FlowCache(router, counts, size=3, lookup_seconds=0.02)
    running(directory.run())
    await settled()
    router.gate.clear()
    with pytest.raises(UnavailableError):
        await directory.find("a")


async def test_a_request_that_joins_a_lookup_late_has_its_own_time(router, counts, running, settled):
    directory = FlowCache(router, counts, size=3, lookup_seconds=0.02)
    running(directory.run())
    router.progress()
    await settled()
    router.flows["a"] = UnavailableError("restarting")
    early = asyncio.create_task(directory.find("a"))
    await settled()
    directory._lookup_seconds = PATIENCE
    late = asyncio.create_task(directory.find("a"))
    with pytest.raises(UnavailableError):
        await early
    router.flows["a"] = OPEN
    assert (await late).flow_id == "a"


async def test_a_flow_that_can_not_be_read_is_no_missing_one(directory, router):
    router.flows["bad"] = {"auth": "nonsense"}
    with pytest.raises(InternalError):
        await directory.find("bad")


async def test_before_the_watch_runs_nobody_can_say(router, counts):
    with pytest.raises(UnavailableError):
        await FlowCache(router, counts, size=3, lookup_seconds=PATIENCE).find("a")


async def test_each_reason_why_flows_can_not_be_watched_is_logged_once(router, counts, running, settled, monkeypatch):
    monkeypatch.setattr("edge.router.flow_cache.RECONNECT_SECONDS", 0.0)
    problems = [
        UnavailableError("the router is away", reason="ROUTER_AWAY"),
        UnavailableError("the router is away", reason="ROUTER_AWAY"),
        UnauthenticatedError("the token is unknown, revoked or expired"),
        UnauthenticatedError("the token is unknown, revoked or expired"),
    ]
    watch, states = router.watch, []

    def failing(start_revision):
        if problems:
            raise problems.pop(0)
        return watch(start_revision)

    router.watch = failing
    with structlog.testing.capture_logs() as logs:
        cache = FlowCache(router, counts, size=3, lookup_seconds=PATIENCE, on_state=states.append)
        running(cache.run())
        while problems:
            await settled()
        router.progress()
        await settled()
    *lacks, goes_on = logs
    assert [entry["reason"] for entry in lacks] == ["ROUTER_AWAY", UnauthenticatedError("").reason]
    assert goes_on["event"] == "watch of flows goes on"
    assert states[-2:] == [f"flows can't be watched: {lacks[-1]['reason']} ({lacks[-1]['detail']})", ""]
