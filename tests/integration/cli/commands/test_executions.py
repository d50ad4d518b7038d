"""`flowhook executions` against a running cluster."""

from __future__ import annotations

from datetime import datetime

import pytest
from support.command_flows import DOCUMENT, HELLO
from support.commands import send_event, wait_for_end


def test_an_execution_is_shown_with_its_request_and_output(cluster):
    execution_id = send_event(cluster, "hello", '{"n": 1}', "--header", "X-Kind: test")
    shown = wait_for_end(cluster, execution_id)
    assert {"id", "flow", "revision", "status", "received_at", "ended_at", "attempts", "error"} <= shown.keys()
    assert (shown["id"], shown["flow"], shown["status"], shown["error"]) == (execution_id, "hello", "completed", None)
    assert datetime.fromisoformat(shown["received_at"]) <= datetime.fromisoformat(shown["ended_at"])
    assert shown["request"]["body"] == {"n": 1}
    assert shown["request"]["headers"]["x-kind"] == "test"
    assert ([each["task"] for each in shown["tasks"]], shown["journal"]) == (["/do/0/keep"], [])
    assert shown["output"] == {"n": 1}
    assert cluster.run("executions", "get", execution_id, "--raw").out == '{"n": 1}'
    assert execution_id in cluster.run("executions", "get", execution_id).out


def test_executions_are_listed_by_flow_and_status_and_replayed(cluster):
    failed = [send_event(cluster, "faulty", "{}") for _ in range(2)]
    for execution_id in failed:
        assert wait_for_end(cluster, execution_id)["error"]["type"].endswith("/errors/expression")
    listed = cluster.run("executions", "list", "--flow", "faulty", "--status", "faulted", "--json").rows
    assert [row["id"] for row in listed] == failed[::-1]
    assert len(cluster.run("executions", "list", "--flow", "faulty", "--limit", "1", "--json").rows) == 1
    assert "Expression" in cluster.run("executions", "list", "--flow", "faulty").out
    [replayed] = cluster.run("executions", "replay", failed[0], "--json").rows
    assert replayed["replay_of"] == failed[0]
    assert wait_for_end(cluster, replayed["id"])["replay_of"] == failed[0]
    single = cluster.run("executions", "replay", failed[1])
    assert single.out.startswith(f"{failed[1]}: replayed as evt_")


def test_an_execution_is_suspended_and_resumed(cluster):
    cluster.run("flows", "pause", "hello")
    execution_id = send_event(cluster, "hello", "{}")
    assert cluster.run("executions", "suspend", execution_id).out == f"{execution_id}: suspended\n"
    cluster.run("flows", "resume", "hello")
    assert cluster.run("executions", "list", "--status", "suspended", "--json").rows[0]["id"] == execution_id
    [resumed] = cluster.run("executions", "resume", execution_id, "--json").rows
    assert resumed["status"] in {"pending", "running", "completed"}  # the flow has nothing to do
    assert wait_for_end(cluster, execution_id)["status"] == "completed"
    again = cluster.run("executions", "resume", execution_id)
    assert (again.code, len(again.err.splitlines())) == (1, 1)


def test_waiting_ends_with_the_execution_and_the_exit_code_says_how(cluster):
    completed = send_event(cluster, "hello", '{"n": 1}')
    done = cluster.run("executions", "wait", completed)
    assert (done.code, done.out) == (0, f'{completed}: completed\n{{\n  "n": 1\n}}\n')
    faulted = send_event(cluster, "faulty", "{}")
    done = cluster.run("executions", "wait", faulted, "--json")
    assert (done.code, done.rows[0]["status"]) == (3, "faulted")


def test_waiting_for_one_that_does_not_end_is_over_after_the_timeout(cluster):
    cluster.run("flows", "pause", "hello")
    pending = send_event(cluster, "hello", "{}")
    done = cluster.run("executions", "wait", pending, "--timeout", "0.1")
    assert (done.code, done.out) == (5, "")
    assert f"{pending} has not ended within 0.1 s: it is pending" in done.err
    cluster.run("executions", "cancel", pending)
    cluster.run("flows", "resume", "hello")
    assert cluster.run("executions", "wait", pending).code == 4
    assert cluster.run("executions", "wait", "evt_unknown").code == 1


def test_an_execution_that_waits_is_cancelled_and_one_that_ended_is_not(cluster):
    cluster.run("flows", "pause", "hello")
    execution_id = send_event(cluster, "hello", "{}")
    assert cluster.run("executions", "cancel", execution_id).out == f"{execution_id}: cancelled\n"
    again = cluster.run("executions", "cancel", execution_id)
    assert (again.code, len(again.err.splitlines())) == (1, 1)
    cluster.run("flows", "resume", "hello")


def test_executions_are_found_by_what_is_in_their_events(cluster, tmp_path):
    flow = tmp_path / "found.yaml"
    flow.write_text(HELLO.replace("name: hello", "name: found") + "execution: {search: {order: .body.order}}\n")
    cluster.run("apply", "-f", flow)
    ids = [send_event(cluster, "found", f'{{"order": {order}}}') for order in (4711, 4712)]
    send_event(cluster, "hello", '{"order": 4711}')

    def found(*options):
        return [row["id"] for row in cluster.run("executions", "list", "--json", *options).rows]

    assert found("--attribute", "order:4711") == ids[:1]
    assert found("--attribute", "order:4711", "--attribute", "order:4712") == []
    assert found("--flow", "found", "--since", "1h", "--min-attempts", "0") == ids[::-1]
    assert found("--flow", "found", "--until", "2001-01-01") == []
    assert found("--flow", "found", "--error-type", "timeout", "--error-task", "/do/0/x") == []
    searched = cluster.run("executions", "list", "--json", "--flow", "found", "--jq", ".body.order > 4711")
    assert ([row["id"] for row in searched.rows], searched.err) == (ids[1:], "flowhook: 2 scanned\n")
    failing = cluster.run("executions", "list", "--flow", "found", "--jq", ".body.order.x")
    assert "the condition failed on 2, first with: Cannot index number" in failing.err


def test_executions_are_listed_by_what_caused_them_and_shown_with_links_both_ways(cluster, tmp_path):
    flow = DOCUMENT.replace("NAME", "causing") + (
        "webhook: {auth: none}\ndo:\n"
        "  - run: {run: {workflow: {namespace: default, name: quiet, version: 1.0.0}, await: false}}\n"
        "  - tell: {emit: {event: {with: {source: /flows/causing, type: test.caused}}}}\n"
    )
    (tmp_path / "causing.yaml").write_text(flow)
    flow = DOCUMENT.replace("NAME", "caused") + (
        "schedule: {on: {one: {with: {type: test.caused}}}}\ndo:\n  - keep: {set: {a: 1}}\n"
    )
    (tmp_path / "caused.yaml").write_text(flow)
    cluster.run("apply", "-f", tmp_path)
    execution_id = send_event(cluster, "causing", "{}")
    shown = wait_for_end(cluster, execution_id)
    listed = cluster.run("executions", "list", "--caused-by", execution_id, "--json").rows
    assert {row["flow"] for row in listed} == {"quiet", "caused"}
    assert [row["id"] for row in listed] == [each["id"] for each in shown["links"]["caused"]]
    assert {each["flow"]: each["kinds"] for each in shown["links"]["caused"]} == {"quiet": ["run"], "caused": ["event"]}
    assert (shown["links"]["causes"], shown["links"]["more_caused"]) == ([], False)
    for row in listed:
        [cause] = wait_for_end(cluster, row["id"])["links"]["causes"]
        assert cause == {"id": execution_id, "kinds": cause["kinds"], "flow": "causing", "status": "completed"}
        assert f"{execution_id} ({cause['kinds'][0]})" in cluster.run("executions", "get", row["id"]).out
    only = cluster.run("executions", "list", "--caused-by", execution_id, "--flow", "quiet", "--json").rows
    assert [row["flow"] for row in only] == ["quiet"]
    assert cluster.run("executions", "list", "--caused-by", only[0]["id"]).out == "no executions\n"
    unknown = cluster.run("executions", "list", "--caused-by", "evt_0000000000e008000000000009")
    assert (unknown.code, "there is no execution evt_0000000000e008000000000009" in unknown.err) == (1, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--attribute", "order"), "--attribute order: write NAME:VALUE"),
        (("--caused-by", "4711"), "--caused-by 4711: write the ID of an execution: an event ID is evt_ and 26"),
        (("--since", "yesterday"), "--since yesterday: write a time such as"),
        (("--jq", "nope"), "unknown function nope/0"),
    ],
)
def test_a_condition_that_is_none_is_refused(cluster, options, message):
    refused = cluster.run("executions", "list", *options)
    assert refused.code != 0
    assert message in refused.err


def test_one_that_ended_is_deleted_and_one_that_has_not_only_if_it_may_be_cancelled(cluster):
    execution_id = send_event(cluster, "hello", "{}")
    wait_for_end(cluster, execution_id)
    assert cluster.run("executions", "delete", execution_id).out == f"{execution_id}: deleted\n"
    assert cluster.run("executions", "get", execution_id).code == 1
    cluster.run("flows", "pause", "hello")
    execution_id = send_event(cluster, "hello", "{}")
    refused = cluster.run("executions", "delete", execution_id)
    assert (refused.code, refused.err) == (1, f"flowhook: {execution_id} has not ended: pending\n")
    assert cluster.run("executions", "delete", execution_id, "--cancel").code == 0
    cluster.run("flows", "resume", "hello")


def test_an_event_is_erased_with_its_replays(cluster):
    execution_id = send_event(cluster, "hello", '{"who": "jane.doe@example.com"}')
    wait_for_end(cluster, execution_id)
    [replay] = cluster.run("executions", "replay", execution_id, "--json").rows
    wait_for_end(cluster, replay["id"])
    erased = cluster.run("executions", "delete", execution_id, "--erase").out
    assert erased == f"{execution_id}: erased, with {replay['id']}\n"
    [again] = cluster.run("executions", "delete", execution_id, "--erase", "--json").rows
    assert (again["execution_ids"], again["purge_pending"]) == ([execution_id, replay["id"]], False)
    assert again["erased_at"]
    assert cluster.run("executions", "get", replay["id"]).code == 1
