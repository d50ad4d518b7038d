"""Commands against a running cluster, as scripts use them."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest
from support.commands import PATIENCE, Up, clean_environment
from support.supervisors import until

DOCUMENT = "document: {dsl: 1.0.3, namespace: default, name: NAME, version: 1.0.0}\n"
HELLO = DOCUMENT.replace("NAME", "hello") + "webhook: {auth: none}\ndo:\n  - keep: {set: '${ .body }'}\n"
SIGNED = DOCUMENT.replace("NAME", "signed") + (
    "webhook:\n  auth:\n    - github: {secret: gh}\n    - basic: {username: bank, secret: pw}\n"
    "    - api_key: {query: key, secret: key}\n"
    "do:\n  - keep: {set: {query: '${ .query }'}}\n"
)
FAULTY = DOCUMENT.replace("NAME", "faulty") + "webhook: {auth: none}\ndo:\n  - add: {set: {sum: '${ .body + 1 }'}}\n"
QUIET = DOCUMENT.replace("NAME", "quiet") + "do:\n  - keep: {set: {a: 1}}\n"


@pytest.fixture(scope="module")
def flows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flows")
    for name, text in {"hello": HELLO, "signed": SIGNED, "faulty": FAULTY, "quiet": QUIET}.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def cluster(flows, tmp_path_factory):
    up = Up(tmp_path_factory.mktemp("cluster"), "--flows", flows, "--runners", 1)
    yield up
    up.close()


def sent(cluster, flow, data, *options):
    """Send, and return the execution's ID."""
    result = cluster.run("send", flow, "--data", data, "--json", *options)
    assert result.code == 0, result
    return json.loads(result.rows[0]["body"])["id"]


def ended(cluster, execution_id):
    """Wait for an execution to end and return what `get --json` prints."""
    found = []

    def look():
        found[:] = cluster.run("executions", "get", execution_id, "--json").rows
        return found[0]["ended_at"] is not None

    until(look, f"{execution_id} ends")
    return found[0]


def test_a_flow_is_drawn_by_its_id_and_from_its_file_alike(cluster, flows):
    by_id = cluster.run("flows", "graph", "hello")
    assert by_id.code == 0
    assert by_id.out.startswith('flowchart TD\n    start(["hello"])\n')
    assert cluster.run("flows", "graph", "--file", flows / "hello.yaml").out == by_id.out
    assert cluster.run("flows", "graph", "hello", "--json").rows == [{"id": "hello", "mermaid": by_id.out}]


def test_up_tells_urls_before_it_says_ready(cluster):
    where = cluster.where
    assert cluster.lines[-1] == "flowhook ready"
    assert f"webhook  {where['http_url']}/hook/hello" in cluster.lines
    assert not any("/hook/quiet" in line for line in cluster.lines)
    assert f"admin    {where['admin_url']}" in cluster.lines
    assert f"grpc     {where['grpc_address']}" in cluster.lines


def test_applying_again_changes_nothing_and_a_change_makes_a_revision(cluster, flows, tmp_path):
    again = cluster.run("apply", "-f", flows, "--json")
    assert {row["id"]: row["change"] for row in again.rows} == dict.fromkeys(
        ["faulty", "hello", "quiet", "signed"], "unchanged"
    )
    path = tmp_path / "new.yaml"
    path.write_text(QUIET.replace("quiet", "fresh"))
    assert cluster.run("apply", "-f", path, "--dry-run").out == "fresh: created (dry run)\n"
    assert cluster.run("apply", "-f", path).out == "fresh: created\n"
    path.write_text(path.read_text().replace("a: 1", "a: 2"))
    assert cluster.run("apply", "-f", path).out == "fresh: updated\n"
    assert cluster.run("flows", "get", "fresh").out == path.read_text()
    assert cluster.run("flows", "get", "fresh", "--json").rows[0]["revision"] == 2
    missing = cluster.run("flows", "get", "fresh", "--revision", "9")
    assert (missing.code, missing.err) == (1, "flowhook: flow fresh has no revision 9\n")
    assert cluster.run("flows", "delete", "fresh").out == "fresh: deleted\n"
    assert cluster.run("flows", "get", "fresh").code == 1


def test_flows_are_listed_paused_and_resumed(cluster):
    rows = cluster.run("flows", "list", "--json").rows
    assert [row["id"] for row in rows] == ["faulty", "hello", "quiet", "signed"]
    assert {row["id"] for row in rows if not row["webhook"]} == {"quiet"}
    assert cluster.run("flows", "pause", "hello").out == "hello: paused\n"
    assert "paused" in cluster.run("flows", "list").out
    assert cluster.run("flows", "resume", "hello").out == "hello: active\n"


def test_flows_tell_when_their_schedule_starts_them_next(cluster, tmp_path):
    path = tmp_path / "often.yaml"
    path.write_text(QUIET.replace("quiet", "often") + "schedule: {every: P1D}\n")
    cluster.run("apply", "-f", path)
    try:
        (row,) = cluster.run("flows", "get", "often", "--json").rows
        updated, following = (datetime.fromisoformat(row[name]) for name in ("updated_at", "next_at"))
        assert following - updated == timedelta(days=1)
        listed = {each["id"]: each["next_at"] for each in cluster.run("flows", "list", "--json").rows}
        assert (listed["often"], listed["quiet"]) == (row["next_at"], None)
        assert row["next_at"] in cluster.run("flows", "list").out
    finally:
        cluster.run("flows", "delete", "often")


def test_an_execution_is_shown_with_its_request_and_output(cluster):
    execution_id = sent(cluster, "hello", '{"n": 1}', "--header", "X-Kind: test")
    shown = ended(cluster, execution_id)
    assert list(shown)[:8] == ["id", "flow", "revision", "status", "received_at", "ended_at", "attempts", "error"]
    assert (shown["id"], shown["flow"], shown["status"], shown["error"]) == (execution_id, "hello", "completed", None)
    assert datetime.fromisoformat(shown["received_at"]) <= datetime.fromisoformat(shown["ended_at"])
    assert shown["request"]["body"] == {"n": 1}
    assert shown["request"]["headers"]["x-kind"] == "test"
    assert (shown["tasks"], shown["output"]) == ([], {"n": 1})
    assert cluster.run("executions", "get", execution_id, "--raw").out == '{"n": 1}'
    assert execution_id in cluster.run("executions", "get", execution_id).out


def test_executions_are_listed_by_flow_and_status_and_replayed_in_bulk(cluster):
    failed = [sent(cluster, "faulty", "{}") for _ in range(2)]
    for execution_id in failed:
        assert ended(cluster, execution_id)["error"]["type"].endswith("/errors/expression")
    listed = cluster.run("executions", "list", "--flow", "faulty", "--status", "faulted", "--json").rows
    assert [row["id"] for row in listed] == failed[::-1]
    assert len(cluster.run("executions", "list", "--flow", "faulty", "--limit", "1", "--json").rows) == 1
    assert "Expression" in cluster.run("executions", "list", "--flow", "faulty").out
    replayed = cluster.run("executions", "replay", "--flow", "faulty", "--status", "faulted", "--json").rows
    assert [row["replay_of"] for row in replayed] == failed
    assert ended(cluster, replayed[0]["id"])["replay_of"] == failed[0]
    single = cluster.run("executions", "replay", failed[0])
    assert single.out.startswith(f"{failed[0]}: replayed as evt_")


@pytest.mark.parametrize(
    "command",
    [
        ["executions", "list"],
        ["executions", "list", "--json"],
        ["executions", "list", "--status", "faulted"],
        ["executions", "replay", "--status", "faulted"],
        ["rejections", "list"],
    ],
)
def test_what_is_asked_of_a_flow_that_there_is_not_is_refused(cluster, command):
    refused = cluster.run(*command, "--flow", "nope")
    assert (refused.code, refused.out, refused.err) == (1, "", "flowhook: there is no flow nope\n")


def test_a_flow_of_which_there_is_nothing_yet_is_no_error(cluster):
    for command, said in (("executions", "no executions\n"), ("rejections", "no rejections\n")):
        listed = cluster.run(command, "list", "--flow", "quiet")
        assert (listed.code, listed.out, listed.err) == (0, said, "")


def test_what_is_kept_of_a_deleted_flow_is_listed(cluster, tmp_path):
    path = tmp_path / "gone.yaml"
    path.write_text(HELLO.replace("hello", "gone"))
    cluster.run("apply", "-f", path)
    execution_id = sent(cluster, "gone", "{}")
    ended(cluster, execution_id)
    assert cluster.run("flows", "delete", "gone").code == 0
    assert [row["id"] for row in cluster.run("executions", "list", "--flow", "gone", "--json").rows] == [execution_id]


def test_a_replay_is_previewed_and_limited_in_its_rate(cluster):
    failed = [sent(cluster, "faulty", "{}") for _ in range(3)]
    for row in cluster.run("executions", "list", "--flow", "faulty", "--json").rows:
        ended(cluster, row["id"])
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
    failed = [sent(cluster, "again", "{}") for _ in range(3)]
    for execution_id in failed:
        ended(cluster, execution_id)
    reason = ("--reason", "refunded by hand")
    assert cluster.run("executions", "resolve", failed[0], *reason).out == f"{failed[0]}: resolved\n"
    unresolved = ("executions", "list", "--flow", "again", "--unresolved")
    assert [row["id"] for row in cluster.run(*unresolved, "--json").rows] == failed[:0:-1]
    path.write_text(FAULTY.replace("faulty", "again").replace(".body + 1", "1"))
    assert cluster.run("apply", "-f", path).code == 0
    bulk = ("executions", "replay", "--flow", "again", "--status", "faulted", "--revision", "latest")
    said = cluster.run(*bulk)
    assert said.out.splitlines()[-2:] == ["1 skipped: marked as resolved", "2 of 2 replayed"]
    for execution_id in failed[1:]:
        shown = cluster.run("executions", "get", execution_id, "--json").rows[0]
        assert ended(cluster, shown["replayed_by"])["replay_of"] == execution_id
    said = cluster.run(*bulk)
    assert said.code == 0
    assert sorted(said.out.splitlines()) == [
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


def test_of_an_execution_and_its_replay_that_both_failed_one_is_replayed(cluster, tmp_path):
    path = tmp_path / "chain.yaml"
    path.write_text(FAULTY.replace("faulty", "chain"))
    assert cluster.run("apply", "-f", path).code == 0
    first = sent(cluster, "chain", "{}")
    ended(cluster, first)
    (second,) = cluster.run("executions", "replay", first, "--json").rows
    ended(cluster, second["id"])
    bulk = ("executions", "replay", "--flow", "chain", "--status", "faulted")
    (third,) = cluster.run(*bulk, "--json").rows
    assert third["replay_of"] == second["id"]
    ended(cluster, third["id"])
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
    for execution_id in [sent(cluster, "many", "{}") for _ in range(11)]:
        ended(cluster, execution_id)
    bulk = ("executions", "replay", "--flow", "many", "--status", "faulted")
    code, said = on_terminal(cluster, *bulk, typed="n\n")
    assert (code, "Replay 11 executions of many?" in said) == (1, True)
    assert "replayed as" not in said
    code, said = on_terminal(cluster, *bulk, typed="y\n")
    assert (code, said.count("replayed as")) == (0, 11)
    for row in cluster.run("executions", "list", "--flow", "many", "--json").rows:
        ended(cluster, row["id"])
    code, said = on_terminal(cluster, *bulk, "--yes", typed="")
    assert (code, said.count("replayed as"), "Replay 11" in said) == (0, 11, False)


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


def test_an_execution_is_suspended_and_resumed(cluster):
    cluster.run("flows", "pause", "hello")
    execution_id = sent(cluster, "hello", "{}")
    assert cluster.run("executions", "suspend", execution_id).out == f"{execution_id}: suspended\n"
    cluster.run("flows", "resume", "hello")
    assert cluster.run("executions", "list", "--status", "suspended", "--json").rows[0]["id"] == execution_id
    assert cluster.run("executions", "resume", execution_id, "--json").rows[0]["status"] in {"pending", "running"}
    assert ended(cluster, execution_id)["status"] == "completed"
    again = cluster.run("executions", "resume", execution_id)
    assert (again.code, len(again.err.splitlines())) == (1, 1)


def test_an_execution_that_waits_is_cancelled_and_one_that_ended_is_not(cluster):
    cluster.run("flows", "pause", "hello")
    execution_id = sent(cluster, "hello", "{}")
    assert cluster.run("executions", "cancel", execution_id).out == f"{execution_id}: cancelled\n"
    again = cluster.run("executions", "cancel", execution_id)
    assert (again.code, len(again.err.splitlines())) == (1, 1)
    cluster.run("flows", "resume", "hello")


def test_send_signs_with_the_first_kind_whose_secret_is_set(cluster):
    refused = cluster.run("send", "signed", "--data", "{}")
    assert (refused.code, refused.out) == (1, "")
    assert refused.err == "flowhook: secret gh is not set: flowhook secrets set gh\n"
    for secret, value in (("key", "k1"), ("pw", "pass"), ("gh", "top-secret")):
        assert cluster.run("secrets", "set", secret, "--value", value).out == f"{secret}: set\n"
        execution_id = sent(cluster, "signed", "{}")
        assert ended(cluster, execution_id)["request"]["principal"]["secret"] == secret
        assert cluster.run("secrets", "delete", secret).code == 0 or secret == "gh"


def test_send_says_that_a_repeated_delivery_started_nothing_unless_it_gets_an_id_of_its_own(cluster):
    cluster.run("secrets", "set", "gh", "--value", "github-secret-of-32-characters-x")
    github = ("send", "signed", "--data", "{}", "--header", "X-GitHub-Delivery: d-1", "--json")
    (first,) = cluster.run(*github).rows
    assert (first["duplicate"], first["execution"]) == (False, json.loads(first["body"])["id"])
    again = cluster.run(*github[:-1])
    assert (again.code, "started nothing" in again.err, first["execution"] in again.out) == (0, True, True)
    (same,) = cluster.run(*github).rows
    assert (same["duplicate"], same["execution"]) == (True, first["execution"])
    (other,) = cluster.run(*github, "--new-id").rows
    assert (other["duplicate"], other["execution"] != first["execution"]) == (False, True)


@pytest.mark.parametrize("respond", ["{}", "{body: {ok: true}}", "{mode: reply}"])
def test_send_knows_the_execution_also_where_the_answer_does_not_name_it(cluster, tmp_path, respond):
    name = f"keyed-{len(respond)}"
    path = tmp_path / "keyed.yaml"
    webhook = f"webhook: {{auth: none, dedupe: {{key: '${{ .body.order }}'}}, respond: {respond}}}"
    path.write_text(HELLO.replace("hello", name).replace("webhook: {auth: none}", webhook))
    assert cluster.run("apply", "-f", path).code == 0
    send = ("send", name, "--data", '{"order": "A-1", "n": 1}', "--json")
    (first,) = cluster.run(*send).rows
    assert first["duplicate"] is False
    assert ended(cluster, first["execution"])["request"]["body"] == {"order": "A-1", "n": 1}
    assert cluster.run(*send).rows[0]["duplicate"] is True
    (other,) = cluster.run(*send, "--new-id").rows
    body = ended(cluster, other["execution"])["request"]["body"]
    assert (other["duplicate"], body["order"] != "A-1", body["n"]) == (False, True, 1)


def test_send_waits_for_what_becomes_of_it(cluster):
    done = cluster.run("send", "hello", "--data", '{"n": 1}', "--wait")
    _, accepted, outcome, *output = done.out.splitlines()
    execution_id = json.loads(accepted)["id"]
    assert (done.code, outcome, json.loads("".join(output))) == (0, f"{execution_id}: completed", {"n": 1})
    failed = cluster.run("send", "faulty", "--data", "{}", "--wait", "--json")
    answer, shown = failed.rows
    assert (failed.code, shown["id"], shown["status"]) == (1, answer["execution"], "faulted")
    assert shown["error"]["type"].endswith("/expression")
    assert '"instance": "/do/0/add"' in cluster.run("send", "faulty", "--data", "{}", "--wait").out


def test_the_name_of_a_secret_that_may_be_a_mistake_is_remarked_on(cluster):
    for name, remark in (
        ("gh-typo", "no flow names gh-typo yet; flows have it by its name, exactly"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "its name looks like a secret's value"),
    ):
        result = cluster.run("secrets", "set", name, "--value", "x")
        assert (result.code, result.out) == (0, f"{name}: set\n")
        assert result.err.startswith(f"warning: {remark}")
        assert cluster.run("secrets", "delete", name).code == 0


def test_a_warning_of_apply_has_file_and_line(cluster, tmp_path):
    path = tmp_path / "warned.yaml"
    path.write_text(
        DOCUMENT.replace("NAME", "warned")
        + "use:\n  secrets:\n    - not-there\ndo:\n  - keep: {set: {a: 'x ${ .b }'}}\n"
    )
    result = cluster.run("apply", "-f", path, "--dry-run")
    assert result.code == 0
    lines = result.err.splitlines()
    assert lines[0].startswith(f"{path}:6: warning: do[0].keep.set.a: '${{ .b }}' is not evaluated")
    assert lines[1].startswith(f"{path}:4: warning: secret not-there is not set yet: flowhook secrets set")


def test_send_shows_a_refusal_and_ends_with_1(cluster):
    result = cluster.run("send", "hello", "--data", "{")
    assert result.code == 1
    assert result.out.startswith("400 Bad Request\n")
    assert cluster.run("send", "nope").err == "flowhook: there is no flow nope\n"
    assert "has no webhook" in cluster.run("send", "quiet").err


def test_secrets_come_from_stdin_files_and_options_without_the_last_newline(cluster, tmp_path):
    path = tmp_path / "value"
    path.write_bytes(b"from-file\r\n")
    for arguments, stdin in (
        (["--value", "hunter2"], ""),
        (["--from-file", path], ""),
        (["-"], "from-stdin\n"),
        ([], "from-stdin\n"),
    ):
        result = cluster.run("secrets", "set", "gh", *arguments, stdin=stdin)
        assert (result.code, result.out, result.err) == (0, "gh: set\n", "")
    listed = cluster.run("secrets", "list", "--json")
    assert {"gh"} == {row["name"] for row in listed.rows}
    assert set(listed.rows[0]) == {"name", "updated_at"}
    execution_id = sent(cluster, "signed", "{}")
    assert ended(cluster, execution_id)["request"]["principal"] == {"scheme": "github", "secret": "gh"}
    assert "from-stdin" not in listed.out + cluster.run("executions", "get", execution_id).out


@contextmanager
def tailing(cluster, flow):
    """Run `tail --flow`, with pipes; it is gone afterwards."""
    tail = subprocess.Popen(
        [sys.executable, "-P", "-m", "cli", "tail", "--flow", flow, "--json"],
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
    with tailing(cluster, "soon") as tail:
        assert tail.stderr.readline() == "flowhook: there is no flow soon yet; waiting for it\n"
        assert "watching" in tail.stderr.readline()
        cluster.run("apply", "-f", path)
        sent(cluster, "hello", "1")
        execution_id = sent(cluster, "soon", "1")
        assert json.loads(tail.stdout.readline())["id"] == execution_id
    cluster.run("flows", "delete", "soon")


def test_tail_follows_a_flow_over_a_restart_of_the_router(cluster):
    with tailing(cluster, "hello") as tail:
        assert "watching" in tail.stderr.readline()
        first = sent(cluster, "hello", "1")
        while (row := json.loads(tail.stdout.readline()))["status"] != "completed":
            assert row["id"] == first
        os.kill(int((cluster.data_dir / "run" / "router-1.pid").read_text()), signal.SIGKILL)
        while "watching" not in tail.stderr.readline():
            pass
        second = sent(cluster, "hello", "2")
        while (row := json.loads(tail.stdout.readline()))["status"] != "completed":
            assert row["id"] == second
        tail.send_signal(signal.SIGINT)
        assert tail.wait(PATIENCE) == 130


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


def test_it_drains_and_leaves_nothing_running(flows, tmp_path):
    up = Up(tmp_path, "--flows", flows, "--runners", 1)
    try:
        sent(up, "hello", "{}")
        code, lines, _ = up.stop()
    finally:
        up.close()
    assert code == 0
    assert [line for line in lines if line.startswith("stopping")] == [
        "stopping edge-1",
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
        ended(up, sent(up, "hello", "{}"))
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(PATIENCE) == 0
    finally:
        up.process.stdout = None
        up.close()


def test_several_edges_share_one_port(flows, tmp_path):
    up = Up(tmp_path, "--flows", flows, "--edges", 2, "--runners", 1)
    try:
        assert {path.stem for path in (tmp_path / "run").glob("edge-*.pid")} == {"edge-1", "edge-2"}
        os.kill(int((tmp_path / "run" / "edge-1.pid").read_text()), signal.SIGKILL)
        sent(up, "hello", "{}")
        assert up.stop()[0] == 0
    finally:
        up.close()
