"""Commands that delete ask a person, and nobody else."""

from __future__ import annotations

import pytest
from support.command_flows import HELLO
from support.commands import send_event


@pytest.fixture
def doomed(cluster, tmp_path):
    path = tmp_path / "doomed.yaml"
    path.write_text(HELLO.replace("hello", "doomed"))
    assert cluster.run("apply", "-f", path).code == 0


def exists(cluster):
    return cluster.run("flows", "get", "doomed").code == 0


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_a_flow_stays_unless_the_answer_is_yes(cluster, doomed, answer):
    refused = cluster.run("flows", "delete", "doomed", stdin=answer, terminal=True)
    assert (refused.code != 0, refused.out) == (True, "")
    assert "Delete the flow doomed? Its URL answers 404 from then on." in refused.err
    assert exists(cluster)


@pytest.mark.parametrize(("options", "stdin", "terminal"), [((), "y\n", True), (("--yes",), "", True), ((), "", False)])
def test_a_flow_is_deleted_by_who_agrees_and_by_scripts(cluster, doomed, options, stdin, terminal):
    done = cluster.run("flows", "delete", "doomed", *options, stdin=stdin, terminal=terminal)
    assert (done.code, done.out) == (0, "doomed: deleted\n")
    assert not exists(cluster)


def test_so_is_a_secret(cluster):
    cluster.run("secrets", "set", "DOOMED", "--value", "x")
    asked = cluster.run("secrets", "delete", "DOOMED", stdin="n\n", terminal=True)
    assert "Delete the secret DOOMED?" in asked.err
    assert "DOOMED" in cluster.run("secrets", "list").out
    assert cluster.run("secrets", "delete", "DOOMED", stdin="y\n", terminal=True).out == "DOOMED: deleted\n"


def test_a_job_that_deletes_says_how_many(cluster, doomed):
    for _ in range(2):
        cluster.run("executions", "wait", send_event(cluster, "doomed", "{}"))
    job = ("executions", "delete", "--flow", "doomed")
    asked = cluster.run(*job, stdin="n\n", terminal=True)
    assert "Delete 2 executions, with all that is stored of them?" in asked.err
    assert len(cluster.run("executions", "list", "--flow", "doomed", "--json").rows) == 2
    assert cluster.run(*job, "--wait", "--yes", stdin="", terminal=True).code == 0
    assert cluster.run("executions", "list", "--flow", "doomed", "--json").rows == []
