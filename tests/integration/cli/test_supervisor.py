"""The supervisor with real child processes: order, restarts, drain, and that nothing outlives it."""

from __future__ import annotations

import json
import os
import signal

from support.patience import wait_until
from support.supervisors import alive


def test_processes_serve_in_order_and_drain_in_order(supervise):
    supervised = supervise(edges=2, runners=2)
    supervised.until_ready()
    assert supervised.stop() == 0
    events = supervised.events()
    started = [line.split()[1].partition("-")[0] for line in events if line.startswith("started")]
    drained = [line.split()[1].partition("-")[0] for line in events if line.startswith("drained")]
    assert started[0] == "router"
    assert sorted(started) == ["admin", "edge", "edge", "router", "runner", "runner"]
    assert started.index("edge") < started.index("runner")  # which gives out URLs with its port
    assert drained == ["edge", "edge", "runner", "runner", "router", "admin"]
    assert supervised.errors == []


def test_while_it_runs_files_name_who_runs_and_where(supervise):
    supervised = supervise(edges=2)
    supervised.until_ready()
    pids = supervised.pids()
    assert set(pids) == {"edge-1", "edge-2", "router-1", "runner-1", "admin-1"}
    assert all(map(alive, pids.values()))
    cluster = json.loads((supervised.data_dir / "run" / "cluster.json").read_text())
    assert cluster["pid"] == supervised.process.pid
    assert cluster["http_url"] == f"http://127.0.0.1:{cluster['http_port']}"
    assert 0 not in (cluster["http_port"], cluster["admin_port"], cluster["grpc_port"])
    supervised.stop()
    assert list((supervised.data_dir / "run").glob("*.pid")) == []
    assert not (supervised.data_dir / "run" / "cluster.json").exists()
    assert not any(map(alive, pids.values()))


def test_a_killed_process_is_started_again_at_once_on_its_port(supervise):
    supervised = supervise()
    supervised.until_ready()
    ports = (supervised.data_dir / "run" / "cluster.json").read_text()
    for name in ("router-1", "runner-1", "edge-1", "admin-1"):
        before = supervised.pid(name)
        os.kill(before, signal.SIGKILL)
        supervised.until_said(f"{name} is ready again")
        assert f"{name} was killed by SIGKILL; starting it again in 0.1 s" in supervised.lines
        assert supervised.pid(name) != before
        assert (supervised.data_dir / "run" / "cluster.json").read_text() == ports
    assert supervised.stop() == 0


def test_a_pid_file_that_cant_be_written_ends_nothing(supervise):
    supervised = supervise()
    supervised.until_ready()
    before = supervised.pid("runner-1")
    (
        supervised.data_dir / "run" / f".runner-1.pid.{supervised.process.pid}.tmp"
    ).mkdir()  # as a full disk does, it takes no file
    os.kill(before, signal.SIGKILL)
    supervised.until_said("runner-1 is ready again")
    assert "runner-1 has no pid file: Is a directory" in supervised.lines
    assert supervised.pids().keys() == {"edge-1", "router-1", "admin-1"}
    assert supervised.stop() == 0


def test_a_process_that_keeps_dying_is_started_ever_more_slowly(supervise):
    supervised = supervise()
    supervised.until_ready()
    (supervise.plan / "runner-1.crash").touch()
    os.kill(supervised.pid("runner-1"), signal.SIGKILL)
    supervised.until_said("runner-1 ended with exit code 70; starting it again in 0.4 s")
    (supervise.plan / "runner-1.crash").unlink()
    supervised.until_said("runner-1 is ready again")
    delays = [line.rpartition(" in ")[2] for line in supervised.lines if "starting it again" in line]
    assert delays[:3] == ["0.1 s", "0.2 s", "0.4 s"]


def test_a_process_that_is_refused_what_it_needs_ends_the_start_with_its_message(supervise):
    (supervise.plan / "router-1.refuse").touch()
    supervised = supervise()
    assert supervised.wait() == 1
    line = json.loads(supervised.errors[0])
    assert (line["process"], line["cause"]) == ("router-1", "another router owns this data directory")
    assert "router-1 can't start, see above" in supervised.errors
    assert supervised.events() == []


def test_a_router_that_keeps_failing_is_given_up_and_the_others_end(supervise):
    (supervise.plan / "router-1.crash").touch()
    supervised = supervise()
    assert supervised.wait() == 1
    assert "router-1 ended with exit code 70 5 times before it was ready" in supervised.errors
    assert supervised.pids() == {}


def test_all_processes_are_there_before_the_router_serves_and_wait_for_it(supervise):
    (supervise.plan / "router-1.held").touch()
    supervised = supervise()
    wait_until(lambda: len(supervised.pids()) == 4, "all processes run")
    assert supervised.events() == []
    (supervise.plan / "router-1.held").unlink()
    supervised.until_ready()
    assert supervised.events()[0] == "started router-1"


def test_once_the_router_has_served_a_process_that_fails_is_tried_for_as_long_as_it_takes(supervise):
    endings = [supervise.plan / "edge-1.crash", supervise.plan / "edge-2.refuse"]
    for each in endings:
        each.touch()
    supervised = supervise(edges=2)
    for each in endings:  # the fifth time, and it was never ready
        supervised.until_said(
            rf"{each.stem} ended with exit code {1 if each.suffix == '.refuse' else 70}; starting it again in 1.6 s"
        )
        each.unlink()
    supervised.until_ready()
    assert supervised.stop() == 0


def test_a_process_that_is_configured_wrongly_ends_the_start_even_then(supervise):
    (supervise.plan / "runner-1.usage").touch()
    supervised = supervise()
    assert supervised.wait() == 1
    assert "runner-1 can't start, see above" in supervised.errors


def test_a_process_that_is_killed_before_it_was_ever_ready_is_simply_started_again(supervise):
    (supervise.plan / "router-1.held").touch()
    supervised = supervise()

    def kills(name):
        return sum(line.startswith(f"{name} was killed") for line in supervised.lines)

    for times in range(1, 7):  # more often than a defect is forgiven
        for name in ("router-1", "edge-1"):
            wait_until(lambda name=name: supervised.pids().get(name), f"{name} runs")
            os.kill(supervised.pid(name), signal.SIGKILL)
            wait_until(lambda name=name, times=times: kills(name) == times, "noticed")
    (supervise.plan / "router-1.held").unlink()
    supervised.until_ready()
    assert supervised.stop() == 0


def test_what_is_waited_for_is_reported(supervise):
    (supervise.plan / "router-1.held").write_text("waiting for a quorum\nof the log")
    (supervise.plan / "router-2.held").write_text("waiting for a quorum\nof the log")
    (supervise.plan / "edge-1.held").touch()
    supervised = supervise(routers=2)
    supervised.until_said("waiting for router-1, router-2, which say: waiting for a quorum of the log")
    (supervise.plan / "router-2.held").write_text("following the log")
    says = "which says: waiting for a quorum of the log; router-2, which says: following the log"
    supervised.until_said(f"waiting for router-1, {says}")
    (supervise.plan / "router-2.held").unlink()
    assert not any("waiting for edge-1" in line for line in supervised.lines)
    (supervise.plan / "router-1.held").unlink()
    supervised.until_said("waiting for edge-1")
    (supervise.plan / "edge-1.held").unlink()
    (supervise.plan / "not-served").touch()
    supervised.until_said("waiting for admin-1, which says: no runner is ready")
    (supervise.plan / "not-served").unlink()
    supervised.until_ready()
    assert supervised.stop() == 0


def test_an_edge_that_does_not_know_the_flows_is_reported(supervise):
    (supervise.plan / "flows-unknown").touch()
    supervised = supervise()
    supervised.until_said("waiting for edge-1, which answers 404 for /hook/x")
    (supervise.plan / "flows-unknown").unlink()
    supervised.until_ready()


def test_only_a_restart_after_a_kill_from_outside_learns_that_the_losses_are_explained(supervise):
    supervised = supervise(runners=3)
    supervised.until_ready()
    endings = {"runner-1": signal.SIGKILL, "runner-2": signal.SIGSEGV, "runner-3": signal.SIGABRT}
    for name, number in endings.items():
        os.kill(supervised.pid(name), number)
        supervised.until_said(f"{name} is ready again")
        lines = [line for line in supervised.events() if line.startswith("explained") and line.endswith(name)]
        assert lines == [f"explained=False {name}", f"explained={number is signal.SIGKILL} {name}"]


def test_a_restart_that_was_reported_and_had_no_time_to_be_ready_leaves_it_to_the_next(supervise):
    supervised = supervise()
    supervised.until_ready()
    (supervise.plan / "runner-1.held").touch()
    os.kill(supervised.pid("runner-1"), signal.SIGKILL)
    supervised.until_said("starting it again in 0.1 s")
    wait_until(lambda: supervised.events().count("explained=True runner-1") == 1, "the second one was told")
    os.kill(supervised.pid("runner-1"), signal.SIGKILL)
    supervised.until_said("starting it again in 0.2 s")
    wait_until(lambda: supervised.events().count("explained=True runner-1") == 2, "the third one was told")


def test_a_refusal_after_the_first_start_is_tried_again(supervise):
    supervised = supervise()
    supervised.until_ready()
    (supervise.plan / "router-1.refuse").touch()
    os.kill(supervised.pid("router-1"), signal.SIGKILL)
    supervised.until_said("router-1 ended with exit code 1; starting it again")
    (supervise.plan / "router-1.refuse").unlink()
    supervised.until_said("router-1 is ready again")


def test_no_process_outlives_a_supervisor_that_is_killed(supervise):
    supervised = supervise(edges=2, runners=2)
    supervised.until_ready()
    pids = supervised.pids()
    assert len(pids) == 6
    supervised.process.kill()
    wait_until(lambda: not any(map(alive, pids.values())), "every child is gone")


def test_what_a_killed_supervisor_left_is_no_obstacle(supervise):
    first = supervise()
    first.until_ready()
    first.process.kill()
    first.wait()
    second = supervise()
    second.until_ready()
    assert second.stop() == 0


def test_a_second_supervisor_on_the_same_directory_is_refused_and_harms_nothing(supervise):
    first = supervise()
    first.until_ready()
    pids = first.pids()
    second = supervise()
    assert second.wait() == 1
    assert "a cluster is running on" in second.errors[0]
    assert first.pids() == pids
    assert first.stop() == 0


def test_a_second_signal_ends_a_drain_that_hangs(supervise):
    (supervise.plan / "edge-1.stubborn").touch()
    supervised = supervise()
    supervised.until_ready()
    pids = supervised.pids()
    supervised.process.send_signal(signal.SIGINT)
    supervised.until_said("stopping edge-1")
    assert supervised.stop(signal.SIGTERM) == 128 + signal.SIGTERM
    assert not any(map(alive, pids.values()))


def test_a_process_may_take_its_drain_and_more_before_it_is_killed(supervise, monkeypatch):
    monkeypatch.setenv("DRAIN_SECONDS", "1.5")
    (supervise.plan / "edge-1.stubborn").touch()
    supervised = supervise()
    supervised.until_ready()
    assert supervised.stop() == 0
    assert "edge-1 did not stop in 2 s; killing it" in supervised.lines


def test_a_signal_during_the_start_stops_it(supervise):
    supervised = supervise()
    supervised.until_said("router at ")
    assert supervised.stop(signal.SIGTERM) == 0
    assert supervised.pids() == {}
