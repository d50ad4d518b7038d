"""An execution outlives its runners, up to the attempts that it has; and one flow does not take all of them."""

from __future__ import annotations

import asyncio
import os
import signal

import psutil
import pytest
import pytest_asyncio
from support.systems import document, running_system, until

from flowhook.model.executions import AttemptEnd

pytestmark = pytest.mark.e2e


KILLS = 4
"""With `max_attempts` of 1: nobody knows who is to blame when a runner dies, so the router allows for some more."""

KILLED = {AttemptEnd.PROCESS_ENDED, AttemptEnd.NOT_HELD, AttemptEnd.RUNNER_LOST}
"""Why attempts end whose runner is killed: its end is reported, its next process attaches, or it is missed first."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def brittle():
    """Leases last too long for one that runs out to be why anything begins again."""
    options = ("--allow-private-addresses", "--runners", "1")
    async with running_system(*options, max_attempts=1, lease_seconds=3600) as system:
        yield system


class Gate:
    """A server that holds every request but counts them, until it is opened."""

    def __init__(self):
        self.keys = []
        self.open = asyncio.Event()

    async def serve(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.keys.append(next(line.partition(": ")[2] for line in head.splitlines() if line.startswith("Idempotency-")))
        await self.open.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}")
        writer.close()


@pytest_asyncio.fixture(loop_scope="session")
async def gate():
    gate = Gate()
    server = await asyncio.start_server(gate.serve, "127.0.0.1", 0)
    gate.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    yield gate
    gate.open.set()
    server.close()


def descendants_of(pid):
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def kill_runner(cluster, *, guard, worker):
    """Kill a runner's parent, its children, or both at once."""
    parent = cluster.pid("runner-1")
    pids = (descendants_of(parent) if worker else []) + ([parent] if guard else [])
    assert pids
    if guard:
        os.kill(parent, signal.SIGSTOP)  # else it might report the end of the children before its own
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


async def given_an_execution_that_waits_for_an_answer(system, gate):
    await system.apply(
        document("held", do=f"- ask: {{call: http, with: {{method: get, endpoint: '{gate.url}'}}}}"),
        document("neighbour", do="- keep: {set: '${ .body }'}"),
    )
    answer = await system.send("held", {})
    await until(lambda: len(gate.keys) == 1, "the call has begun")
    return answer.id


async def test_an_execution_whose_runner_is_killed_three_times_completes_and_nobody_is_faulted(brittle, gate):
    execution_id = await given_an_execution_that_waits_for_an_answer(brittle, gate)
    neighbours = []
    for number, killed in enumerate((["guard", "worker"], ["worker"], ["guard"])):
        neighbours.append((await brittle.send("neighbour", {"n": number})).id)
        begun = len(gate.keys)
        kill_runner(brittle.cluster, guard="guard" in killed, worker="worker" in killed)
        await until(lambda begun=begun: len(gate.keys) > begun, "the call has begun again")
    gate.open.set()
    detail = await brittle.ended(execution_id)
    assert str(detail.execution.status) == "completed"
    # the supervisor saw that somebody killed the guards; of a worker alone that was killed nobody knows why
    assert detail.execution.attempts == 2
    *killed, last = detail.attempts
    assert [each.charged for each in killed] == [False, True, False]
    assert all(each.end in KILLED and each.assign_time_ms < each.end_time_ms for each in killed)
    assert last.end is AttemptEnd.EXECUTION_ENDED
    assert killed[-1].end_time_ms <= last.assign_time_ms < last.end_time_ms == detail.execution.end_time_ms
    for neighbour in neighbours:
        await brittle.completed(neighbour)
    assert len(set(gate.keys)) == 1, "a call that is repeated carries the same key"
    replay = await brittle.client.executions.replay(execution_id)
    await brittle.completed(replay.id)
    assert gate.keys[-1] != gate.keys[0], "a replay from the start is a new effect"


async def test_an_execution_that_never_survives_is_faulted_and_others_go_on(brittle, gate):
    execution_id = await given_an_execution_that_waits_for_an_answer(brittle, gate)
    for _ in range(1, KILLS):
        begun = len(gate.keys)
        kill_runner(brittle.cluster, guard=False, worker=True)
        await until(lambda begun=begun: len(gate.keys) > begun, "the call has begun again")
    kill_runner(brittle.cluster, guard=False, worker=True)
    error = await brittle.faulted(execution_id)
    assert error.status == 500
    assert f"given up after {KILLS} attempts" in error.detail
    attempts = (await brittle.client.executions.get(execution_id)).attempts
    assert [(each.number, each.charged) for each in attempts] == [(number, True) for number in range(1, KILLS + 1)]
    assert all(each.end in KILLED for each in attempts)
    assert await brittle.completed((await brittle.send("neighbour", {"n": 1})).id) == {"n": 1}
    gate.open.set()
    replay = await brittle.client.executions.replay(execution_id)
    assert await brittle.completed(replay.id) == {}


async def test_a_flow_whose_calls_all_hang_does_not_keep_a_quiet_one_waiting(brittle, gate):
    await given_an_execution_that_waits_for_an_answer(brittle, gate)
    answers = await asyncio.gather(*(brittle.send("held", {}) for _ in range(600)))
    assert {answer.status for answer in answers} == {202}
    await until(lambda: len(gate.keys) > 100, "many of them are under way")
    quiet = await brittle.send("neighbour", {"n": 1})
    assert await brittle.completed(quiet.id) == {"n": 1}
