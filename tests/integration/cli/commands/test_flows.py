"""`flowhook apply`, `flows` and `secrets` against a running cluster."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta

import pytest
from support.command_flows import DOCUMENT, HELLO, QUIET
from support.commands import send_event, wait_for_end
from support.patience import PATIENCE

from cli import flow_files
from cli.applying import apply_files, read_applied_files
from flowhook.client import AsyncClient
from flowhook.errors import InvalidFlowError
from router.services.flow import MAX_DOCUMENTS


def test_a_flow_is_drawn_by_its_id_and_from_its_file_alike(cluster, flows):
    by_id = cluster.run("flows", "graph", "hello")
    assert by_id.code == 0
    assert by_id.out.startswith('flowchart TD\n    start(["hello"])\n')
    assert cluster.run("flows", "graph", "--file", flows / "hello.yaml").out == by_id.out
    assert cluster.run("flows", "graph", "hello", "--json").rows == [{"id": "hello", "mermaid": by_id.out}]


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


ADDRESSED = """
document: {{dsl: 1.0.3, namespace: default, name: {name}, version: 1.0.0}}
webhook: {{auth: none, path: "/{path}"}}
do: []
"""


@pytest.fixture
def many(cluster, tmp_path):
    """A folder with five flows, of which the fourth has the URL of the first: only the router sees that."""
    for name, path in zip("abcde", "pqrps", strict=True):
        (tmp_path / f"{name}.yaml").write_text(ADDRESSED.format(name=f"many-{name}", path=path))
    yield tmp_path
    for name in "abcde":
        cluster.run("flows", "delete", f"many-{name}")


def test_more_files_than_a_router_takes_at_once_are_applied_in_parts(cluster, many, monkeypatch):
    assert flow_files.PART_FILES == MAX_DOCUMENTS
    monkeypatch.setattr(flow_files, "PART_FILES", 2)
    monkeypatch.setattr(flow_files, "PROGRESS_SECONDS", 0)
    result = cluster.run("apply", "-f", many)
    assert result.code == 1
    assert result.out.splitlines() == [f"many-{name}: created" for name in "abe"]
    assert "applied 3 of 5 files" in result.err
    assert f"{many}/d.yaml: webhook.path: /p is taken by flow many-a" in result.err
    assert result.err.splitlines()[-1] == "flowhook: 2 of 5 files are not applied, the others are"
    (many / "d.yaml").write_text(ADDRESSED.format(name="many-d", path="t"))
    again = cluster.run("apply", "-f", many)
    changes = dict.fromkeys("abe", "unchanged") | dict.fromkeys("cd", "created")
    assert (again.code, again.out.splitlines()) == (0, [f"many-{name}: {changes[name]}" for name in "abcde"])


def test_up_applies_more_files_than_a_router_takes_at_once_in_parts(cluster, many, tmp_path, monkeypatch):
    monkeypatch.setattr(flow_files, "PART_FILES", 2)
    files = {path: path.read_bytes() for path in sorted(many.glob("*.yaml"))}

    async def apply():
        token = (cluster.data_dir / "admin.token").read_text().strip()
        async with AsyncClient(cluster.where["grpc_address"], token=token) as client:
            return await apply_files(client, tmp_path, files)

    with pytest.raises(InvalidFlowError, match=r"d\.yaml: webhook\.path: /p is taken by flow many-a"):
        asyncio.run(apply())
    assert {applied.flow for applied in read_applied_files(tmp_path).values()} == {"many-a", "many-b", "many-e"}
    files[many / "d.yaml"] = ADDRESSED.format(name="many-d", path="t").encode()
    assert {f"many-{name}" for name in "abcde"} <= set(asyncio.run(apply()))


def test_the_revisions_of_a_flow_are_listed_and_compared(cluster, tmp_path):
    path = tmp_path / "changing.yaml"
    for text in ("a: 1", "a: 2", "a: 3"):
        path.write_text(QUIET.replace("quiet", "changing").replace("a: 1", text))
        assert cluster.run("apply", "-f", path).code == 0
    try:
        rows = cluster.run("flows", "revisions", "changing", "--json").rows
        assert [(row["revision"], row["version"]) for row in rows] == [(3, "1.0.0"), (2, "1.0.0"), (1, "1.0.0")]
        assert rows[0]["updated_at"] in cluster.run("flows", "revisions", "changing", "--limit", "1").out
        for arguments, olds in (([], 2), (["1"], 1), (["1", "2"], 1), (["3", "1"], 3)):
            lines = cluster.run("flows", "diff", "changing", *arguments).out.splitlines()
            assert lines[0] == f"--- changing revision {olds}"
            assert any(line.startswith("-") and f"a: {olds}" in line for line in lines[2:])
        assert cluster.run("flows", "diff", "changing", "2", "2").out == ""
        (row,) = cluster.run("flows", "diff", "changing", "1", "--json").rows
        assert (row["old"], row["new"]) == (1, 3)
        missing = cluster.run("flows", "diff", "changing", "9")
        assert (missing.code, missing.err) == (1, "flowhook: flow changing has no revision 9\n")
        single = cluster.run("flows", "diff", "quiet")
        assert (single.code, single.err) == (1, "flowhook: flow quiet has one revision\n")
        assert cluster.run("flows", "revisions", "nope").err == "flowhook: there is no flow nope\n"
    finally:
        cluster.run("flows", "delete", "changing")


def test_flows_are_listed_paused_and_resumed(cluster):
    rows = cluster.run("flows", "list", "--json").rows
    webhooks = {row["id"]: row["webhook"] for row in rows}
    assert list(webhooks) == sorted(webhooks)
    own = {"faulty": True, "hello": True, "quiet": False, "signed": True}  # other tests have applied others
    assert own.items() <= webhooks.items()
    assert cluster.run("flows", "pause", "hello").out == "hello: paused\n"
    assert "paused" in cluster.run("flows", "list").out
    assert [row["id"] for row in cluster.run("flows", "list", "--state", "paused", "--json").rows] == ["hello"]
    assert cluster.run("flows", "resume", "hello").out == "hello: active\n"


def test_flows_are_listed_with_their_numbers_and_the_secrets_that_they_need(cluster, tmp_path):
    path = tmp_path / "needy.yaml"
    path.write_text(QUIET.replace("quiet", "needy") + "use: {secrets: [wanted]}\n")
    cluster.run("apply", "-f", path)
    try:
        (row,) = cluster.run("flows", "list", "--state", "needs_secret", "--name", "need", "--json").rows
        numbers = row["numbers"]
        assert (numbers["missing_secrets"], numbers["accepted_in_hour"], numbers["pending"]) == (["wanted"], 0, 0)
        assert "wanted" in cluster.run("flows", "list").out
        send_event(cluster, "hello", "{}")
        (row,) = cluster.run("flows", "list", "--name", "hello", "--json").rows
        assert row["numbers"]["accepted_in_hour"] > 0
        assert row["numbers"]["last_event_at"]
        assert cluster.run("flows", "list", "--state", "broken").code == 2
    finally:
        cluster.run("flows", "delete", "needy")


def test_a_flow_that_is_silent_says_so(cluster, tmp_path):
    path = tmp_path / "shy.yaml"
    path.write_text(QUIET.replace("quiet", "shy") + "webhook: {auth: none, expect: {every: PT1S}}\n")
    cluster.run("apply", "-f", path)
    try:
        until = time.monotonic() + PATIENCE
        while not (rows := cluster.run("flows", "list", "--state", "silent", "--json").rows):
            assert time.monotonic() < until
        assert [row["id"] for row in rows] == ["shy"]
        assert rows[0]["numbers"]["silent_since"] == rows[0]["updated_at"]
        assert "active, silent" in cluster.run("flows", "list", "--name", "shy").out
    finally:
        cluster.run("flows", "delete", "shy")


def test_flows_report_when_their_schedule_starts_them_next(cluster, tmp_path):
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


@pytest.mark.parametrize(
    "command",
    [
        ["executions", "list"],
        ["executions", "list", "--json"],
        ["executions", "list", "--status", "faulted"],
        ["requests"],
        ["rejections", "list"],
    ],
)
def test_what_is_asked_of_a_flow_that_there_is_not_is_refused(cluster, command):
    refused = cluster.run(*command, "--flow", "nope")
    assert (refused.code, refused.out, refused.err) == (1, "", "flowhook: there is no flow nope\n")


def test_a_flow_of_which_there_is_nothing_yet_is_no_error(cluster, tmp_path):
    path = tmp_path / "untouched.yaml"
    path.write_text(QUIET.replace("quiet", "untouched"))
    cluster.run("apply", "-f", path)
    for command, message in (("executions", "no executions\n"), ("rejections", "no rejections\n")):
        listed = cluster.run(command, "list", "--flow", "untouched")
        assert (listed.code, listed.out, listed.err) == (0, message, "")


def test_what_is_retained_of_a_deleted_flow_is_listed(cluster, tmp_path):
    path = tmp_path / "gone.yaml"
    path.write_text(HELLO.replace("hello", "gone"))
    cluster.run("apply", "-f", path)
    execution_id = send_event(cluster, "gone", "{}")
    wait_for_end(cluster, execution_id)
    assert cluster.run("flows", "delete", "gone").code == 0
    assert [row["id"] for row in cluster.run("executions", "list", "--flow", "gone", "--json").rows] == [execution_id]


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


SHARED = "webhook: {auth: {KIND: {secret: shared}}}\ndo:\n  - keep: {set: {a: 1}}\n"
"""Two kinds that share a secret, which only the router finds when they are in two flows."""


@pytest.mark.parametrize(
    ("files", "code", "where"),
    [
        ({"bad": "do: [{a: {wait: soon}}]\n"}, "DURATION_INVALID", ("bad", 2, "do[0].a.wait")),
        (
            {"first": SHARED.replace("KIND", "x"), "second": SHARED.replace("KIND", "github")},
            "SECRET_SHARED",
            ("first", 0, "webhook.auth"),
        ),
    ],
)
def test_programs_get_the_code_of_each_problem(cluster, tmp_path, files, code, where):
    for name, text in files.items():
        (tmp_path / f"{name}.yaml").write_text(DOCUMENT.replace("NAME", name) + text)
    result = cluster.run("apply", "-f", tmp_path, "--json")
    assert (result.code, result.err) == (1, "")
    found = result.rows[0]
    assert list(found) == ["file", "line", "key", "cause", "code", "severity"]
    name, line, key = where
    assert (found["file"], found["line"], found["key"]) == (f"{tmp_path}/{name}.yaml", line, key)
    assert {(row["code"], row["severity"]) for row in result.rows} == {(code, "error")}


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
    assert set(listed.rows[0]) == {"name", "updated_at", "matched_at", "user_count", "users"}
    execution_id = send_event(cluster, "signed", "{}")
    assert wait_for_end(cluster, execution_id)["request"]["principal"] == {"scheme": "github", "secret": "gh"}
    assert "from-stdin" not in listed.out + cluster.run("executions", "get", execution_id).out
