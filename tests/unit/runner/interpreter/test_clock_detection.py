"""Which tasks ask for the time: those whose own expressions look at it."""

from __future__ import annotations

from support.cases import cases

from runner.interpreter.clock_detection import task_reads_clock

LOOKS = {"set": {"at": "${ now }"}}


@cases(
    ("task", "looks"),
    [
        (LOOKS, True),
        ({"set": {"at": "${ .now }"}}, False),
        ({"set": {"at": "${ $now + .known }"}}, False),
        ({"set": {"at": "${ $task.startedAt }"}}, True),
        ({"set": {"at": "${ $task }"}}, True),
        ({"set": {"at": '${ $task["startedAt"] }'}}, True),
        ({"set": {"at": "${ $task.with.endpoint + $task.name }"}}, False),
        ({"do": [{"a": LOOKS}]}, False),
        ({"try": [{"a": LOOKS}], "catch": {"do": [{"b": LOOKS}]}}, False),
        ({"try": [], "catch": {"when": "now > 5"}}, True),
        ({"fork": {"branches": [{"a": LOOKS}]}}, False),
        ({"listen": {"to": {"any": [], "until": "now > 5"}}}, True),
        ({"listen": {"to": {"any": []}}, "foreach": {"do": [{"a": LOOKS}]}}, False),
        ({"listen": {"to": {"any": []}}, "foreach": {"output": {"as": "now"}}}, True),
        ({"emit": {"event": {"with": {"type": "x"}}}, "metadata": {"sink": '${ "https://x/\\(now)" }'}}, True),
        ({"set": {"x": 1}, "metadata": {"note": "${ now }"}}, False),
    ],
)
def test_a_task_looks_at_the_clock_if_its_own_expressions_do(task, looks):
    assert task_reads_clock(task) is looks
