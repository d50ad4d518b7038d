"""Work in processes apart: what it may take, and what becomes of the next one."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest
from support.offloaded import (
    be_killed,
    crash,
    devour,
    environment,
    fail,
    fail_in,
    hang,
    process_id,
    refuse,
    reverse,
    stop,
)
from support.patience import PATIENCE
from support.warm import KeptWorker

from flowhook.errors import ExhaustedError, InternalError, InvalidError
from flowhook.sandbox.offload import Offload
from flowhook.sandbox.worker import WALL_SECONDS, TooCostlyError
from flowhook.sharing.table import OffloadLimits

MIB = 1024 * 1024
TESTS = Path(__file__).parents[2]


MAIN = f"import sys; sys.path.insert(0, {str(TESTS)!r}); from flowhook.sandbox.process import main; main()"
"""Finds the functions of these tests."""


@pytest.fixture
async def make_offload():
    """Make an `Offload` with limits of one's own."""
    made = []

    def make(*, seconds=0.5, wall_seconds=WALL_SECONDS, **options):
        start = partial(KeptWorker.start, command=(sys.executable, "-I", "-c", MAIN), wall_seconds=wall_seconds)
        made.append(Offload("tests", seconds=seconds, memory=256 * MIB, start=start, **options))
        return made[-1]

    yield make
    for each in made:
        await each.aclose()


@pytest.fixture
def offload(make_offload):
    return make_offload()


async def test_a_function_is_run_with_bytes_of_any_size(offload):
    large = os.urandom(8 * MIB)
    assert await offload.run("f", reverse, large, b"", b"abc") == [b"cba", b"", large[::-1]]


async def test_it_sees_no_environment(offload):
    assert await offload.run("f", environment) == []


async def test_a_process_is_used_again(offload):
    assert await offload.run("f", process_id) == await offload.run("g", process_id)


async def test_what_it_refuses_is_said_as_here(offload):
    with pytest.raises(InvalidError, match="no such thing") as refusal:
        await offload.run("f", refuse, b"no such thing")
    assert refusal.value.reason == "BODY_INVALID"


async def test_a_defect_is_reported_and_harms_nobody(offload):
    before = await offload.run("f", process_id)
    with pytest.raises(InternalError, match="ZeroDivisionError"):
        await offload.run("f", fail)
    assert await offload.run("f", process_id) == before


@pytest.mark.parametrize(
    ("function", "seconds", "cause"),
    [
        (hang, 0.5, r"more than 0\.5 s of CPU time"),
        (devour, PATIENCE, "more than 256 MiB of memory"),  # which takes seconds of CPU time on a busy machine
        (crash, PATIENCE, "more than 256 MiB of memory"),
    ],
)
async def test_what_takes_too_much_is_ended_and_the_next_one_is_done(make_offload, function, seconds, cause):
    offload = make_offload(seconds=seconds)
    with pytest.raises(TooCostlyError, match=cause):
        await offload.run("f", function)
    assert await offload.run("f", reverse, b"ab") == [b"ba"]


async def test_one_that_somebody_else_kills_twice_is_to_be_tried_later(offload):
    with pytest.raises(ExhaustedError):
        await offload.run("f", be_killed)
    assert await offload.run("f", reverse, b"ab") == [b"ba"]


async def test_what_finds_no_memory_in_a_used_process_gets_a_new_one(offload):
    before = await offload.run("f", process_id)
    assert await offload.run("f", fail_in, before[0]) != before


async def test_a_process_that_was_stopped_is_given_up(make_offload):
    offload = make_offload(wall_seconds=0.05)
    with pytest.raises(ExhaustedError):
        await offload.run("f", stop)
    async with asyncio.timeout(PATIENCE):
        await offload.aclose()
    assert [each for each in psutil.Process().children() if each.status() == psutil.STATUS_STOPPED] == []


async def test_the_loop_goes_on_meanwhile(offload):
    turns = 0

    async def count():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count())
    with pytest.raises(TooCostlyError):
        await offload.run("f", hang)
    counting.cancel()
    assert turns > 100


async def test_no_key_gets_all_processes(offload):
    hanging = [asyncio.create_task(offload.run("greedy", hang)) for _ in range(4)]
    done = await offload.run("modest", reverse, b"ab")
    assert done == [b"ba"]
    assert not hanging[-1].done()
    for task in hanging:
        task.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)


async def test_what_would_wait_too_long_is_refused(make_offload):
    offload = make_offload(shared=OffloadLimits.with_waiting(2))
    hanging = [asyncio.create_task(offload.run("greedy", hang)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(ExhaustedError) as refusal:
        await offload.run("greedy", reverse, b"ab")
    assert refusal.value.reason == "OVERLOADED"
    assert await offload.run("modest", reverse, b"ab") == [b"ba"]
    for task in hanging:
        task.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)


async def test_as_many_small_ones_wait_as_there_are_senders(offload):
    done = await asyncio.gather(*(offload.run("busy", reverse, b"%d" % number) for number in range(200)))
    assert done == [[(b"%d" % number)[::-1]] for number in range(200)]


async def test_no_key_has_more_waiting_than_fits(make_offload):
    offload = make_offload(shared=OffloadLimits(waiting_bytes=replace(OffloadLimits().waiting_bytes, total=40)))
    assert await offload.run("f", reverse, bytes(11)) == [bytes(11)]  # alone
    hanging = asyncio.create_task(offload.run("f", hang))
    await asyncio.sleep(0)
    with pytest.raises(ExhaustedError) as refusal:
        await offload.run("f", reverse, bytes(11))
    assert refusal.value.reason == "OVERLOADED"
    assert await offload.run("modest", reverse, bytes(11)) == [bytes(11)]
    hanging.cancel()
    await asyncio.gather(hanging, return_exceptions=True)


async def test_what_waited_too_long_is_refused(offload):
    await offload.run("greedy", process_id)  # so that it hangs at once
    hanging = asyncio.create_task(offload.run("greedy", hang))
    await asyncio.sleep(0)
    offload.wait_seconds = 0.0
    with pytest.raises(ExhaustedError):
        await offload.run("greedy", reverse, b"ab")
    hanging.cancel()
    await asyncio.gather(hanging, return_exceptions=True)


async def test_one_that_is_called_off_leaves_no_process(offload):
    (pid,) = await offload.run("f", process_id)
    running = asyncio.create_task(offload.run("f", hang))
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])
    async with asyncio.timeout(PATIENCE):
        await offload.aclose()
    assert not psutil.pid_exists(int(pid))
