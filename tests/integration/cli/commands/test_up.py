"""`flowhook up`: what it prints, what it refuses, how it ends."""

from __future__ import annotations

import http.client
import os
import re
import shlex
import signal
from contextlib import closing
from pathlib import Path
from urllib.parse import urlencode

import pytest
from support.commands import PATIENCE, Up, flowhook, send_event, wait_for_end


def test_up_reports_urls_before_it_says_ready(cluster):
    where = cluster.where
    assert cluster.lines[-1] == "flowhook ready"
    assert f"webhook  {where['http_url']}/hook/hello" in cluster.lines
    assert not any("/hook/quiet" in line for line in cluster.lines)
    assert f"admin    {where['admin_url']}" in cluster.lines
    assert f"grpc     {where['grpc_address']}" in cluster.lines


def test_up_prints_the_command_that_lists_executions(cluster):
    (line,) = (line for line in cluster.lines if line.startswith("list "))
    program, *arguments = shlex.split(line)[1:]
    assert program == "flowhook"
    assert flowhook(*arguments).code == 0


def test_up_prints_a_link_that_logs_in_once(cluster):
    admin = cluster.where["admin_url"]
    (line,) = (line for line in cluster.lines if line.startswith("console "))
    code = line.split()[1].removeprefix(f"{admin}/login#")

    def log_in(**headers):
        body = urlencode({"code": code}).encode()
        connection = http.client.HTTPConnection(admin.removeprefix("http://"), timeout=PATIENCE)
        with closing(connection):
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            connection.request("POST", "/login", body, form | headers)
            return connection.getresponse().status

    assert log_in(**{"X-Forwarded-For": "192.0.2.1"}) == 401
    assert log_in() == 303
    assert log_in() == 401


def test_commands_of_another_directory_do_not_see_this_cluster(cluster, tmp_path):
    result = cluster.run("flows", "list", "--data-dir", tmp_path)
    assert result.code == 1
    assert "no token" in result.err


def test_a_second_up_and_a_second_router_on_the_data_are_refused_at_once(cluster):
    second = cluster.run("up")
    assert (second.code, second.out) == (1, "")
    assert "a cluster is running on" in second.err
    router = cluster.run("router", "--grpc-port", "0")
    assert router.code == 1
    assert len(router.err.splitlines()) == 1
    assert cluster.run("flows", "list").code == 0


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="the kernel does not tell")
def test_it_becomes_a_small_supervisor_with_its_process_id_and_what_people_look_for(cluster):
    process = Path(f"/proc/{cluster.process.pid}")
    assert cluster.where["pid"] == cluster.process.pid
    assert b"flowhook\0up\0" in (process / "cmdline").read_bytes()
    rollup = (process / "smaps_rollup").read_text()
    private = sum(map(int, re.findall(r"^Private_\w+: +(\d+) kB", rollup, re.MULTILINE)))
    assert private < 25 * 1024


def test_several_edges_share_one_port_and_it_drains_and_leaves_nothing_running(flows, tmp_path):
    up = Up(tmp_path, "--flows", flows, "--edges", 2, "--runners", 1)
    try:
        assert {path.stem for path in (tmp_path / "run").glob("edge-*.pid")} == {"edge-1", "edge-2"}
        os.kill(int((tmp_path / "run" / "edge-1.pid").read_text()), signal.SIGKILL)
        send_event(up, "hello", "{}")
        code, lines, _ = up.stop()
    finally:
        up.close()
    assert code == 0
    assert [line for line in lines if line.startswith("stopping")] == [
        "stopping edge-1, edge-2",
        "stopping runner-1",
        "stopping router-1",
        "stopping admin-1",
    ]
    assert not list((tmp_path / "run").glob("*.pid"))


def test_it_goes_on_when_nobody_reads_what_it_says(flows, tmp_path):
    up = Up(tmp_path, "--flows", flows, "--runners", 1)
    try:
        up.process.stdout.close()
        os.kill(int((tmp_path / "run" / "runner-1.pid").read_text()), signal.SIGKILL)
        wait_for_end(up, send_event(up, "hello", "{}"))
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(PATIENCE) == 0
    finally:
        up.process.stdout = None
        up.close()
