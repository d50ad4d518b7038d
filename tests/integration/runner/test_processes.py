"""`run.script` and `run.shell`: real processes, and what is left of them."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from support.patience import PATIENCE
from support.processes import FAMILY, directories, processes, running
from support.tokens import Authority

from flowhook.asyncio_tasks import end_tasks
from flowhook.process.settings import RunnerSettings
from flowhook.sharing import Principal, current_principal
from flowhook.sharing.table import RunnerLimits
from runner.component_names import component_names
from runner.components import TaskFault
from runner.components.registry import callable_components, components
from runner.components.run_process import script, shell
from runner.components.testing import call, context
from runner.processes import flow_processes
from runner.processes.flow_processes import MAX_OUTPUT_BYTES, FlowProcesses, Launchers, ProcessSpec

SETTINGS = RunnerSettings(allow_private_addresses=True, allow_processes=True)


def run_shell(command, *, seconds=10.0, **more):
    return call(shell, {"command": command, **more}, settings=SETTINGS, seconds=seconds)


def run_script(code=None, *, language="python", **more):
    given = {"code": code} if code is not None else {}
    return call(script, {"language": language, **given, **more}, settings=SETTINGS)


def kind(problem):
    error = problem.value.error
    return error.type.rpartition("/")[2], error.status


async def test_they_are_refused_unless_the_operator_allows_them(tmp_path):
    for component, arguments in ((shell, {"command": f"touch {tmp_path}/x"}), (script, {"language": "x", "code": ""})):
        with pytest.raises(TaskFault) as problem:
            await call(component, arguments)
        assert kind(problem) == ("configuration", 400)
        assert "--allow-processes" in problem.value.error.detail
    assert not list(tmp_path.iterdir())


def test_no_call_may_name_them():
    names = {"run.script", "run.shell"}
    assert names <= components().keys()
    assert not names & callable_components().keys()
    assert not names & component_names()


async def test_a_command_reads_its_input_and_its_arguments_as_the_specification_shows():
    command = 'input=$(cat)\necho "STDIN was: $input"\necho "ARGS are $1 $2"'
    output = await run_shell(command, stdin="Hello World", arguments=["Foo", 7])
    assert output == "STDIN was: Hello World\nARGS are Foo 7\n"
    assert await run_shell("cat", stdin={"a": [1]}) == '{"a":[1]}'
    assert await run_shell("cat") == ""
    assert await run_shell("exit 0", stdin="x" * 1_000_000) == ""  # it need not read


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("stdout", "out"),
        ("stderr", "err"),
        ("code", 0),
        ("all", {"code": 0, "stdout": "out", "stderr": "err"}),
        ("none", None),
    ],
)
async def test_the_flow_has_what_it_requests(wanted, expected):
    assert await run_shell("printf out; printf err >&2", **{"return": wanted}) == expected


async def test_a_process_that_fails_is_an_error_unless_its_code_is_wanted():
    for wanted in ("stdout", "stderr", "none"):
        with pytest.raises(TaskFault) as problem:
            await run_shell("echo s3cret >&2; exit 3", **{"return": wanted})
        assert kind(problem) == ("runtime", 500)
        assert problem.value.error.detail == "run.shell: the process ended with code 3"
    assert await run_shell("exit 3", **{"return": "code"}) == 3
    assert await run_shell("kill -9 $$", **{"return": "code"}) == 128 + signal.SIGKILL


async def test_its_environment_is_what_the_task_gives_and_a_path(monkeypatch):
    monkeypatch.setenv("OF_THE_RUNNER", "s3cret")
    output = await run_shell("/usr/bin/env", environment={"NAME": "Ada", "COUNT": 3, "YES": True})
    given = dict(line.split("=", 1) for line in output.splitlines())
    given.pop("PWD", None)  # the shell's own
    assert {key: value for key, value in given.items() if key not in {"_", "SHLVL", "OLDPWD"}} == {
        "PATH": flow_processes.PATH, "NAME": "Ada", "COUNT": "3", "YES": "true",
    }  # fmt: skip


async def test_it_starts_in_an_empty_directory_with_no_descriptor_of_the_runner():
    output = await run_shell("ls -A; pwd; ls /proc/self/fd | wc -l")
    directory, descriptors = output.split()
    assert Path(directory).name.startswith("flowhook-")
    assert int(descriptors) <= 4


@pytest.mark.parametrize("language", ["python", "js", "javascript"])
async def test_scripts_have_their_arguments_where_their_language_has_them(language):
    if language != "python" and shutil.which("node", path=flow_processes.PATH) is None:
        pytest.skip("there is no node here")
    code = {
        "python": "import sys\nprint(sys.argv[1:], sys.stdin.read())",
        "js": (
            "const [_, __, ...rest] = process.argv;\n"
            "console.log(JSON.stringify(rest), require('fs').readFileSync(0, 'utf8'))"
        ),
    }
    output = await run_script(
        code.get(language, code["js"]), language=language, arguments=["hello", "wörld"], stdin="in"
    )
    assert output.replace("'", '"').replace(", ", ",") == '["hello","wörld"] in\n'


async def test_a_script_can_be_fetched_as_its_policy_says(http_server):
    authority = Authority()
    authority.url = await http_server(authority.handle)

    async def serve(request):
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in authority.good:
            return web.Response(status=401)
        return web.Response(text="print('hällo')" if request.path == "/a.py" else None, body=None)

    base = await http_server(serve)
    policy = {"oauth2": {"authority": authority.url, "grant": "client_credentials", "client": {"id": "me"}}}
    source = {"endpoint": {"uri": f"{base}/a.py", "authentication": policy}}
    assert await run_script(source=source) == "hällo\n"
    with pytest.raises(TaskFault) as problem:
        await run_script(source={"endpoint": f"{base}/a.py"})
    assert kind(problem) == ("communication", 401)


@pytest.mark.parametrize(
    "arguments",
    [
        {"language": "ruby", "code": ""},
        {"language": "python"},
        {"language": "python", "code": "", "source": {"endpoint": "http://x"}},
        {"language": "python", "code": "", "environment": {"A=B": "x"}},
        {"language": "python", "code": "", "arguments": ["a\0b"]},
        {"language": "python", "code": "", "return": "everything"},
        {"language": "python", "code": "", "more": 1},
    ],
)
async def test_wrong_arguments_are_a_configuration_error(arguments):
    with pytest.raises(TaskFault) as problem:
        await call(script, arguments, settings=SETTINGS)
    assert kind(problem) == ("configuration", 400)


@pytest.mark.parametrize("stream", ["output", "error"])
async def test_one_that_writes_too_much_is_killed(stream):
    with pytest.raises(TaskFault) as problem:
        await run_shell("exec yes" + (" >&2" if stream == "error" else ""))
    assert kind(problem) == ("runtime", 500)
    assert f"more than {MAX_OUTPUT_BYTES} bytes to its standard {stream}" in problem.value.error.detail


LIMITS = "import resource as r; print([r.getrlimit(k)[0] for k in (r.RLIMIT_CPU, r.RLIMIT_FSIZE, r.RLIMIT_NOFILE)])"


async def test_it_has_limits():
    output = await run_script(LIMITS)
    assert output == f"[10, {flow_processes.FILE_BYTES}, {flow_processes.MAX_FILES}]\n"
    with pytest.raises(TaskFault):
        await run_script("x = bytearray(1024 ** 3)")
    with pytest.raises(TaskFault):
        await run_shell(f"head -c {flow_processes.FILE_BYTES + 1} /dev/zero > file")
    status = await run_script("print(open('/proc/self/status').read())")
    assert "NoNewPrivs:\t1\n" in status
    for kind in ("Prm", "Eff", "Amb"):  # also of one that root's runner started
        assert f"Cap{kind}:\t{0:016x}\n" in status


@pytest.fixture
def marker():
    return f"{10_000 + os.getpid()}.{int.from_bytes(os.urandom(4))}"


async def test_at_the_deadline_all_that_it_started_is_killed(marker):
    with pytest.raises(TaskFault) as problem:
        await run_shell(FAMILY.format("sleep $1"), arguments=[marker], seconds=1.0)
    assert kind(problem) == ("timeout", 408)
    assert not processes(marker)
    assert not directories(marker)


async def test_when_it_ends_all_that_it_started_is_killed(marker):
    assert await run_shell(FAMILY.format("sleep 0.2; echo done"), arguments=[marker]) == "done\n"
    assert not processes(marker)
    assert not directories(marker)


# sixteen processes, each of which goes on in a child of its own without end; never more, for root has no limit of them
FLEEING = """
import os, pathlib, sys, time
pathlib.Path(sys.argv[1]).touch()
if os.fork():
    time.sleep(60)
for _ in range(4):
    os.fork()
while True:
    time.sleep(0.001)
    if os.fork():
        os._exit(0)
"""


async def test_those_that_flee_from_process_to_process_are_caught(marker):
    arguments = {"language": "python", "code": FLEEING, "arguments": [marker]}
    with pytest.raises(TaskFault) as problem:
        await call(script, arguments, settings=SETTINGS, seconds=1.0)
    assert kind(problem) == ("timeout", 408)
    assert not processes(marker)
    assert not directories(marker)


async def test_one_that_is_not_awaited_goes_on_until_the_runner_ends(marker, tmp_path):
    async with context(settings=SETTINGS, seconds=60.0) as offered:
        arguments = {"command": f"echo $1 > {tmp_path}/x; sleep $1", "arguments": [marker], "await": False}
        assert await shell(arguments, offered) is None
        assert await shell({**arguments, "command": "exit 3"}, offered) is None
        await running(marker, 2)  # the shell and its sleep
    assert not processes(marker)
    assert (tmp_path / "x").read_text() == f"{marker}\n"


async def test_one_that_is_not_awaited_has_its_time(marker):
    started = FlowProcesses(SETTINGS)
    started.start(ProcessSpec(("/bin/sleep", marker), {}, b"", {}, 0.5))
    async with asyncio.timeout(PATIENCE):
        while started._background:
            await asyncio.sleep(0.01)
    assert not processes(marker)


async def test_so_many_are_in_the_background_and_no_more_and_a_flow_has_its_share(marker):
    started = FlowProcesses(SETTINGS, limits=RunnerLimits(background=replace(RunnerLimits().background, total=4)))
    sleep = ProcessSpec(("/bin/sleep", marker), {}, b"", {}, 60.0)
    of_flow("a")
    for _ in range(2):
        started.start(sleep)
    with pytest.raises(TaskFault, match="too many processes of flows in the background of one flow") as problem:
        started.start(sleep)
    of_flow("b")
    started.start(sleep)
    await started.close()
    assert kind(problem) == ("communication", 503)
    of_flow("a")
    for _ in range(2):
        started.start(sleep)
    await started.close()


def of_flow(name):
    current_principal.set(Principal("flow", name))


async def test_a_flow_waits_while_it_has_its_share_of_processes_and_others_do_not(marker):
    started = FlowProcesses(SETTINGS, limits=RunnerLimits(processes=replace(RunnerLimits().processes, total=4)))
    sleep = ProcessSpec(("/bin/sleep", marker), {}, b"", {}, 60.0)

    async def run(flow, program):
        of_flow(flow)
        return await started.run(program)

    waiting = [asyncio.create_task(run("a", sleep)) for _ in range(8)]
    await running(marker, 2)
    ended = await run("b", ProcessSpec(("/bin/echo", "hello"), {}, b"", {}, 60.0))
    assert ended.stdout == b"hello\n"
    assert len(processes(marker)) == 2
    await end_tasks(waiting)


RUNNER = """
import asyncio, sys
from runner.processes.flow_processes import ProcessSpec, FlowProcesses

async def main():
    pool = FlowProcesses(None)
    await pool.run(ProcessSpec(("/bin/sh", "-c", sys.argv[1], "sh", sys.argv[2]), {}, b"", {}, 60.0))

asyncio.run(main())
"""


async def test_a_runner_that_is_killed_leaves_none(marker):
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", RUNNER, FAMILY.format("sleep $1"), marker)
    await running(marker, 8)
    assert directories(marker)
    process.kill()
    await process.wait()
    await running(marker, 0)
    async with asyncio.timeout(PATIENCE):
        while directories(marker):
            await asyncio.sleep(0.01)


async def test_a_start_that_is_called_off_leaves_nothing_open():
    launchers = Launchers()
    async with launchers._starting_or_sweeping:
        starting = asyncio.create_task(launchers.launch().__aenter__())
        while not launchers._starting_or_sweeping._waiters:
            await asyncio.sleep(0)
        starting.cancel()
        await asyncio.wait([starting])
    gc.collect()  # warns of what is not closed, and warnings are errors
