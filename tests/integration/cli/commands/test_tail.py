"""`flowhook tail` against a running cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager

from support.command_flows import HELLO
from support.commands import PATIENCE, clean_environment, send_event


@contextmanager
def tailing(cluster, flow, *options):
    """Run `tail --flow`, with pipes; it is gone afterwards."""
    tail = subprocess.Popen(
        [sys.executable, "-P", "-m", "cli", "tail", "--flow", flow, *options],
        env=clean_environment(FLOWHOOK_DATA_DIR=cluster.data_dir),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield tail
    finally:
        tail.kill()
        tail.communicate()


def test_tail_says_that_there_is_no_such_flow_and_shows_its_executions_once_it_is_applied(cluster, tmp_path):
    path = tmp_path / "soon.yaml"
    path.write_text(HELLO.replace("hello", "soon"))
    with tailing(cluster, "soon", "--json") as tail:
        assert tail.stderr.readline() == "flowhook: there is no flow soon yet; waiting for it\n"
        assert "watching" in tail.stderr.readline()
        cluster.run("apply", "-f", path)
        send_event(cluster, "hello", "1")
        execution_id = send_event(cluster, "soon", "1")
        assert json.loads(tail.stdout.readline())["id"] == execution_id
    cluster.run("flows", "delete", "soon")


def test_tail_says_what_executions_wait_for(cluster, tmp_path):
    path = tmp_path / "ordered.yaml"
    path.write_text(HELLO.replace("hello", "ordered") + "execution: {order_by: '${ .body.account }', concurrency: 1}\n")
    cluster.run("apply", "-f", path)
    cluster.run("flows", "pause", "ordered")
    with tailing(cluster, "ordered") as tail:
        assert "watching" in tail.stderr.readline()
        first, second = (send_event(cluster, "ordered", '{"account": "A"}') for _ in range(2))
        lines = [tail.stdout.readline().partition("  ")[2] for _ in range(2)]
        assert lines == [f"{first}  ordered  pending\n", f"{second}  ordered  pending  blocked by {first}\n"]
    assert f"blocked by {first}\n" in cluster.run("executions", "list", "--flow", "ordered").out
    assert first in cluster.run("executions", "get", second).out
    cluster.run("flows", "delete", "ordered")


def test_tail_follows_a_flow_over_a_restart_of_the_router(cluster):
    with tailing(cluster, "hello", "--json") as tail:
        assert "watching" in tail.stderr.readline()
        first = send_event(cluster, "hello", "1")
        while (row := json.loads(tail.stdout.readline()))["status"] != "completed":
            assert row["id"] == first
        os.kill(int((cluster.data_dir / "run" / "router-1.pid").read_text()), signal.SIGKILL)
        while "watching" not in tail.stderr.readline():
            pass
        second = send_event(cluster, "hello", "2")
        while (row := json.loads(tail.stdout.readline()))["status"] != "completed":
            assert row["id"] == second
        tail.send_signal(signal.SIGINT)
        assert tail.wait(PATIENCE) == 130
