"""The priority of real processes, as the kernel tells it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli.supervisor.process_supervisor import lower_priority

WAIT = "import sys; sys.stdin.read()"
STARTS_ANOTHER = f"""
import subprocess, sys
sys.stdin.readline()
subprocess.Popen([sys.executable, "-c", {WAIT!r}])
print(flush=True)
sys.stdin.read()
"""


@pytest.fixture
def start():
    """Starts processes that lead a session and run until their standard input ends."""
    processes = []

    def run(code=WAIT):
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.communicate()


def session_nice(pid):
    """Return the nice value of a process's session, None where the kernel keeps none."""
    try:
        return int(Path(f"/proc/{pid}/autogroup").read_text().split()[-1])
    except OSError:
        return None


async def test_a_process_and_its_session_give_way(start):
    pid = start().pid
    before = session_nice(pid)
    await lower_priority(pid, 7)
    assert os.getpriority(os.PRIO_PROCESS, pid) == os.getpriority(os.PRIO_PROCESS, 0) + 7
    assert session_nice(pid) == (None if before is None else 7)


async def test_what_it_starts_gives_way_too(start):
    process = start(STARTS_ANOTHER)
    await lower_priority(process.pid, 7)
    process.stdin.write(b"\n")
    process.stdin.flush()
    process.stdout.readline()
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert os.getpriority(os.PRIO_PROCESS, int(child)) == os.getpriority(os.PRIO_PROCESS, process.pid)
    assert session_nice(child) == session_nice(process.pid)


async def test_sessions_one_after_the_other_all_give_way(start):
    """Anybody but root has to wait between two of them."""
    pids = [start().pid for _ in range(3)]
    before = session_nice(pids[0])
    for pid in pids:
        await lower_priority(pid, 3)
    assert [session_nice(pid) for pid in pids] == [None if before is None else 3] * 3


async def test_nothing_changes_without_a_wish_to_give_way(start):
    pid = start().pid
    before = os.getpriority(os.PRIO_PROCESS, pid), session_nice(pid)
    await lower_priority(pid, 0)
    assert (os.getpriority(os.PRIO_PROCESS, pid), session_nice(pid)) == before


async def test_a_process_that_has_ended_meanwhile_is_no_error(start):
    process = start()
    process.communicate()
    await lower_priority(process.pid, 5)
