"""A cluster that is stopped keeps what it accepted, and one that is started on the same data goes on with it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

import aiohttp
import pytest
from support.patience import PATIENCE
from support.supervisors import alive
from support.systems import document, running_system, until

from flowhook.model import Status

pytestmark = pytest.mark.e2e


async def keep_sending(system, acknowledged):
    """Send until nobody takes it any more."""
    with contextlib.suppress(aiohttp.ClientError):
        while True:
            answer = await system.send("busy", {"n": len(acknowledged)})
            if answer.status == 202:
                acknowledged.append(answer.id)


async def stopped(supervisor):
    async with asyncio.timeout(PATIENCE):
        return await supervisor.wait()


async def test_whatever_was_acknowledged_completes_before_a_graceful_stop_or_after_the_next_start(tmp_path):
    acknowledged = []
    async with running_system("--allow-private-addresses", data_dir=tmp_path) as system:
        called = f"- call: {{call: http, with: {{method: post, endpoint: '{system.outside.url}/busy', body: 1}}}}"
        await system.apply(document("busy", do=f"{called}\n- after: {{set: {{ok: '${{ .ok }}'}}}}"), document("later"))
        await system.client.flows.pause("later")
        waiting = [(await system.send("later", {"n": number})).id for number in range(5)]
        senders = [asyncio.create_task(keep_sending(system, acknowledged)) for _ in range(8)]
        await until(lambda: len(acknowledged) > 200, "there is some load")
        system.cluster.supervisor.terminate()
        assert await stopped(system.cluster.supervisor) == 0
        await asyncio.gather(*senders)

        # the outside world of before is still there: what a drain had no time for is called now
        async with running_system("--allow-private-addresses", data_dir=tmp_path) as again:
            await again.client.flows.resume("later")
            executions = {execution.id: execution for execution in await again.executions("busy")}
            assert executions.keys() >= set(acknowledged)
            for execution_id in [*acknowledged, *waiting]:
                execution = executions.get(execution_id)
                if execution is None or not execution.status.ended:
                    execution = (await again.ended(execution_id)).execution
                assert execution.status is Status.COMPLETED, execution
                assert execution.attempts <= 2
            await given_ctrl_c_everything_drains_and_ends(again)


async def given_ctrl_c_everything_drains_and_ends(system):
    """Press Ctrl-C: a terminal sends SIGINT to the supervisor and to all that it has started."""
    run = system.cluster.data_dir / "run"
    pids = [int(path.read_text()) for path in run.glob("*.pid")]
    assert len(pids) == 5
    os.killpg(system.cluster.supervisor.pid, signal.SIGINT)
    assert await stopped(system.cluster.supervisor) == 0
    await until(lambda: not any(map(alive, pids)), "every process has ended")
    assert not list(run.glob("*.pid"))
    printed = [line.split()[1].rstrip(",") for line in system.cluster.output if line.startswith("stopping")]
    assert printed == ["edge-1", "runner-1", "router-1", "admin-1"]
