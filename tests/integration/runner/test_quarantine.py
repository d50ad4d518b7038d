"""Flows in quarantine: executions whose expressions a separate process evaluates."""

from __future__ import annotations

import asyncio

import orjson
import pytest
from aiohttp import web

from flowhook.v1 import runner_service_pb2
from runner.guard import evaluation_record, process_starter

ENDLESS = "last(range(1e15))"


def heavy(loops):
    """An expression of some tenths of a second."""
    return f"(last(range({loops})) | 1)"


@pytest.mark.parametrize("settings", [{"expression_seconds": 2.0}], indirect=True)
async def test_a_flow_that_was_slow_once_holds_up_nobody_the_second_time(router, served):
    router.define("slow", [{"run": {"set": {"x": f"${{ {heavy(300_000)} }}"}}}])
    router.define("endless", [{"run": {"if": ".body.hang != true", "set": {"x": "${ .body | tojson }"}}}])
    stream = await router.attached()
    await router.run(stream, "slow")
    # now in quarantine: while it is evaluated, others are, too
    slow = router.assignment("slow")
    router.assign(stream, slow)
    for number in range(3):
        assert (await router.run(stream, "endless", {"n": number})).HasField("completed")
    assert (await router.outcome(slow.lease)).HasField("completed")
    assert router.exits == []
    assert len(router.streams) == 1


@pytest.mark.parametrize("settings", [{"expression_seconds": 1.0}], indirect=True)
async def test_an_endless_expression_is_moved_then_faulted_and_the_next_of_its_flow_kills_no_child(router, served):
    router.define("bad", [{"run": {"set": {"x": f"${{ {ENDLESS} }}"}}}])
    router.define("good", [{"run": {"set": {"n": "${ .body.n + 1 }"}}}])
    moved = await router.run(await router.attached(), "bad")
    assert (moved.released.reason, moved.released.charged) == ("RUNNER_DIED", False)
    assert [exit_.losses_explained for exit_ in router.exits] == [True]
    stream = await router.attached(2)
    for _ in range(2):
        bad = router.assignment("bad")
        router.assign(stream, bad)
        good = await router.run(stream, "good", {"n": 1})
        assert orjson.loads(good.completed.output) == {"n": 2}
        outcome = await router.outcome(bad.lease)
        assert outcome.faulted.type.endswith("/expression")
        assert "1 s" in outcome.faulted.detail
        assert outcome.faulted.instance == "/do/0/run"
    assert len(router.exits) == 1
    assert len(router.streams) == 2


@pytest.mark.parametrize("settings", [{"expression_seconds": 1.0}], indirect=True)
async def test_what_was_journaled_before_a_kill_in_quarantine_stays_journaled(router, served, http_server):
    async def answer(_request):
        return web.json_response({"hang": True})

    base = await http_server(answer)
    tasks = [
        {"slow": {"set": {"x": f"${{ {heavy(300_000)} }}"}}},
        {"ask": {"call": "http", "with": {"method": "get", "endpoint": base}}},
        {"hang": {"set": {"x": f"${{ if .hang then {ENDLESS} else 1 end }}"}}},
    ]
    router.define("bad", tasks)
    stream = await router.attached()
    outcome = await router.run(stream, "bad")
    assert outcome.faulted.instance == "/do/2/hang"
    entries = [each.entry.key for each in (*stream.checkpoints, *outcome.checkpoints) if each.HasField("entry")]
    assert "/do/1/ask#0" in entries


@pytest.mark.parametrize("settings", [{"expression_seconds": 1.0}], indirect=True)
async def test_what_was_answered_is_on_its_way_to_the_journal_before_anything_is_computed_with_it(
    router, served, http_server
):
    async def answer(_request):
        return web.json_response({"ok": True})

    base = await http_server(answer)
    tasks = [
        {"ask": {"call": "http", "with": {"method": "get", "endpoint": base}}},
        {"hang": {"set": {"x": f"${{ if .ok then {ENDLESS} else 1 end }}"}}},
    ]
    router.define("bad", tasks)
    stream = await router.attached()
    moved = await router.run(stream, "bad")
    assert (moved.released.reason, moved.released.charged) == ("RUNNER_DIED", False)
    await router.attached(2)  # the first one is over, and all that it said was read
    assert [each.entry.key for each in stream.checkpoints] == ["/do/0/ask#0"]


@pytest.mark.parametrize("settings", [{"expression_seconds": 20.0}], indirect=True)
async def test_answers_are_journaled_while_others_of_the_flow_are_evaluated_apart(router, served, http_server):
    requested, answer = asyncio.Event(), asyncio.Event()

    async def handle(request):
        if request.query["n"] == "2":
            requested.set()
            await answer.wait()
        return web.json_response({"n": int(request.query["n"])})

    base = await http_server(handle)
    tasks = [
        {"ask": {"call": "http", "with": {"method": "get", "endpoint": f'${{ "{base}/?n=\\(.body.n)" }}'}}},
        {"work": {"set": {"x": f"${{ if .n == 1 then {ENDLESS} else {heavy(300_000)} end }}"}}},
    ]
    router.define("slow", tasks)
    stream = await router.attached()
    await router.run(stream, "slow", {"n": 0})
    waiting, hanging = router.assignment("slow", {"n": 2}), router.assignment("slow", {"n": 1})
    router.assign(stream, waiting)
    await requested.wait()
    router.assign(stream, hanging)
    await router.until(lambda: any(each.lease == hanging.lease for each in stream.checkpoints))
    answer.set()
    await router.until(lambda: any(each.lease == waiting.lease for each in stream.checkpoints))
    assert not [each for each in stream.outcomes if each.lease == hanging.lease]
    assert not router.exits


@pytest.mark.parametrize("settings", [{"expression_seconds": 20.0}], indirect=True)
async def test_an_execution_that_is_revoked_while_it_is_evaluated_apart_leaves_its_place_to_the_next(router, served):
    router.define("slow", [{"run": {"set": {"x": f"${{ if .body.n == 2 then {ENDLESS} else {heavy(300_000)} end }}"}}}])
    stream = await router.attached()
    await router.run(stream, "slow", {"n": 0})
    hanging, following = router.assignment("slow", {"n": 2}), router.assignment("slow", {"n": 1})
    router.assign(stream, hanging, following)
    stream.responses.put_nowait(
        runner_service_pb2.AttachResponse(
            revocation=runner_service_pb2.Revocation(leases=[hanging.lease], reason="EXECUTION_CANCELLED")
        )
    )
    assert (await router.outcome(following.lease)).HasField("completed")
    assert [outcome.lease for each in router.streams for outcome in each.outcomes].count(hanging.lease) == 0
    assert len(router.streams) == 1


@pytest.mark.parametrize("settings", [{"expression_seconds": 2.0}], indirect=True)
async def test_results_that_come_while_an_execution_is_evaluated_apart_are_taken_in_after_that(
    router, served, http_server
):
    async def answer(_request):
        return web.json_response({"ok": True})

    base = await http_server(answer)
    branches = [{f"b{n}": {"call": "http", "with": {"method": "get", "endpoint": base}}} for n in range(5)]
    tasks = [
        {"all": {"fork": {"branches": branches}, "output": {"as": f"{{n: length, x: {heavy(200_000)}}}"}}},
        {"after": {"set": {"n": "${ .n }", "x": f"${{ {heavy(200_000)} }}"}}},
    ]
    router.define("slow", tasks)
    stream = await router.attached()
    for _ in range(2):
        outcome = await router.run(stream, "slow")
        assert orjson.loads(outcome.completed.output) == {"n": 5, "x": 1}
    assert len(router.streams) == 1


@pytest.fixture
def portable(monkeypatch):
    """Take away what only Linux has."""
    monkeypatch.setattr(process_starter, "supports_fork_server", lambda: False)
    monkeypatch.delattr(evaluation_record.os, "memfd_create", raising=False)


async def test_a_runner_works_without_the_calls_of_linux(portable, router, served):
    router.define("bad", [{"run": {"set": {"x": f"${{ {ENDLESS} }}"}}}])
    router.define("good", [{"run": {"set": {"n": "${ .body.n + 1 }"}}}])
    stream = await router.attached()
    assert orjson.loads((await router.run(stream, "good", {"n": 1})).completed.output) == {"n": 2}
    outcome = await router.run(stream, "bad")
    assert "0.5 s" in outcome.faulted.detail
    stream = await router.attached(2)
    assert orjson.loads((await router.run(stream, "good", {"n": 1})).completed.output) == {"n": 2}
    assert (await router.run(stream, "bad")).faulted.type.endswith("/expression")
    assert len(router.streams) == 2
