"""How processes are started."""

from __future__ import annotations

import ctypes
import sys

import pytest

from flowhook.sandbox.spawning import spawn

HANDLERS = []
"""Of forks of this process: they can't be withdrawn."""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is asked to call us")
async def test_no_handler_of_forks_runs_since_those_of_grpc_may_crash():
    forks = []
    HANDLERS.append(ctypes.CFUNCTYPE(None)(lambda: forks.append(1)))
    assert ctypes.CDLL(None)["__register_atfork"](HANDLERS[-1], None, None, None) == 0
    process = spawn((sys.executable, "-c", "import sys; sys.exit(3)"))
    assert await process.wait() == 3
    assert not forks


async def test_its_end_is_waited_for():
    process = spawn((sys.executable, "-c", "input()"), quiet=True)
    assert await process.wait() == 1  # its standard input is empty
    assert process.returncode == 1
    process.kill()
