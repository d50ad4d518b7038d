"""The processes of `flowhook up`: forked from one that has their code, and has seen no settings."""

from __future__ import annotations

import os
import signal
import urllib.request
from pathlib import Path

import psutil
import pytest
from support.commands import Up, send_event, wait_for_end
from support.patience import wait_until

from cli.supervisor.cluster import PASSED_ON
from flowhook.sandbox.forking import supports_fork_server

pytestmark = pytest.mark.skipif(not supports_fork_server(), reason="each process has an interpreter of its own")
NAMES = ("router-1", "edge-1", "runner-1", "admin-1")
MIB = 1 << 20


def process(cluster, name):
    return psutil.Process(int((cluster.data_dir / "run" / f"{name}.pid").read_text()))


def is_alive(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_all_have_one_parent_and_share_most_of_their_memory(cluster):
    processes = [process(cluster, name) for name in NAMES]
    (server,) = {each.parent() for each in processes}
    assert server.parent().pid == cluster.process.pid
    for name, each in zip(NAMES, processes, strict=True):
        memory = each.memory_full_info()
        assert memory.uss < memory.rss / 2, name
    # with its fork server and its worker, of which there is one
    runner = processes[NAMES.index("runner-1")]
    at_rest = [server, *processes, *runner.children(), *runner.children()[0].children()]
    assert len(at_rest) == 7
    assert sum(each.memory_full_info().pss for each in at_rest) < 280 * MIB


def test_lists_of_processes_show_their_names(cluster):
    for name in NAMES:
        assert process(cluster, name).cmdline()[0] == f"flowhook {name}"


def test_no_process_shows_the_environment_of_the_supervisor(cluster):
    server = process(cluster, "edge-1").parent()
    for each in (server, *server.children(recursive=True)):
        variables = (Path(f"/proc/{each.pid}/environ")).read_bytes().split(b"\0")
        assert [one for one in variables if one and not one.startswith(tuple(map(str.encode, PASSED_ON)))] == []


def test_each_counts_what_its_role_does_and_nothing_else(cluster):
    def series(name):
        with urllib.request.urlopen(f"{cluster.where['admin_url']}/metrics") as answer:
            return {line.partition("{")[0] for line in answer.read().decode().splitlines() if f'"{name}"' in line}

    wait_until(lambda: "flowhook_attempts_running" in series("runner-1"), "the runner reports its metrics")
    for name in ("edge-1", "router-1"):
        assert "process_cpu_seconds_total" in series(name)
        assert "flowhook_attempts_running" not in series(name)


def test_one_that_dies_is_forked_again_and_so_are_all_with_the_one_that_forks(flows, tmp_path):
    up = Up(tmp_path, "--flows", flows, "--runners", 1)
    try:
        before = {name: process(up, name).pid for name in NAMES}
        server = process(up, "edge-1").parent()
        process(up, "edge-1").send_signal(signal.SIGKILL)
        wait_until(lambda: up.run("send", "hello", "--data", "{}").code == 0, "an edge accepts events again")
        assert process(up, "edge-1").parent() == server
        assert process(up, "edge-1").pid != before["edge-1"]

        killed = server.children(recursive=True)
        os.kill(server.pid, signal.SIGKILL)
        wait_until(lambda: not any(map(is_alive, killed)), "the kernel has ended what it forked")
        wait_until(lambda: up.run("send", "hello", "--data", "{}").code == 0, "an edge accepts events")
        wait_for_end(up, send_event(up, "hello", "{}"))
        assert process(up, "router-1").pid != before["router-1"]
        assert up.stop()[0] == 0
    finally:
        up.close()
