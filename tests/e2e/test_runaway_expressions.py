"""Expressions that never end or eat memory, among the traffic of others."""

from __future__ import annotations

import asyncio

import pytest
from support.systems import document

from flowhook.model import Status

pytestmark = pytest.mark.e2e

RUNAWAYS = {
    "endless": ("last(range(1e15))", "ran for more than 2 s"),
    "greedy": ('reduce range(1e9) as $i ("xxxxxxxx"; . + .) | length', "256 MiB"),
}
TIMES = 2


async def steady_traffic(system, stop):
    sent, number = {}, 0
    while not stop.is_set():
        number += 1
        sent[(await system.send("steady", {"n": number})).id] = number
        await asyncio.sleep(0.02)
    return sent


async def test_they_fault_at_the_limit_and_others_go_on_uncharged(system):
    called = (
        f"- call: {{call: http, with: {{method: post, endpoint: '{system.outside.url}/steady', body: '${{ .body }}'}}}}"
    )
    await system.apply(
        document("steady", do=f"{called}\n- after: {{set: {{ok: '${{ .ok }}'}}}}"),
        *(
            document(name, do=f"- before: {{set: '${{ .body }}'}}\n- runs: {{set: {{x: '${{ {program} }}'}}}}")
            for name, (program, _) in RUNAWAYS.items()
        ),
    )
    stop = asyncio.Event()
    traffic = asyncio.create_task(steady_traffic(system, stop))
    bad = [(name, (await system.send(name, {})).id) for name in list(RUNAWAYS) * TIMES]
    for name, execution_id in bad:
        error = await system.faulted(execution_id)
        assert error.type == "https://open-workflow-specification.org/spec/1.0.0/errors/expression"
        assert (error.status, error.instance) == (400, "/do/1/runs")
        assert RUNAWAYS[name][1] in error.detail
    # what comes after them is served, too
    await system.completed((await system.send("steady", {"n": 0})).id)
    stop.set()
    sent = await traffic
    assert len(sent) > 50
    for execution_id in sent:
        execution = (await system.ended(execution_id)).execution
        assert (execution.status, execution.attempts) == (Status.COMPLETED, 1), execution
    assert {execution.attempts for name in RUNAWAYS for execution in await system.executions(name)} == {1}
