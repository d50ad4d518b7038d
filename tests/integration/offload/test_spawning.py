"""How the processes of `offload` are started."""

from __future__ import annotations

import ctypes
import sys

import pytest

from flowhook.offload.spawning import spawn

HANDLERS = []
"""Of forks of this process: they can't be withdrawn."""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is asked to call us")
async def test_no_handler_of_forks_runs_since_those_of_grpc_may_crash():
    forks = []
    HANDLERS.append(ctypes.CFUNCTYPE(None)(lambda: forks.append(1)))
    assert ctypes.CDLL(None)["__register_atfork"](HANDLERS[-1], None, None, None) == 0
    process, link = spawn("-c", "import sys; sys.exit(3)", options=())
    link.close()
    assert await process.wait() == 3
    assert not forks


async def test_its_end_is_waited_for():
    process, link = spawn("-c", "input()", options=())
    link.close()
    assert await process.wait() == 1  # its standard input is empty
    assert process.returncode == 1
    process.kill()
