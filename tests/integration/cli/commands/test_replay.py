"""`flowhook executions replay` against a running cluster."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time

from support.command_flows import FAULTY
from support.commands import PATIENCE, clean_environment, send_event, wait_for_end


def test_a_replay_is_previewed_and_limited_in_its_rate(cluster):
    failed = [send_event(cluster, "faulty", "{}") for _ in range(3)]
    for row in cluster.run("executions", "list", "--flow", "faulty", "--json").rows:
        wait_for_end(cluster, row["id"])
    options = ("executions", "replay", "--flow", "faulty", "--status", "faulted")
    before = cluster.run("executions", "list", "--flow", "faulty", "--json").rows
    previewed = cluster.run(*options, "--dry-run", "--json").rows
    assert [row["id"] for row in previewed][-3:] == failed
    assert {row["status"] for row in previewed} == {"faulted"}
    assert cluster.run(*options, "--dry-run").out.endswith(f"{len(previewed)} of {len(previewed)} would be replayed\n")
    assert "would be replayed" in cluster.run("executions", "replay", failed[0], "--dry-run").out
    assert cluster.run("executions", "list", "--flow", "faulty", "--json").rows == before
    began = time.monotonic()
    replayed = cluster.run(*options, "--rate", "20", "--from", "failed", "--revision", "latest", "--json").rows
    assert time.monotonic() - began >= (len(previewed) - 1) / 20
    assert [row["replay_of"] for row in replayed] == [row["id"] for row in previewed]


def test_what_was_replayed_or_resolved_is_skipped_and_counted_when_it_is_replayed_in_bulk_once_more(cluster, tmp_path):
    path = tmp_path / "again.yaml"
    path.write_text(FAULTY.replace("faulty", "again"))
    assert cluster.run("apply", "-f", path).code == 0
    failed = [send_event(cluster, "again", "{}") for _ in range(3)]
    for execution_id in failed:
        wait_for_end(cluster, execution_id)
    reason = ("--reason", "refunded by hand")
    assert cluster.run("executions", "resolve", failed[0], *reason).out == f"{failed[0]}: resolved\n"
    unresolved = ("executions", "list", "--flow", "again", "--unresolved")
    assert [row["id"] for row in cluster.run(*unresolved, "--json").rows] == failed[:0:-1]
    path.write_text(FAULTY.replace("faulty", "again").replace(".body + 1", "1"))
    assert cluster.run("apply", "-f", path).code == 0
    bulk = ("executions", "replay", "--flow", "again", "--status", "faulted", "--revision", "latest")
    message = cluster.run(*bulk)
    assert message.out.splitlines()[-2:] == ["1 skipped: marked as resolved", "2 of 2 replayed"]
    for execution_id in failed[1:]:
        shown = cluster.run("executions", "get", execution_id, "--json").rows[0]
        assert wait_for_end(cluster, shown["replayed_by"])["replay_of"] == execution_id
    message = cluster.run(*bulk)
    assert message.code == 0
    assert sorted(message.out.splitlines()) == [
        "0 of 0 replayed",
        "1 skipped: marked as resolved",
        "2 skipped: replayed already",
    ]
    assert cluster.run(*unresolved).out == "no executions\n"
    single = cluster.run("executions", "replay", failed[1])
    assert (single.code, "--again replays it all the same" in single.err) == (1, True)
    assert cluster.run("executions", "replay", failed[0]).code == 1
    assert cluster.run(*bulk, "--again").out.endswith("3 of 3 replayed\n")
    listed = {row["id"]: row for row in cluster.run("executions", "list", "--flow", "again", "--json").rows}
    resolution = listed[failed[0]]["resolution"]
    assert (resolution["reason"], resolution["resolved_at"][-1]) == ("refunded by hand", "Z")
    assert "resolved: refunded by hand" in cluster.run("executions", "list", "--flow", "again").out


def test_one_is_replayed_from_a_task_or_with_an_output_or_with_another_body(cluster, tmp_path):
    path = tmp_path / "parts.yaml"
    path.write_text(FAULTY.replace("faulty", "parts") + "  - last: {set: {seen: '${ . }'}}\n")
    assert cluster.run("apply", "-f", path).code == 0
    failed = send_event(cluster, "parts", "{}")
    assert wait_for_end(cluster, failed)["status"] == "faulted"
    given = ("--from-task", "/do/0/add", "--set-output", '{"sum": 3}')
    preview = cluster.run("executions", "replay", failed, *given, "--dry-run")
    assert preview.out.splitlines()[:2] == [
        f"{failed}: faulted, 400 Expression Error; would be replayed",
        "on revision 1, with new idempotency keys",
    ]
    as_json = cluster.run("executions", "replay", failed, "--from-task", "/do/0/add", "--dry-run", "--json").rows[0]
    assert as_json["replay"]["again"] == [{"task": "/do/0/add", "kind": "set"}]
    (made,) = cluster.run("executions", "replay", failed, *given, "--json").rows
    shown = wait_for_end(cluster, made["id"])
    assert (shown["status"], shown["output"]) == ("completed", {"seen": {"sum": 3}})
    assert shown["replay"] == {"from": "task", "task": "/do/0/add", "output_given": True, "edited_from": None}
    body = tmp_path / "body.json"
    body.write_text("41")
    edited = ("--data", f"@{body}", "--content-type", "application/json", "--again", "--latest", "--json")
    (made,) = cluster.run("executions", "replay", failed, *edited).rows
    shown = wait_for_end(cluster, made["id"])
    assert shown["output"] == {"seen": {"sum": 42}}
    assert (shown["replay"]["from"], shown["replay"]["edited_from"]) == ("start", failed)
    unknown = cluster.run("executions", "replay", failed, "--again", "--from-task", "/do/7/x")
    assert (unknown.code, "did not run the task /do/7/x" in unknown.err) == (1, True)
    for wrong in (
        [failed, "--set-output", "1"],
        [failed, "--from-task", "/do/0/add", "--from-failed"],
        [failed, "--from-task", "/do/0/add", "--data", "1"],
        [failed, "--content-type", "text/plain"],
        [failed, "--data", f"@{tmp_path}/none"],
        ["--flow", "parts", "--status", "faulted", "--from-task", "/do/0/add"],
        ["--flow", "parts", "--status", "faulted", "--data", "1"],
    ):
        assert cluster.run("executions", "replay", *wrong).code == 2, wrong


def test_of_an_execution_and_its_replay_that_both_failed_one_is_replayed(cluster, tmp_path):
    path = tmp_path / "chain.yaml"
    path.write_text(FAULTY.replace("faulty", "chain"))
    assert cluster.run("apply", "-f", path).code == 0
    first = send_event(cluster, "chain", "{}")
    wait_for_end(cluster, first)
    (second,) = cluster.run("executions", "replay", first, "--json").rows
    wait_for_end(cluster, second["id"])
    bulk = ("executions", "replay", "--flow", "chain", "--status", "faulted")
    (third,) = cluster.run(*bulk, "--json").rows
    assert third["replay_of"] == second["id"]
    wait_for_end(cluster, third["id"])
    assert cluster.run(*bulk, "--dry-run").out.splitlines()[-2:] == [
        "2 skipped: their replays, which failed, come in their place",
        "1 of 1 would be replayed",
    ]
    settled = cluster.run("executions", "resolve", "--flow", "chain", "--reason", "the order was cancelled")
    assert settled.out.endswith("1 of 1 resolved\n")
    assert cluster.run(*bulk).out == "3 skipped: marked as resolved\n0 of 0 replayed\n"


def test_many_are_replayed_on_a_terminal_only_when_that_is_confirmed(cluster, tmp_path):
    path = tmp_path / "many.yaml"
    path.write_text(FAULTY.replace("faulty", "many"))
    assert cluster.run("apply", "-f", path).code == 0
    for execution_id in [send_event(cluster, "many", "{}") for _ in range(11)]:
        wait_for_end(cluster, execution_id)
    bulk = ("executions", "replay", "--flow", "many", "--status", "faulted")
    code, message = on_terminal(cluster, *bulk, typed="n\n")
    assert (code, "Replay 11 executions of many?" in message) == (1, True)
    assert "replayed as" not in message
    code, message = on_terminal(cluster, *bulk, typed="y\n")
    assert (code, message.count("replayed as")) == (0, 11)
    for row in cluster.run("executions", "list", "--flow", "many", "--json").rows:
        wait_for_end(cluster, row["id"])
    code, message = on_terminal(cluster, *bulk, "--yes", typed="")
    assert (code, message.count("replayed as"), "Replay 11" in message) == (0, 11, False)


def on_terminal(cluster, *arguments, typed):
    """Run a command whose stdin is a terminal, at which `typed` was typed; its exit code, and what it said."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, typed.encode())
        done = subprocess.run(
            [sys.executable, "-P", "-m", "cli", *arguments],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=clean_environment(FLOWHOOK_DATA_DIR=cluster.data_dir),
            timeout=PATIENCE,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    return done.returncode, done.stdout
