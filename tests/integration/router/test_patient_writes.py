"""Which writes may wait for others: those of flows that have many executions to run, and of no others."""

from __future__ import annotations

import pytest

from flowhook.attach.messages import Completed, Outcome
from flowhook.attach.send_pacing import QUIET


@pytest.fixture
def patience(shard, monkeypatch):
    """What the writer was told of each call: whether it is patient."""
    told = []
    call = shard.storage.writer.call

    def recorded(*arguments, patient=False, **options):
        told.append(patient)
        return call(*arguments, patient=patient, **options)

    monkeypatch.setattr(shard.storage.writer, "call", recorded)
    return told


async def test_events_of_a_flow_are_patient_while_it_has_many_executions_to_run(shard, patience):
    for _ in range(QUIET + 2):
        await shard.append("busy")
    assert patience == [False] * (QUIET + 1) + [True]


async def test_executions_that_wait_make_no_flow_busy(shard, runner, patience):
    for _ in range(QUIET + 1):
        await shard.park(runner, await shard.work_on(runner, "parked"))
    patience.clear()
    await shard.append("parked")
    assert not patience[0]


async def test_outcomes_are_patient_if_all_their_flows_have_many_executions_running(shard, runner, patience):
    await shard.append("busy", *[b"payload"] * (QUIET + 3))
    busy = await runner.next(QUIET + 3)
    quiet = await shard.work_on(runner, "quiet")
    settled = []
    for outcomes in ([busy[0]], [busy[1], quiet], [busy[2]]):
        patience.clear()
        await shard.host.recorder.settle(runner, [Outcome(each.lease, Completed(b"1")) for each in outcomes])
        settled.append(patience[0])
    assert settled == [True, False, True]
    patience.clear()
    await shard.settle(runner, busy[3], Completed(b"1"))
    assert not patience[0]
