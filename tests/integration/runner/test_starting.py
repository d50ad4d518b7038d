"""Processes for children: forked from one that has everything imported, or each with an interpreter of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

import psutil
import pytest
from support.patience import PATIENCE

from flowhook.sandbox import forking
from runner.guard import process_starter
from runner.guard.process_starter import ForkServerStarter, InterpreterStarter
from runner.guard.watchdog import SchedulingState, UsageSampler
from runner.guard.worker_process import WorkerProcess


@pytest.fixture(params=[ForkServerStarter, InterpreterStarter])
async def starter(request):
    starter = request.param()
    yield starter
    await starter.close()


@pytest.fixture
async def fork_server():
    starter = ForkServerStarter()
    yield starter
    await starter.close()


async def gone(pid):
    """Wait until there is no such process; one that nobody has reaped is none."""
    with contextlib.suppress(psutil.NoSuchProcess):
        async with asyncio.timeout(PATIENCE):
            while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                await asyncio.sleep(0.02)


async def test_a_child_waits_for_its_order_and_ends_when_its_parent_hangs_up(starter):
    child = await WorkerProcess.spawn(starter)
    assert child.process.returncode is None
    child.control.close()
    async with asyncio.timeout(PATIENCE):
        assert await child.process.wait() == 0
    await child.close()


async def test_a_child_that_is_killed_says_so(starter):
    child = await WorkerProcess.spawn(starter)
    os.kill(child.process.pid, signal.SIGSEGV)
    async with asyncio.timeout(PATIENCE):
        assert await child.process.wait() == -signal.SIGSEGV
    assert child.process.returncode == -signal.SIGSEGV
    await child.close()


async def test_closing_a_child_kills_it_whatever_it_does(starter):
    child = await WorkerProcess.spawn(starter)
    os.kill(child.process.pid, signal.SIGSTOP)
    await child.close()
    await gone(child.process.pid)


async def test_children_are_forked_one_after_another_without_a_new_interpreter(fork_server):
    children = [await WorkerProcess.spawn(fork_server) for _ in range(5)]
    parents = {psutil.Process(child.process.pid).ppid() for child in children}
    assert len(parents) == 1
    # what was imported is shared: what a child has to itself is a fraction of that
    private = [psutil.Process(child.process.pid).memory_full_info().uss for child in children]
    whole = psutil.Process(parents.pop()).memory_info().rss
    assert max(private) < whole / 2
    for child in children:
        await child.close()


async def test_a_fork_server_that_dies_takes_its_children_along_and_is_replaced(fork_server):
    child = await WorkerProcess.spawn(fork_server)
    os.kill(psutil.Process(child.process.pid).ppid(), signal.SIGKILL)
    async with asyncio.timeout(PATIENCE):
        assert await child.process.wait() == -signal.SIGKILL
    await gone(child.process.pid)
    second = await WorkerProcess.spawn(fork_server)
    assert second.process.returncode is None
    for each in (child, second):
        await each.close()


async def test_a_fork_server_ends_with_its_starter(fork_server):
    child = await WorkerProcess.spawn(fork_server)
    server = psutil.Process(child.process.pid).ppid()
    await fork_server.close()
    await gone(server)
    await gone(child.process.pid)
    await child.close()


def test_without_the_calls_of_linux_each_child_has_an_interpreter_of_its_own(monkeypatch):
    monkeypatch.setattr(forking.sys, "platform", "darwin")
    assert isinstance(process_starter.new_starter(), InterpreterStarter)


async def test_usage_distinguishes_computing_from_sleeping_and_from_being_stopped():
    busy = await asyncio.create_subprocess_exec("python3", "-c", "while True: pass")
    idle = await asyncio.create_subprocess_exec("sleep", "600")
    usages = [UsageSampler(each.pid) for each in (busy, idle)]
    try:
        async with asyncio.timeout(PATIENCE):
            while usages[0].sample().cpu_ns < 100_000_000:
                await asyncio.sleep(0.02)
        assert [each.sample().state for each in usages] == [SchedulingState.RUNNABLE, SchedulingState.SLEEPING]
        assert usages[0].sample().resident > 1_000_000
        busy.send_signal(signal.SIGSTOP)
        async with asyncio.timeout(PATIENCE):
            while usages[0].sample().state is not SchedulingState.STOPPED:
                await asyncio.sleep(0.02)
    finally:
        busy.kill()
        idle.kill()
        await asyncio.gather(busy.wait(), idle.wait())
    assert usages[0].sample() == (0, 0, SchedulingState.STOPPED)
