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
    options = ("jobs", "create", "replay", "--flow", "bulk", "--status", "faulted", "--rate", "1000")
    [preview] = cluster.run(*options, "--dry-run", "--json").rows
    assert (preview["count"], preview["more"], [each["id"] for each in preview["sample"]]) == (3, False, failed)
    assert cluster.run(*options, "--dry-run").out.startswith("3 match; the oldest are:\n")
    done = cluster.run(*options, "--wait", "--json", "--reason", "tried again")
    [job] = done.rows
    assert (done.code, job["state"], job["done"], job["reason"]) == (0, "completed", 3, "tried again")
    assert (job["filter"], job["from"]) == ({"flow": "bulk", "status": ["faulted"]}, "start")
    assert "3 of 3: 3 done, 0 skipped, 0 failed" in done.err
    items = cluster.run("jobs", "get", job["id"], "--items", "--json").rows
    assert [(item["execution"], item["outcome"]) for item in items] == [(each, "done") for each in failed]
    replay = wait_for_end(cluster, items[0]["replay"])
    assert replay["replay_of"] == failed[0]
    assert cluster.run("jobs", "get", job["id"], "--items", "--outcome", "failed").out == "no outcomes\n"
    assert cluster.run("jobs", "list", "--json").rows[0]["id"] == job["id"]
    assert "completed" in cluster.run("jobs", "list").out
    assert cluster.run("jobs", "get", job["id"], "--json").rows == [job]


def test_a_job_is_paused_resumed_and_aborted(cluster, tmp_path):
    failed_executions(cluster, tmp_path, "slow", 3)
    created = cluster.run("jobs", "create", "resolve", "--flow", "slow", "--rate", "0.01")
    job_id = created.out.partition(":")[0]
    assert "paused" in cluster.run("jobs", "pause", job_id).out
    assert cluster.run("jobs", "resume", job_id, "--json").rows[0]["state"] in ("pending", "running")
    [aborted] = cluster.run("jobs", "abort", job_id, "--json").rows
    assert (aborted["state"], aborted["expected"]) == ("aborted", 3)
    refused = cluster.run("jobs", "resume", job_id)
    assert (refused.code, "has ended" in refused.err) == (1, True)


def test_what_is_no_job_is_refused(cluster):
    empty = cluster.run("jobs", "create", "cancel")
    assert (empty.code, "give at least one" in empty.err) == (1, True)
    for wrong in (
        ("create", "explode", "--flow", "x"),
        ("create", "replay", "--flow", "x", "--rate", "2000"),
        ("create", "replay", "--since", "yesterday"),
        ("create", "replay", "--search", "x"),
        ("get", "job_x", "--outcome", "failed"),
    ):
        assert cluster.run("jobs", *wrong).code == 2, wrong
    unknown = cluster.run("jobs", "get", "job_x")
    assert (unknown.code, "there is no job" in unknown.err) == (1, True)
