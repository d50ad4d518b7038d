"""What users get where a process may open too few files: one line, never a traceback, never a dead process."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time

import psutil
import pytest
from support.commands import PATIENCE, clean_environment
from support.ports import free_port

LINE = (
    "this process may open {limit} files, and needs 256: "
    "run `ulimit -n 4096` before it, or set LimitNOFILE=4096 in its systemd unit"
)
SHOW = (
    "import resource; from flowhook.process import kernel; kernel.ensure_limit();"
    "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
)


def run(*arguments, soft, hard):
    # a shell sets the limits: what is run between fork and exec here would be beside the threads of gRPC
    limited = f'ulimit -Sn {soft} && ulimit -Hn {hard} && exec "$@"'
    return subprocess.run(
        ["sh", "-c", limited, "sh", sys.executable, "-P", *map(str, arguments)],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.parametrize("limit", [20, 40, 255])
def test_up_refuses_to_start_and_says_what_to_write(tmp_path, limit):
    ports = [word for name in ("http", "admin", "grpc") for word in (f"--{name}-port", 0)]
    result = run("-m", "cli", "up", "--data-dir", tmp_path / "data", *ports, soft=limit, hard=limit)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"flowhook: {LINE.format(limit=limit)}\n"
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("role", ["edge", "router", "runner", "admin"])
def test_a_process_on_its_own_refuses_to_start_and_says_what_to_write(tmp_path, role):
    name = ["--process-name", f"{role}-1", "--data-dir", tmp_path]
    result = run("-m", "cli", role, *name, soft=40, hard=40)
    assert result.returncode == 1
    line = json.loads(result.stderr)
    assert (line["process"], line["cause"]) == (f"{role}-1", LINE.format(limit=40))


@pytest.mark.parametrize(
    ("soft", "hard", "raised"), [(40, 1024, 1024), (1024, 4200, 4096), (4100, 4200, 4100), (256, 256, 256)]
)
def test_a_low_soft_limit_is_raised_as_far_as_the_hard_one_lets_it(soft, hard, raised):
    assert run("-c", SHOW, soft=soft, hard=hard).stdout == f"{raised}\n"


def answered(connection):
    connection.settimeout(PATIENCE)
    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return connection.recv(9) == b"HTTP/1.1 "


def connected(port):
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize(("role", "option"), [("edge", "--http-port"), ("admin", "--admin-port")])
def test_a_server_without_descriptors_waits_and_says_so_once(tmp_path, role, option):
    port = free_port()
    log = tmp_path / "log"
    command = [sys.executable, "-P", "-m", "cli", role, option, str(port), "--data-dir", str(tmp_path)]
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(log.open("wb"))
        environment = {**clean_environment(), "FLOWHOOK_TOKEN": "fhk_test"}
        server = stack.enter_context(subprocess.Popen(command, env=environment, stdout=output, stderr=output))
        stack.callback(server.kill)
        assert answered(stack.enter_context(connected(port)))
        process = psutil.Process(server.pid)
        soft, hard = process.rlimit(psutil.RLIMIT_NOFILE)
        process.rlimit(psutil.RLIMIT_NOFILE, (process.num_fds(), hard))
        waiting = [stack.enter_context(connected(port)) for _ in range(20)]
        deadline = time.monotonic() + PATIENCE
        while b"no connection can be accepted" not in log.read_bytes():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        before = sum(process.cpu_times()[:2])
        time.sleep(2)  # a loop that fails again and again writes megabytes meanwhile
        assert sum(process.cpu_times()[:2]) - before < 1
        text = log.read_bytes()
        assert b"Traceback" not in text, text.decode()
        assert text.count(b"no connection can be accepted") == 1
        assert len(text) < 10_000
        process.rlimit(psutil.RLIMIT_NOFILE, (soft, hard))
        assert all(map(answered, waiting))
