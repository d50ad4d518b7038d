"""How the supervisor has the flows applied, by processes that are stand-ins for the one that does it."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest
from support.patience import PATIENCE

from cli.supervisor.cluster_spec import Command
from cli.supervisor.initial_flows import apply_flows
from cli.supervisor.process_supervisor import StartRefusedError
from flowhook.errors import InternalError

SCRIPT = """
import os, signal, sys
from pathlib import Path
from flowhook.process.supervisor_socket import receive_settings, take_socket

assert receive_settings()
assert os.environ["FLOWHOOK_ROUTER"] == "127.0.0.1:1"
tries = Path(sys.argv[1])
tries.write_text(tries.read_text() + "x" if tries.exists() else "x")
with take_socket() as parent:
    parent.sendall(b'{"webhook": "hello"}\\n{"webhook": "other"}\\n')
endings = sys.argv[2:]
ending = endings[min(len(tries.read_text()), len(endings)) - 1]
if ending.startswith("SIG"):
    os.kill(os.getpid(), signal.Signals[ending])
sys.exit(int(ending))
"""


@pytest.fixture
def apply(tmp_path, capsys):
    """Has flows applied by a process that ends as it is told, one ending after the other."""

    async def run(*endings):
        async def settings():
            return {"FLOWHOOK_ROUTER": "127.0.0.1:1"}

        command = Command([sys.executable, "-c", SCRIPT, str(tmp_path / "tries"), *endings], dict(os.environ))
        async with asyncio.timeout(PATIENCE):
            return await apply_flows(command, settings)

    run.capsys = capsys
    return run


async def test_it_returns_the_flows_that_have_a_webhook(apply):
    assert await apply("0") == ["hello", "other"]
    assert apply.capsys.readouterr().out.splitlines() == []


async def test_a_router_that_is_away_and_a_process_that_is_killed_are_tried_again(apply):
    assert await apply("75", "SIGKILL", "0") == ["hello", "other"]  # each once
    assert apply.capsys.readouterr().out.splitlines() == [
        f"the flows are not applied yet; trying again in {delay} s" for delay in (0.1, 0.2)
    ]


async def test_flows_that_are_refused_end_the_start(apply):
    with pytest.raises(StartRefusedError, match="the flows can't be applied, see above"):
        await apply("1")


async def test_a_defect_is_no_reason_to_try_for_ever(apply):
    with pytest.raises(InternalError, match="what applies the flows ended with exit code 70 5 times"):
        await apply("70")
