"""What a working process does about launchers that were killed or stopped, and whom it takes for their strays."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import threading

import pytest
from support.patience import PATIENCE

from runner.processes import orphans
from runner.processes.flow_processes import Launchers

UNKNOWN_PIDS = 1 << 22  # from here on no process has one


@pytest.fixture
def sleeper():
    """A process in a session of its own that no launcher knows of, as a component may keep one."""
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        yield process
        process.kill()


async def test_a_sweep_that_is_called_off_goes_on_and_nobody_starts_meanwhile():
    sweeping, go_on, judged = threading.Event(), threading.Event(), []

    def slow_sweep(is_stray):
        judged.append(is_stray)
        sweeping.set()
        assert go_on.wait(PATIENCE)
        return orphans.kill_orphans(is_stray)

    launchers = Launchers(sweep=slow_sweep)
    async with launchers.launch() as first:
        first.process.kill()
        ending = asyncio.create_task(launchers.ended(first))
        assert await asyncio.to_thread(sweeping.wait, PATIENCE)
        ending.cancel()
        starting = asyncio.create_task(_started(launchers, judged))
        try:
            await asyncio.wait([ending], timeout=0.5)  # a task that is called off at once ends at once
            assert not ending.done()
            assert not starting.done()
        finally:
            go_on.set()
        await asyncio.wait([ending])
        assert ending.cancelled()
        assert not await starting


async def _started(launchers, judged):
    """Start another, and return whether a sweep of before takes it for a stray."""
    async with launchers.launch() as launcher:
        return judged[0](launcher.process.pid)


async def test_one_that_is_stopped_is_not_waited_for():
    async with asyncio.timeout(PATIENCE):
        async with Launchers(grace_seconds=10 * PATIENCE).launch() as launcher:
            launcher.process.send_signal(signal.SIGSTOP)
        assert launcher.process.returncode == -signal.SIGKILL


def test_a_sweep_gives_up_when_strays_come_as_fast_as_they_are_found():
    ever_more = itertools.chain(([pid] for pid in range(UNKNOWN_PIDS, UNKNOWN_PIDS + 5000)), itertools.repeat([]))
    assert orphans.kill_orphans(lambda _: True, children=lambda: next(ever_more)) == orphans.Sweep(0, is_over=False)


def test_a_sweep_does_not_wait_for_what_does_not_die(monkeypatch):
    with subprocess.Popen(["sleep", "20"]) as process:
        with monkeypatch.context() as patched:
            patched.setattr(os, "kill", lambda *_: None)
            assert orphans.kill_orphans(lambda child: child == process.pid) == orphans.Sweep(0, is_over=False)
        assert process.poll() is None
        assert orphans.kill_orphans(lambda child: child == process.pid) == orphans.Sweep(1, is_over=True)


def test_a_process_that_a_component_keeps_in_a_session_of_its_own_is_no_stray(sleeper):
    assert not orphans.descends_from_launcher(sleeper.pid)


CONFINED = """
import ctypes, subprocess
from runner.processes import orphans
assert ctypes.CDLL(None).prctl(38, 1, 0, 0, 0) == 0
with subprocess.Popen(["sleep", "60"], start_new_session=True) as helper:
    print(orphans.descends_from_launcher(helper.pid))
    helper.kill()
"""


def test_nor_is_it_where_the_runner_may_gain_no_privileges_itself():
    """As the service in operations.md runs it."""
    ran = subprocess.run([sys.executable, "-c", CONFINED], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"


async def test_a_launcher_with_a_job_is_known_as_one():
    async with Launchers().launch() as launcher:
        launcher.lifeline.write(
            b'{"argv": ["/bin/sleep", "60"], "environment": {}, "files": {}, "limits": {"FSIZE": %d}}\n'
            % orphans.FILE_BYTES
        )
        await launcher.reader.readline()  # it is under way
        code = asyncio.create_task(launcher.code())
        try:
            async with asyncio.timeout(PATIENCE):
                while not orphans.descends_from_launcher(launcher.process.pid):
                    await asyncio.sleep(0.01)
        finally:
            launcher.lifeline.close()
            await asyncio.wait([code])
