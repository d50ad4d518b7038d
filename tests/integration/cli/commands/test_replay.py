"""`flowhook executions replay` against a running cluster."""

from __future__ import annotations

from support.command_flows import FAULTY
from support.commands import send_event, wait_for_end, wait_until


def faulting(cluster, tmp_path, name, count):
    """Have executions of a new flow fault, and return their IDs."""
    path = tmp_path / f"{name}.yaml"
    path.write_text(FAULTY.replace("faulty", name))
    assert cluster.run("apply", "-f", path).code == 0
    failed = [send_event(cluster, name, "{}") for _ in range(count)]
    for execution_id in failed:
        wait_for_end(cluster, execution_id)
    return failed


def test_what_was_replayed_or_resolved_is_refused_unless_it_is_to_be_replayed_again(cluster, tmp_path):
    failed = faulting(cluster, tmp_path, "again", 2)
    assert "would be replayed" in cluster.run("executions", "replay", failed[0], "--dry-run").out
    reason = ("--reason", "refunded by hand")
    assert cluster.run("executions", "resolve", failed[0], *reason).out == f"{failed[0]}: resolved\n"
    unresolved = ("executions", "list", "--flow", "again", "--unresolved")
    assert [row["id"] for row in cluster.run(*unresolved, "--json").rows] == failed[:0:-1]
    (replay,) = cluster.run(
        "executions", "replay", failed[1], "--start", "failed_task", "--revision", "latest", "--json"
    ).rows
    assert replay["replay_of"] == failed[1]
    wait_for_end(cluster, replay["id"])
    assert cluster.run("executions", "resolve", replay["id"]).code == 0
    assert cluster.run(*unresolved).out == "no executions\n"
    for execution_id in failed:
        single = cluster.run("executions", "replay", execution_id)
        assert (single.code, "--again replays it all the same" in single.err) == (1, True)
        assert "replayed as" in cluster.run("executions", "replay", execution_id, "--again").out
    listed = {row["id"]: row for row in cluster.run("executions", "list", "--flow", "again", "--json").rows}
    resolution = listed[failed[0]]["resolution"]
    assert (resolution["reason"], resolution["resolved_at"][-1]) == ("refunded by hand", "Z")
    assert "resolved: refunded by hand" in cluster.run("executions", "list", "--flow", "again").out


DOWN = """
document: {dsl: 1.0.3, namespace: default, name: down, version: 1.0.0}
webhook: {auth: none}
execution: {retry: {delay: PT1H, limit: {attempt: {count: 5}}}}
do: [{ask: {call: http, with: {method: get, endpoint: "http://127.0.0.1:9/"}}}]
"""


def test_what_waits_for_its_next_try_is_tried_at_once_by_conditions(cluster, tmp_path):
    path = tmp_path / "down.yaml"
    path.write_text(DOWN)
    assert cluster.run("apply", "-f", path).code == 0
    for _ in range(2):
        send_event(cluster, "down", "{}")

    def tries():
        found = cluster.run("executions", "list", "--flow", "down", "--json").rows
        return [each["retry"] and each["retry"]["tries"] for each in found]

    wait_until(lambda: tries() == [1, 1], "both calls fail")
    wanted = ("executions", "retry-now", "--flow", "down", "--status", "waiting")
    assert cluster.run(*wanted, "--dry-run").out.startswith("2 match")
    [job] = cluster.run(*wanted, "--wait", "--json").rows
    assert (job["action"], job["done"]) == ("retry", 2)
    wait_until(lambda: tries() == [2, 2], "both calls fail again")


def test_verbs_take_ids_or_conditions(cluster):
    for command in ("replay", "resolve", "retry-now"):
        for given in ((), ("evt_x", "--flow", "x")):
            refused = cluster.run("executions", command, *given)
            assert refused.code == 2
            assert "give IDs of executions, or conditions such as --flow ID" in " ".join(refused.err.split())


def test_one_is_replayed_from_a_task_or_with_an_output_or_with_another_body(cluster, tmp_path):
    path = tmp_path / "parts.yaml"
    path.write_text(FAULTY.replace("faulty", "parts") + "  - last: {set: {seen: '${ . }'}}\n")
    assert cluster.run("apply", "-f", path).code == 0
    failed = send_event(cluster, "parts", "{}")
    assert wait_for_end(cluster, failed)["status"] == "faulted"
    given = ("--task", "/do/0/add", "--output", '{"sum": 3}')
    preview = cluster.run("executions", "replay", failed, *given, "--dry-run")
    assert preview.out.splitlines()[:2] == [
        f"{failed}: faulted, 400 Expression Error; would be replayed",
        "on revision 1, with new idempotency keys",
    ]
    as_json = cluster.run("executions", "replay", failed, "--task", "/do/0/add", "--dry-run", "--json").rows[0]
    assert as_json["again"] == [{"task": "/do/0/add", "kind": "set"}]
    (made,) = cluster.run("executions", "replay", failed, *given, "--json").rows
    shown = wait_for_end(cluster, made["id"])
    assert (shown["status"], shown["output"]) == ("completed", {"seen": {"sum": 3}})
    assert shown["replay"] == {"start": "task", "task": "/do/0/add", "output_given": True, "edited_from": ""}
    body = tmp_path / "body.json"
    body.write_text("41")
    edited = ("--body", f"@{body}", "--content-type", "application/json", "--again", "--revision", "latest", "--json")
    (made,) = cluster.run("executions", "replay", failed, *edited).rows
    shown = wait_for_end(cluster, made["id"])
    assert shown["output"] == {"seen": {"sum": 42}}
    assert (shown["replay"]["start"], shown["replay"]["edited_from"]) == ("beginning", failed)
    unknown = cluster.run("executions", "replay", failed, "--again", "--task", "/do/7/x")
    assert (unknown.code, "did not run the task /do/7/x" in unknown.err) == (1, True)
    for wrong in (
        [failed, "--output", "1"],
        [failed, "--task", "/do/0/add", "--start", "failed_task"],
        [failed, "--task", "/do/0/add", "--body", "1"],
        [failed, "--content-type", "text/plain"],
        [failed, "--body", f"@{tmp_path}/none"],
        [],
    ):
        assert cluster.run("executions", "replay", *wrong).code == 2, wrong


def test_a_replay_begins_where_it_failed_and_says_that_there_is_a_newer_revision(cluster, tmp_path):
    [failed] = faulting(cluster, tmp_path, "outdated", 1)
    assert "runs again" in cluster.run("executions", "replay", failed, "--dry-run").out
    path = tmp_path / "outdated.yaml"
    path.write_text(path.read_text() + "  - last: {set: {done: true}}\n")
    assert cluster.run("apply", "-f", path).code == 0
    note = f"flowhook: revision 2 is newer than the one that {failed} ran; --revision latest replays on it\n"
    preview = cluster.run("executions", "replay", failed, "--dry-run", "--json")
    assert preview.err == note
    assert preview.rows[0]["revision"] == 1
    assert preview.rows[0]["latest_revision"] == 2
    assert preview.rows[0]["keeps_idempotency_keys"]  # from the failed task
    refused = cluster.run("executions", "retry-now", failed)
    assert (refused.code, f"{failed} does not wait for a retry: faulted" in refused.err) == (1, True)
    for chosen in ("pinned", "latest"):
        assert cluster.run("executions", "replay", failed, "--dry-run", "--revision", chosen).err == ""
    job = cluster.run("executions", "replay", "--flow", "outdated", "--unresolved", "--dry-run")
    assert job.err == note
    assert "from the task that failed, with the results before it, or from the beginning" in job.out
    done = cluster.run("executions", "replay", "--flow", "outdated", "--unresolved", "--wait", "--json")
    assert (done.rows[0]["start"], done.rows[0]["done"]) == ("auto", 1)
    [item] = cluster.run("jobs", "get", done.rows[0]["id"], "--items", "--json").rows
    assert wait_for_end(cluster, item["new_execution"])["replay"]["start"] == "failed_task"
    assert cluster.run("jobs", "get", done.rows[0]["id"], "--json").rows[0]["replay_ends"]["faulted"] == 1
    assert cluster.run("executions", "resolve", "--flow", "outdated", "--wait").code == 0
