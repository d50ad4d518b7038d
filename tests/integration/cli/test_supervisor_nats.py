"""NATS servers and several routers under the supervisor."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest
from support.patience import PATIENCE, wait_until
from support.supervisors import alive

SERVERS = {"nats-1", "nats-2", "nats-3"}


def monitor(supervised, name):
    """Return the monitoring endpoint that a server is configured with."""
    return json.loads((supervised.data_dir / name / "nats.conf").read_text())["http"]


def state_of(address):
    with urllib.request.urlopen(f"http://{address}/varz", timeout=PATIENCE) as response:
        return json.load(response)


def test_nats_servers_are_processes_of_the_cluster_that_start_first_restart_and_stop_last(supervise):
    supervised = supervise(nats=True)
    supervised.until_ready()
    pids, address = supervised.pids(), monitor(supervised, "nats-2")
    assert set(pids) > SERVERS
    assert state_of(address)["jetstream"]["config"]["sync_always"]

    os.kill(pids["nats-2"], signal.SIGKILL)
    supervised.until_said("nats-2 is ready again")
    assert "nats-2 was killed by SIGKILL; starting it again in 0.1 s" in supervised.lines
    found = state_of(address)
    assert (found["server_name"], found["jetstream"]["meta"]["cluster_size"]) == ("nats-2", 3)

    assert supervised.stop() == 0
    stopping = [line for line in supervised.lines if line.startswith("stopping")]
    assert stopping[-1] == "stopping nats-1, nats-2, nats-3"
    assert not any(map(alive, pids.values()))
    assert "Server Exiting" in (supervised.data_dir / "nats-1" / "nats.log").read_text()
    assert supervised.errors == []


def test_nats_servers_end_when_the_supervisor_is_killed(supervise):
    supervised = supervise(nats=True)
    wait_until(lambda: set(supervised.pids()) > SERVERS, "servers run")
    pids = supervised.pids()
    supervised.process.kill()
    wait_until(lambda: not any(map(alive, pids.values())), "servers end")


def test_each_router_listens_on_its_port_again_after_a_restart(supervise):
    supervised = supervise(routers=3)
    supervised.until_ready()
    cluster = json.loads((supervised.data_dir / "run" / "cluster.json").read_text())
    addresses = cluster["grpc_address"].split(",")
    assert len(set(addresses)) == 3
    assert cluster["grpc_port"] == int(addresses[0].rpartition(":")[2])

    os.kill(supervised.pid("router-2"), signal.SIGKILL)
    supervised.until_said("router-2 is ready again")
    host, _, port = addresses[1].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE):
        pass
    assert supervised.stop() == 0


def test_routers_wait_for_the_servers_and_one_that_cant_start_ends_the_start_with_where_to_look(supervise):
    (supervise.plan.parent / "data" / "nats-1").mkdir(parents=True)
    (supervise.plan.parent / "data" / "nats-1" / "jetstream").touch()  # where its streams are to be
    supervised = supervise(nats=True)
    assert supervised.wait() == 1
    log = supervised.data_dir / "nats-1" / "nats.log"
    assert f"nats-1 ended with exit code 1 5 times before it was ready; see {log}" in supervised.errors
    assert supervised.events() == []
    assert supervised.pids() == {}


WATCHED = """
import os, subprocess, sys
from cli.supervisor import exec_child
sys.platform = "other"
exec_child.main([sys.argv[1], sys.executable, "-c", "import sys; print(1, flush=True); sys.stdin.read()"])
"""
PARENT = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid())], stdin=subprocess.PIPE)
print(child.pid, flush=True)
child.wait()
"""


@pytest.mark.parametrize("died", ["parent", "child"])
def test_where_the_kernel_does_not_report_a_parents_end_it_is_watched(died):
    with subprocess.Popen([sys.executable, "-c", PARENT, WATCHED], stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        assert parent.stdout.readline() == "1\n"
        os.kill(parent.pid if died == "parent" else child, signal.SIGKILL)
        assert parent.stdout.read() == ""  # which the child and what watches it held open
    assert not alive(child)
