"""`flowhook jobs` against a running cluster."""

from __future__ import annotations

from support.command_flows import FAULTY
from support.commands import send_event, wait_for_end


def failed_executions(cluster, tmp_path, name, count):
    """Have executions of a new flow fault, and return their IDs."""
    path = tmp_path / f"{name}.yaml"
    path.write_text(FAULTY.replace("faulty", name))
    assert cluster.run("apply", "-f", path).code == 0
    failed = [send_event(cluster, name, "{}") for _ in range(count)]
    for execution_id in failed:
        wait_for_end(cluster, execution_id)
    return failed


def test_a_job_is_previewed_created_and_waited_for(cluster, tmp_path):
    failed = failed_executions(cluster, tmp_path, "bulk", 3)
    options = ("executions", "replay", "--flow", "bulk", "--status", "faulted", "--rate", "1000")
    [preview] = cluster.run(*options, "--dry-run", "--json").rows
    assert (preview["count"], preview["more"], [each["id"] for each in preview["sample"]]) == (3, False, failed)
    assert cluster.run(*options, "--dry-run").out.startswith("3 match; the oldest are:\n")
    done = cluster.run(*options, "--wait", "--json", "--reason", "tried again")
    [job] = done.rows
    assert (done.code, job["state"], job["done"], job["reason"]) == (0, "completed", 3, "tried again")
    assert (job["filter"], job["start"]) == ({"flow": "bulk", "status": ["faulted"]}, "auto")
    assert "3 of 3: 3 started (" in done.err
    items = cluster.run("jobs", "get", job["id"], "--items", "--json").rows
    assert [(item["execution"], item["outcome"]) for item in items] == [(each, "done") for each in failed]
    replay = wait_for_end(cluster, items[0]["new_execution"])
    assert replay["replay_of"] == failed[0]
    assert cluster.run("jobs", "get", job["id"], "--items", "--outcome", "failed").out == "no outcomes\n"
    assert cluster.run("jobs", "list", "--json").rows[0]["id"] == job["id"]
    assert "completed" in cluster.run("jobs", "list").out
    assert cluster.run("jobs", "get", job["id"], "--json").rows == [job]


def test_of_an_execution_and_its_replay_that_both_failed_one_is_replayed(cluster, tmp_path):
    [first] = failed_executions(cluster, tmp_path, "chain", 1)
    (second,) = cluster.run("executions", "replay", first, "--json").rows
    wait_for_end(cluster, second["id"])
    bulk = ("--flow", "chain", "--status", "faulted", "--rate", "1000", "--wait", "--json")
    [job] = cluster.run("executions", "replay", *bulk).rows
    assert (job["done"], job["skipped"]) == (1, 1)
    items = cluster.run("jobs", "get", job["id"], "--items", "--json").rows
    assert [(item["execution"], item["outcome"]) for item in items] == [(first, "skipped"), (second["id"], "done")]
    third = wait_for_end(cluster, items[1]["new_execution"])
    assert third["replay_of"] == second["id"]
    preview = cluster.run("executions", "replay", "--flow", "chain", "--dry-run").out
    assert preview.count("EXECUTION_REPLAYED") == 2
    [settled] = cluster.run("executions", "resolve", *bulk, "--reason", "the order was cancelled").rows
    assert settled["done"] >= 1
    [job] = cluster.run("executions", "replay", *bulk).rows
    assert (job["done"], job["skipped"]) == (0, 3)


def test_executions_are_replayed_from_a_task_or_with_an_output_or_with_another_body(cluster, tmp_path):
    path = tmp_path / "changed.yaml"
    path.write_text(FAULTY.replace("faulty", "changed") + "  - last: {set: {seen: '${ . }'}}\n")
    assert cluster.run("apply", "-f", path).code == 0
    failed = [send_event(cluster, "changed", "{}") for _ in range(2)]
    for execution_id in failed:
        wait_for_end(cluster, execution_id)
    options = ("executions", "replay", "--flow", "changed", "--status", "faulted", "--rate", "1000")
    given = ("--task", "/do/0/add", "--output", '{"sum": 3}')
    said = cluster.run(*options, "--task", "/do/0/add", "--dry-run").out
    assert "replayed on the revision that each ran, from /do/0/add, with the results before it" in said
    [preview] = cluster.run(*options, "--task", "/do/0/add", "--dry-run", "--json").rows
    assert [each["preview"]["again"] for each in preview["replays"]] == [[{"task": "/do/0/add", "kind": "set"}]] * 2
    [job] = cluster.run(*options, *given, "--wait", "--json").rows
    assert (job["done"], job["start"], job["task"], job["data_bytes"]) == (2, "task", "/do/0/add", 10)
    for item in cluster.run("jobs", "get", job["id"], "--items", "--json").rows:
        replay = wait_for_end(cluster, item["new_execution"])
        assert (replay["status"], replay["output"]) == ("completed", {"seen": {"sum": 3}})
        assert replay["replay"]["output_given"]
    body = tmp_path / "body.json"
    body.write_text("41")
    edited = ("--body", f"@{body}", "--content-type", "application/json", "--again", "--revision", "latest")
    [job] = cluster.run(*options, *edited, "--wait", "--json").rows
    assert (job["done"], job["data_bytes"], job["revision"]) == (2, 2, "latest")
    for item in cluster.run("jobs", "get", job["id"], "--items", "--json").rows:
        replay = wait_for_end(cluster, item["new_execution"])
        assert (replay["output"], replay["replay"]["edited_from"]) == ({"seen": {"sum": 42}}, item["execution"])
    unknown = cluster.run(*options, "--again", "--task", "/do/7/x", "--wait", "--json")
    assert (unknown.code, unknown.rows[0]["skipped"]) == (0, 2)
    refused = cluster.run(*options, "--task", "/do/0/add", "--output", "{")
    assert (refused.code, "not JSON" in refused.err) == (1, True)


def test_a_job_is_paused_resumed_and_aborted(cluster, tmp_path):
    failed_executions(cluster, tmp_path, "slow", 3)
    created = cluster.run("executions", "resolve", "--flow", "slow", "--rate", "0.01")
    job_id = created.out.partition(":")[0]
    assert "paused" in cluster.run("jobs", "pause", job_id).out
    assert cluster.run("jobs", "resume", job_id, "--json").rows[0]["state"] in ("pending", "running")
    [aborted] = cluster.run("jobs", "abort", job_id, "--json").rows
    assert (aborted["state"], aborted["expected"]) == ("aborted", 3)
    refused = cluster.run("jobs", "resume", job_id)
    assert (refused.code, "has ended" in refused.err) == (1, True)


def test_what_is_no_job_is_refused(cluster):
    for wrong in (
        ("executions", "cancel"),
        ("executions", "cancel", "evt_x", "--flow", "x"),
        ("executions", "cancel", "evt_x", "--dry-run"),
        ("executions", "cancel", "evt_x", "--wait"),
        ("executions", "delete", "--flow", "x", "--erase"),
        ("executions", "explode", "--flow", "x"),
        ("executions", "cancel", "--flow", "x", "--again"),
        ("executions", "replay", "--flow", "x", "--rate", "2000"),
        ("executions", "replay", "--since", "yesterday"),
        ("executions", "replay", "--attribute", "x"),
        ("executions", "replay", "--flow", "x", "--output", "1"),
        ("executions", "replay", "--flow", "x", "--task", "/do/0/a", "--body", "1"),
        ("executions", "replay", "--flow", "x", "--task", "/do/0/a", "--start", "failed_task"),
        ("executions", "replay", "--flow", "x", "--content-type", "a/b"),
        ("jobs", "get", "job_x", "--outcome", "failed"),
    ):
        assert cluster.run(*wrong).code == 2, wrong
    unknown = cluster.run("jobs", "get", "job_x")
    assert (unknown.code, "there is no job" in unknown.err) == (1, True)
