"""`flowhook send` against a running cluster."""

from __future__ import annotations

import json

import pytest
from support.command_flows import HELLO
from support.commands import send_event, wait_for_end


def test_send_signs_with_the_first_kind_whose_secret_is_set(cluster):
    cluster.run("secrets", "delete", "gh")  # another test may have set it
    refused = cluster.run("send", "signed", "--data", "{}")
    assert (refused.code, refused.out) == (1, "")
    assert refused.err == "flowhook: secret gh is not set: flowhook secrets set gh\n"
    for secret, value in (("key", "k1"), ("pw", "pass"), ("gh", "top-secret")):
        assert cluster.run("secrets", "set", secret, "--value", value).out == f"{secret}: set\n"
        execution_id = send_event(cluster, "signed", "{}")
        assert wait_for_end(cluster, execution_id)["request"]["principal"]["secret"] == secret
        assert cluster.run("secrets", "delete", secret).code == 0 or secret == "gh"


def test_the_router_signs_for_a_token_that_may_not_read_secrets(cluster):
    cluster.run("secrets", "set", "gh", "--value", "github-secret-of-32-characters-x")
    token = cluster.run("tokens", "create", "steering", "--scope", "admin").out.strip()
    result = cluster.run("send", "signed", "--data", "{}", "--new-id", "--json", FLOWHOOK_TOKEN=token)
    assert result.code == 0, result
    assert wait_for_end(cluster, result.rows[0]["execution"])["request"]["principal"]["scheme"] == "github"
    cluster.run("secrets", "delete", "gh")
    cluster.run("secrets", "set", "pw", "--value", "pass")
    refused = cluster.run("send", "signed", "--data", "{}", FLOWHOOK_TOKEN=token)
    assert (refused.code, "basic sends the secret pw itself" in refused.err) == (1, True)
    cluster.run("secrets", "delete", "pw")


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
    assert wait_for_end(cluster, first["execution"])["request"]["body"] == {"order": "A-1", "n": 1}
    assert cluster.run(*send).rows[0]["duplicate"] is True
    (other,) = cluster.run(*send, "--new-id").rows
    body = wait_for_end(cluster, other["execution"])["request"]["body"]
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


def test_send_waits_for_the_execution_that_runs_for_the_batch_of_its_event(cluster, tmp_path):
    path = tmp_path / "pairs.yaml"
    path.write_text(
        "document: {dsl: 1.0.3, namespace: default, name: pairs, version: 1.0.0}\n"
        "webhook: {auth: none}\n"
        "execution: {batch: {size: 2, period: PT1H}}\n"
        "do: [{keep: {set: {bodies: '${ [.[].body] }'}}}]\n"
    )
    assert cluster.run("apply", "-f", path).code == 0
    first = send_event(cluster, "pairs", '{"n": 1}')
    answer, shown = cluster.run("send", "pairs", "--data", '{"n": 2}', "--wait", "--json").rows
    assert answer["execution"] != first
    assert (shown["id"], shown["output"]) == (first, {"bodies": [{"n": 1}, {"n": 2}]})


def test_send_shows_a_refusal_and_ends_with_1(cluster):
    result = cluster.run("send", "hello", "--data", "{")
    assert result.code == 1
    assert result.out.startswith("400 Bad Request\n")
    assert cluster.run("send", "nope").err == "flowhook: there is no flow nope\n"
    assert "has no webhook" in cluster.run("send", "quiet").err
