"""The frame around every process, seen from outside: exit codes, messages, signals, readiness and reports."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import grpc
import pytest
from support.patience import PATIENCE
from support.ports import free_port

from flowhook.client import channel
from flowhook.process.process_state import ProcessState
from flowhook.process.supervisor_socket import PARENT_FD
from flowhook.reporting.process_reports import ProcessReporter
from flowhook.v1 import cluster_service_pb2, cluster_service_pb2_grpc

FRAME = """
import asyncio, sys
from flowhook.process.settings import CommonSettings
from flowhook.errors import InvalidError
from flowhook.process.lifecycle import run

async def serve(lifecycle):
    lifecycle.announce("http", "::1", 8080)
    lifecycle.ready.set()
    {body}

sys.exit(run(serve, CommonSettings(process_name="edge-1", log_format="json"{settings}), "edge"))
"""
UNTIL_STOPPED = "await lifecycle.stop.wait()"


def _frame(body, **settings):
    return FRAME.format(body=body, settings="".join(f", {name}={value!r}" for name, value in settings.items()))


@pytest.fixture
def start():
    """Starts a process whose `serve` goes on with the given statement, with a parent's socket."""
    processes = []

    def run(body, *, supervised=True, **settings):
        ours, theirs = socket.socketpair()
        environment = {**os.environ, PARENT_FD: str(theirs.fileno())} if supervised else dict(os.environ)
        process = subprocess.Popen(
            [sys.executable, "-c", _frame(body, **settings)],
            env=environment,
            pass_fds=[theirs.fileno()] if supervised else [],
            stderr=subprocess.PIPE,
            text=True,
        )
        theirs.close()
        ours.settimeout(PATIENCE)
        processes.append((process, ours))
        return process, ours

    yield run
    for process, ours in processes:
        process.kill()
        process.wait()
        process.stderr.close()
        ours.close()


def _lines(process):
    return [json.loads(line) for line in process.stderr.read().splitlines()]


def test_it_reports_to_its_parent_that_it_is_ready_and_where(start):
    _, parent = start(UNTIL_STOPPED)
    assert json.loads(parent.recv(1000)) == {"ready": True, "addresses": {"http": "[::1]:8080"}}


def test_one_without_a_name_is_distinguished_from_those_in_other_containers():
    frame = _frame("pass").replace('process_name="edge-1", ', "")
    process = subprocess.Popen([sys.executable, "-c", frame], stderr=subprocess.PIPE, text=True)
    _, errors = process.communicate(timeout=PATIENCE)
    assert json.loads(errors.splitlines()[0])["process"] == f"edge-{process.pid}@{socket.gethostname()}"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_it_to_drain_and_it_ends_well(start, number):
    process, parent = start(UNTIL_STOPPED)
    parent.recv(1000)
    process.send_signal(number)
    assert process.wait(PATIENCE) == 0
    assert [line["event"] for line in _lines(process)] == ["ready", "stopping", "stopped"]


def test_a_second_signal_ends_it_at_once(start):
    process, parent = start("await lifecycle.stop.wait(); print('draining', file=sys.stderr); await asyncio.sleep(60)")
    parent.recv(1000)
    process.send_signal(signal.SIGTERM)
    while "draining" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 128 + signal.SIGTERM


def test_it_ends_when_its_parent_is_gone(start):
    process, parent = start(UNTIL_STOPPED)
    parent.recv(1000)
    parent.close()
    assert process.wait(PATIENCE) == 1


def test_without_a_parent_it_runs_on_its_own(start):
    process, _ = start("", supervised=False)
    assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize(
    "body",
    [
        "raise InvalidError('no such storage')",
        "raise ExceptionGroup('tasks', [ExceptionGroup('more', [InvalidError('no such storage')])])",
    ],
)
def test_a_refusal_is_one_line_and_exit_code_1(start, body):
    process, _ = start(body)
    assert process.wait(PATIENCE) == 1
    line = json.loads(process.stderr.read().splitlines()[-1])
    assert line.pop("timestamp")
    assert line == {
        "event": "can't run",
        "reason": "INVALID",
        "cause": "no such storage",
        "level": "critical",
        "logger": "flowhook.process.logs",
        "process": "edge-1",
    }


def test_a_defect_is_logged_and_exit_code_70(start):
    process, _ = start("raise RuntimeError('Bearer abcdefgh')")
    assert process.wait(PATIENCE) == 70
    failure = _lines(process)[-1]
    assert failure["event"] == "process failed"
    assert "RuntimeError" in failure["exception"]
    assert "abcdefgh" not in failure["exception"]


SUPERVISED = """
import os
from flowhook.process.supervisor_socket import receive_settings, take_socket

print(receive_settings(), os.environ.get("FLOWHOOK_ROUTER"), flush=True)
with take_socket() as parent:
    parent.sendall(os.environ.get("FLOWHOOK_ROUTER", "-").encode())
"""


@pytest.fixture
def waiting():
    """A process that waits for the rest of its settings, and its parent's socket."""
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(
        [sys.executable, "-c", SUPERVISED],
        env={**os.environ, PARENT_FD: str(theirs.fileno())},
        pass_fds=[theirs.fileno()],
        stdout=subprocess.PIPE,
        text=True,
    )
    theirs.close()
    ours.settimeout(PATIENCE)
    with ours:
        yield process, ours
    process.kill()
    process.communicate()


def test_a_process_takes_the_rest_of_its_settings_from_its_parent_in_parts_of_any_size(waiting):
    process, parent = waiting
    for part in (b'{"FLOWHOOK_ROUTER": "127.0.', b'0.1:50123"}\n'):
        parent.sendall(part)
    assert process.stdout.readline() == "True 127.0.0.1:50123\n"
    assert parent.recv(100) == b"127.0.0.1:50123"


def test_a_process_that_waits_for_its_settings_notices_that_its_parent_is_gone(waiting):
    process, parent = waiting
    parent.close()
    assert process.stdout.readline() == "False None\n"


class Cluster(cluster_service_pb2_grpc.ClusterServiceServicer):
    """Collects reports."""

    def __init__(self):
        self.reports = asyncio.Queue()

    async def ReportProcess(self, request, context):  # noqa: N802 - the name of the RPC
        await self.reports.put(request.process)
        return cluster_service_pb2.ReportProcessResponse()


async def _serve(cluster, port=0):
    server = grpc.aio.server(options=channel.SERVER_OPTIONS)
    cluster_service_pb2_grpc.add_ClusterServiceServicer_to_server(cluster, server)
    port = server.add_insecure_port(f"127.0.0.1:{port or free_port()}")
    await server.start()
    return server, port


@pytest.fixture
async def cluster():
    cluster = Cluster()
    server, port = await _serve(cluster)
    cluster.target = f"127.0.0.1:{port}"
    yield cluster
    await server.stop(0)


def measured(text):
    async def metrics():
        return text

    return metrics


async def test_reports_follow_readiness(cluster):
    lifecycle = ProcessState(name="edge-1", role="edge")
    lifecycle.metrics = measured(b"metric 1\n")
    lifecycle.detail = "no router"
    async with channel.connect(cluster.target, "t") as connection, asyncio.timeout(PATIENCE):
        reporter = ProcessReporter(connection, lifecycle, interval=0.05)
        reporting = asyncio.create_task(reporter.run())
        report = await cluster.reports.get()
        assert (report.name, report.role, report.pid) == ("edge-1", "edge", os.getpid())
        assert (report.ready, report.detail, report.metrics) == (False, "no router", b"metric 1\n")
        lifecycle.ready.set()
        while not (report := await cluster.reports.get()).ready:
            pass
        assert report.detail == ""
        lifecycle.stop.set()
        while (report := await cluster.reports.get()).ready:
            pass
        assert report.detail == "draining"
        reporting.cancel()
        await asyncio.gather(reporting, return_exceptions=True)


async def test_metrics_that_are_too_many_are_left_out_of_a_report(cluster):
    lifecycle = ProcessState(name="edge-1", role="edge")
    lifecycle.metrics = measured(b"m 1\n" * 10_001)
    lifecycle.detail = "no\nrouter" + "x" * 1000
    async with channel.connect(cluster.target, "t") as connection, asyncio.timeout(PATIENCE):
        reporting = asyncio.create_task(ProcessReporter(connection, lifecycle).run())
        report = await cluster.reports.get()
        assert (report.name, report.metrics) == ("edge-1", b"")
        assert (report.detail[:9], len(report.detail)) == ("no router", 512)
        reporting.cancel()
        await asyncio.gather(reporting, return_exceptions=True)


async def test_reports_go_on_when_the_router_was_away():
    server, port = await _serve(Cluster())
    await server.stop(0)
    async with channel.connect(f"127.0.0.1:{port}", "t") as connection, asyncio.timeout(PATIENCE):
        reporter = ProcessReporter(connection, ProcessState(name="edge-1", role="edge"), interval=0.05)
        reporting = asyncio.create_task(reporter.run())
        await connection.wait_for_state_change(connection.get_state())
        cluster = Cluster()
        server, _ = await _serve(cluster, port)
        assert (await cluster.reports.get()).name == "edge-1"
        reporting.cancel()
        await asyncio.gather(reporting, return_exceptions=True)
    await server.stop(0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prctl is Linux's")
@pytest.mark.parametrize(("parent", "lives"), [("os.getppid()", True), ("os.getppid() + 1", False)])
def test_a_process_whose_parent_was_gone_before_it_asked_to_end_with_it_ends_at_once(parent, lives):
    script = f"import os; from flowhook.process import kernel as d; d.die_with_parent({parent}); print('lives')"
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == ((0, "lives\n") if lives else (1, ""))


def test_it_has_a_private_port_for_health_checks_if_it_is_given_one(start):
    body = 'lifecycle.detail = "no router"; lifecycle.ready.clear(); await lifecycle.stop.wait()'
    process, parent = start(body, health_port=0)
    address = json.loads(parent.recv(1000))["addresses"]["health"]
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"http://{address}/readyz", timeout=PATIENCE)
    assert caught.value.code == 503
    assert json.load(caught.value)["reasons"] == ["no router"]
    caught.value.close()
    with urllib.request.urlopen(f"http://{address}/healthz", timeout=PATIENCE) as response:
        assert json.load(response)["process"] == "edge-1"
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0


def test_a_process_that_is_not_ready_for_a_while_logs_that_and_when_it_is_again(start):
    body = (
        f"asyncio.get_running_loop().add_signal_handler({signal.SIGUSR1:d}, lifecycle.ready.set)"
        "; await asyncio.sleep(0); lifecycle.detail = 'the router is gone'; lifecycle.ready.clear()"
        "; await lifecycle.stop.wait()"
    )
    process, _ = start(body)

    def until(event):
        while (line := json.loads(process.stderr.readline()))["event"] != event:
            pass
        return line

    assert until("not ready")["cause"] == "the router is gone"
    process.send_signal(signal.SIGUSR1)
    assert until("ready again")["seconds"] > 0
