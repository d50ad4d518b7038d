"""`run: shell` in a whole runner: what it inherits, and what is left of it when it turns against its launcher."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import orjson
import psutil
import pytest
from support.patience import PATIENCE
from support.processes import FAMILY, directories, processes, running

pytestmark = pytest.mark.parametrize("settings", [{"allow_processes": True}], indirect=True)


@pytest.fixture
def marker():
    return f"{10_000 + os.getpid()}.{int.from_bytes(os.urandom(4))}"


async def run(router, command, *arguments, **task):
    router.define("sh", [{"run": {"run": {"shell": {"command": command, "arguments": list(arguments)}}, **task}}])
    return await router.run(await router.attached(), "sh")


DESCRIPTORS = """
import os
# the one that lists them is closed by now
print(*(each for each in sorted(map(int, os.listdir("/proc/self/fd"))) if os.path.exists(f"/proc/self/fd/{each}")))
"""


async def test_a_process_inherits_its_three_streams_and_nothing_else(router, served):
    script = {"run": {"script": {"language": "python", "code": DESCRIPTORS}}}
    router.define("py", [{"run": script}])
    outcome = await router.run(await router.attached(), "py")
    assert orjson.loads(outcome.completed.output) == "0 1 2\n"


async def test_its_launcher_has_none_but_its_lifeline_beside_that(router, served, marker, tmp_path):
    waiting = 'touch $1; until [ -e "$2" ]; do sleep 0.05; done'
    shell = {"command": waiting, "arguments": [marker, str(tmp_path / "done")]}
    router.define("sh", [{"run": {"run": {"shell": shell}}}])
    assigned = router.assignment("sh")
    router.assign(await router.attached(), assigned)
    await running(marker, 1)
    # read from here: the process, which has no capabilities, can't
    (process,) = processes(marker)
    descriptors = list(Path(f"/proc/{psutil.Process(process).ppid()}/fd").iterdir())
    links = sorted(str(each.readlink()).partition(":")[0] for each in descriptors)
    (tmp_path / "done").touch()
    await router.outcome(assigned.lease)
    assert links == ["/dev/null", "/dev/null", "/dev/null", "anon_inode", "socket"]


async def test_one_that_kills_its_launcher_is_killed_with_all_that_it_started(router, served, marker):
    outcome = await run(router, FAMILY.format("kill -9 $PPID; sleep $1"), marker)
    assert (outcome.faulted.type.rpartition("/")[2], outcome.faulted.detail) == ("runtime", "the process was killed")
    assert not processes(marker)
    assert not directories(marker)
    assert router.exits == []


# four that start daemons for a while: never many, for root has no limit of them, and this may fail
FLEEING = """
for n in 1 2 3 4; do
  (setsid sh -c 'kill -9 $1; for n in 1 2 3 4 5 6 7 8 9; do (setsid sleep $0 &); sleep 0.05; done' $1 $PPID &)
done
touch $1
sleep $1
"""


async def test_those_that_go_on_in_new_sessions_are_found(router, served, marker):
    outcome = await run(router, FLEEING, marker)
    assert outcome.faulted.detail == "the process was killed"
    assert not processes(marker)
    assert not directories(marker)


async def test_one_that_stops_its_launcher_does_not_outlive_its_limit(router, served, marker):
    outcome = await run(router, FAMILY.format("kill -STOP $PPID; sleep $1"), marker, timeout={"after": {"seconds": 1}})
    assert outcome.faulted.type.endswith("/timeout")
    await running(marker, 0)
    async with asyncio.timeout(PATIENCE):
        while directories(marker):  # they go last
            await asyncio.sleep(0.01)


async def test_others_that_run_meanwhile_are_left_alone(router, served, marker, tmp_path):
    waiting = 'touch $1; while [ ! -e "$2" ]; do sleep 0.05; done; echo done'
    shell = {"command": waiting, "arguments": [marker, str(tmp_path / "go on")]}
    router.define("good", [{"run": {"run": {"shell": shell}}}])
    stream = await router.attached()
    good = router.assignment("good")
    router.assign(stream, good)
    await running(marker, 1)
    await run(router, "kill -9 $PPID")
    (tmp_path / "go on").touch()
    assert orjson.loads((await router.outcome(good.lease)).completed.output) == "done\n"


async def test_what_outlives_its_launcher_and_its_working_process_is_ended_by_who_forked_that(router, served, marker):
    stream = await router.attached()
    router.define("sh", [{"run": {"run": {"shell": {"command": FAMILY.format("sleep $1"), "arguments": [marker]}}}}])
    router.assign(stream, router.assignment("sh"))
    await running(marker, 7)
    (worker,) = {report.pid for report in await router.until(lambda: router.reports)}
    launchers = [each for each in psutil.Process(worker).children() if "launcher.py" in " ".join(each.cmdline())]
    os.kill(worker, signal.SIGSTOP)
    launchers[0].kill()
    os.kill(worker, signal.SIGKILL)
    await running(marker, 0)
