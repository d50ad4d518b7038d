"""`flowhook diff` against a running cluster."""

from __future__ import annotations

from support.commands import send_event, wait_for_end


def test_two_executions_are_compared(cluster):
    first = send_event(cluster, "hello", '{"n": 1.0, "same": true}')
    second = send_event(cluster, "hello", '{"n": 1, "same": true}')
    for execution_id in (first, second):
        wait_for_end(cluster, execution_id)
    result = cluster.run("diff", first, second)
    assert result.code == 0
    assert any(line.split() == ["body", "/n", "1.0", "1"] for line in result.out.splitlines()), result.out
    [row] = cluster.run("diff", first, second, "--json").rows
    assert (row["first"]["id"], row["second"]["id"], row["diff"]["diverges_at"]) == (first, second, None)
    assert row["diff"]["body"]["differences"] == [{"kind": "changed", "path": "/n", "first": "1.0", "second": "1"}]
    assert "no differences" in cluster.run("diff", first, first).out


def test_bodies_that_are_no_json_are_compared_by_line(cluster):
    first, second = (send_event(cluster, "hello", text, "--content-type", "text/plain") for text in ("a\nb", "a\nc"))
    for each in (first, second):
        wait_for_end(cluster, each)
    result = cluster.run("diff", first, second)
    assert result.out.endswith("body:\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n")


def test_a_body_does_not_control_the_terminal(cluster):
    first, second = (
        send_event(cluster, "hello", text, "--content-type", "text/plain") for text in ("\x1b[2J\ta", "\x9b2Jb")
    )
    for each in (first, second):
        wait_for_end(cluster, each)
    result = cluster.run("diff", first, second)
    assert result.out.endswith("-\ufffd[2J\ta\n+\ufffd2Jb\n")


def test_an_execution_that_does_not_exist_is_named(cluster):
    unknown = "evt_00000000000000000000000000"
    result = cluster.run("diff", unknown, unknown)
    assert (result.code, unknown in result.err) == (1, True)
