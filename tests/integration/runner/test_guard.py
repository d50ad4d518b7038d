"""Runaway expressions: killed at the limit, named, and nobody else is harmed."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections import Counter

import orjson
import pytest
from aiohttp import web
from support.patience import turns

from flowhook.limits import MAX_VALUES
from flowhook.process.process_state import ProcessState
from runner.guard import watchdog, worker_process
from runner.guard.evaluation_record import EvaluationRecord
from runner.guard.supervisor import WorkerSupervisor
from runner.ipc import ControlChannel, RouterAttached

TICK_SECONDS = 0.05


@pytest.mark.parametrize(
    "program",
    ["def f: f; f", "[range(1e12)] | length", "last(range(1e15))", '"x" * 1e9 | length', "[limit(1e12; repeat(1))]"],
)
async def test_a_runaway_expression_faults_and_the_next_execution_runs(router, served, program):
    router.define("bad", [{"run": {"set": {"x": f"${{ {program} }}"}}}])
    router.define("good", [{"run": {"set": {"n": "${ .body.n + 1 }"}}}])
    stream = await router.attached()
    outcome = await router.run(stream, "bad")
    assert outcome.WhichOneof("result") == "faulted"
    assert outcome.faulted.type.endswith("/expression")
    assert outcome.faulted.status == 400
    assert outcome.faulted.instance == "/do/0/run"
    assert "0.5 s" in outcome.faulted.detail or "64 MiB" in outcome.faulted.detail

    (exit_,) = router.exits
    assert exit_.losses_explained
    assert exit_.evaluated.lease == outcome.lease
    assert exit_.runner_id == stream.hello.runner_id

    second = await router.attached(2)
    assert second.hello.losses_explained
    assert list(second.hello.held_leases) == []
    assert second.hello.runner_id == stream.hello.runner_id
    assert orjson.loads((await router.run(second, "good", {"n": 1})).completed.output) == {"n": 2}


async def test_a_guard_that_looks_seldom_is_told_of_work(router, served, monkeypatch):
    monkeypatch.setattr(worker_process, "RESTING_POLL_SECONDS", 3600.0)
    dozed = asyncio.Event()
    doze = EvaluationRecord.doze

    def dozing(record, is_dozing):
        if is_dozing:
            dozed.set()
        return doze(record, is_dozing)

    monkeypatch.setattr(EvaluationRecord, "doze", dozing)
    router.define("bad", [{"run": {"set": {"x": "${ def f: f; f }"}}}])
    router.define("good", [{"run": {"set": {"n": 1}}}])
    stream = await router.attached()
    await dozed.wait()
    dozed.clear()
    await router.run(stream, "good")
    await dozed.wait()
    assert (await router.run(stream, "bad")).faulted.type.endswith("/expression")
    assert len(router.exits) == 1


@pytest.mark.parametrize("settings", [{"expression_seconds": 10.0}], indirect=True)
async def test_a_memory_hog_is_killed_for_its_memory_before_its_time(router, served):
    router.define("hog", [{"run": {"set": {"x": '${ reduce range(1e9) as $i ("xxxxxxxx"; . + .) | length }'}}}])
    stream = await router.attached()
    outcome = await router.run(stream, "hog")
    assert "MiB" in outcome.faulted.detail


@pytest.mark.parametrize(
    "settings", [{"expression_seconds": 10.0, "expression_bytes": 256 * 1024 * 1024}], indirect=True
)
async def test_a_loop_over_a_million_items_goes_into_quarantine_and_faults_at_its_bound(router, served):
    slow = "${ [range(2000000) | select(. <= 1000000)] }"  # far above what a process that others share may take
    loop = {"for": {"in": slow}, "do": [{"a": {"set": {"n": "${ $item }"}}}]}
    router.define("million", [{"all": loop}])
    router.define("good", [{"run": {"set": {"n": 1}}}])
    outcome = await router.run(await router.attached(), "million")
    assert (outcome.released.reason, outcome.released.charged) == ("RUNNER_DIED", False)
    stream = await router.attached(2)
    outcome = await router.run(stream, "million")
    assert (outcome.faulted.type.rpartition("/")[2], outcome.faulted.instance) == ("runtime", "/do/0/all")
    assert "1000000 items" in outcome.faulted.detail
    assert orjson.loads((await router.run(stream, "good")).completed.output) == {"n": 1}
    assert router.streams[-1] is stream


def long_body(members=MAX_VALUES - 1):
    """A body that takes a third of a second of CPU time to parse, the members of one object being as many as may be."""
    return {f"{number:x}": 0 for number in range(members)}


@pytest.mark.parametrize("settings", [{"expression_seconds": 0.1, "expression_bytes": 2**32}], indirect=True)
async def test_a_body_that_takes_too_long_faults_its_execution_and_the_next_of_its_flow_is_read_apart(router, served):
    router.define("bad", [{"run": {"set": {"n": 1}}}])
    stream = await router.attached()
    bad, good = router.assignment("bad", long_body()), router.assignment("bad", {"n": 1})
    router.assign(stream, bad, good)
    outcome = await router.outcome(bad.lease)
    assert outcome.faulted.type.endswith("/expression")
    assert (outcome.faulted.status, outcome.faulted.instance) == (400, "/input")
    assert outcome.faulted.detail == "reading the event's body took more than 0.1 s"
    assert [(exit_.losses_explained, exit_.evaluated.lease) for exit_ in router.exits] == [(True, bad.lease)]

    second = await router.attached(2)
    assert (await router.run(second, "bad", long_body())).faulted.detail == outcome.faulted.detail
    assert (await router.run(second, "bad", {"n": 1})).HasField("completed")
    assert len(router.exits) == 1
    assert len(router.streams) == 2


@pytest.mark.parametrize("settings", [{"expression_seconds": 20.0}], indirect=True)
async def test_a_body_that_takes_too_much_memory_faults_its_execution(router, served):
    router.define("bad", [{"run": {"set": {"n": 1}}}])
    outcome = await router.run(await router.attached(), "bad", long_body())
    assert (outcome.faulted.instance, outcome.faulted.type.rpartition("/")[2]) == ("/input", "expression")
    assert outcome.faulted.detail == "reading the event's body used more than 64 MiB of memory"


@pytest.mark.parametrize("settings", [{"expression_seconds": 20.0, "expression_bytes": 2**32}], indirect=True)
async def test_a_body_that_holds_up_others_is_read_apart_and_its_execution_goes_on_uncharged(
    router, served, monkeypatch
):
    monkeypatch.setattr(watchdog, "SHARED_SECONDS", 0.1)
    router.define("slow", [{"run": {"set": {"n": "${ .body | length }"}}}])
    moved = await router.run(await router.attached(), "slow", long_body())
    assert (moved.released.reason, moved.released.charged) == ("RUNNER_DIED", False)
    outcome = await router.run(await router.attached(2), "slow", long_body())
    assert orjson.loads(outcome.completed.output) == {"n": MAX_VALUES - 1}
    assert len(router.exits) == 1


async def test_an_endless_schema_is_killed_as_well(router, served):
    definitions = {f"n{n}": {"anyOf": [{"not": {"$ref": f"#/$defs/n{n - 1}"}}] * 2} for n in range(1, 101)}
    schema = {"document": {"$ref": "#/$defs/n100", "$defs": {"n0": False, **definitions}}}
    router.define("bad", [{"run": {"set": {"x": 1}, "input": {"schema": schema}}}])
    stream = await router.attached()
    outcome = await router.run(stream, "bad", "a")
    assert outcome.faulted.type.endswith("/expression")


async def test_neighbours_of_a_runaway_expression_are_run_again_with_the_same_key(router, served, http_server):
    keys = asyncio.Queue()
    release = asyncio.Event()

    async def slow(request):
        keys.put_nowait(request.headers["Idempotency-Key"])
        await release.wait()
        return web.json_response({"ok": True})

    base = await http_server(slow)
    router.define("call", [{"ask": {"call": "http", "with": {"method": "get", "endpoint": base}}}])
    router.define("bad", [{"run": {"set": {"x": "${ def f: f; f }"}}}])
    stream = await router.attached()
    neighbour = router.assignment("call")
    router.assign(stream, neighbour)
    first = await keys.get()
    await router.run(stream, "bad")
    second = await router.attached(2)
    router.assign(second, neighbour)
    assert await keys.get() == first
    release.set()
    outcome = await router.outcome(neighbour.lease)
    assert orjson.loads(outcome.completed.output) == {"ok": True}


async def test_a_child_that_is_killed_is_replaced_within_seconds_and_its_losses_are_not_explained(router, served):
    stream = await router.attached()
    (report,) = await router.until(lambda: router.reports[:1])
    async with turns() as passed:
        os.kill(report.pid, signal.SIGKILL)
        second = await router.attached(2)
        assert passed.seconds < 10
    assert stream.hello.runner_id == second.hello.runner_id
    assert [(exit_.losses_explained, exit_.HasField("evaluated")) for exit_ in router.exits] == [(False, False)]


class ShortLived:
    """A child that attached and was killed before its guard had another turn."""

    pid = 1
    returncode = None

    def __init__(self, control):
        self._control = control

    async def wait(self):
        if self.returncode is None:
            self.returncode = -signal.SIGKILL
            self._control.send(RouterAttached(renew_seconds=1.0))
            self._control.close()
        return self.returncode


class Starter:
    """Starts such children."""

    async def start(self, control_fd, record_fd):
        return ShortLived(await ControlChannel.open(socket.socket(fileno=os.dup(control_fd))))

    async def close(self):
        pass


@pytest.mark.parametrize("settings", [{"losses_explained": True}], indirect=True)
async def test_what_a_child_said_before_it_was_killed_counts(router, settings):
    lifecycle = ProcessState(name=settings.process_name, role="runner")
    supervising = asyncio.create_task(WorkerSupervisor(settings, lifecycle, Starter()).run())
    await router.until(lambda: router.exits)
    assert not router.exits[0].losses_explained, "only the losses of an earlier guard are"
    lifecycle.stop.set()
    await supervising


def slow(name):
    """A task that takes a tenth of a second or more, several times over, each time well within the limit."""
    work = "(last(range(100000)) | 1)"
    return {
        name: {
            "if": f"{work} == 1",
            "input": {"from": f"{{x: {work}}}"},
            "set": {"x": f"${{ {work} }}"},
            "output": {"as": f"{{x: {work}}}"},
            "export": {"as": f"{{x: {work}}}"},
        }
    }


@pytest.mark.parametrize("tasks", [1, 4])
async def test_an_execution_of_slow_expressions_lets_others_run_in_between(router, served, tasks):
    router.define("slow", [slow(f"t{number}") for number in range(tasks)])
    router.define("good", [{"run": {"set": {"n": "${ .body.n + 1 }"}}}])
    stream = await router.attached()
    await router.run(stream, "good", {"n": 1})  # fetched by now, as is the other one with the next
    await router.run(stream, "slow")
    ahead, behind = router.assignment("slow"), router.assignment("good", {"n": 1})
    router.assign(stream, ahead, behind)
    await router.outcome(ahead.lease)
    ends = [outcome.lease for outcome in stream.outcomes[-2:]]
    assert ends == [behind.lease, ahead.lease]


async def test_leases_are_renewed_while_slow_expressions_follow_one_another(router, served):
    router.lease_seconds = 1.8
    router.define("slow", [slow(f"t{number}") for number in range(12)])
    stream = await router.attached()
    await router.run(stream, "slow")
    seen = []

    async def look():
        while True:
            seen.append(len(stream.renewed_at))
            await asyncio.sleep(TICK_SECONDS)

    looking = asyncio.create_task(look())
    await router.run(stream, "slow")
    looking.cancel()
    assert len(seen) > router.lease_seconds / TICK_SECONDS, "the run ends within one lease"
    # what stands still does not look either
    assert max(Counter(seen).values()) < router.lease_seconds / TICK_SECONDS
