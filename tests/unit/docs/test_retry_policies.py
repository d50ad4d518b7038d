"""Each policy in the table of the docs has the delays that stand beside it."""

from __future__ import annotations

import re

import pytest
from support import pages

from flowhook.document.loader import parse
from runner.evaluation.evaluator import Evaluator
from runner.interpreter.effects import EffectResult
from runner.interpreter.errors import Kind, error
from runner.interpreter.execution_context import ExecutionContext
from runner.interpreter.execution_machine import ExecutionMachine
from runner.interpreter.nodes import DEFAULT_RETRY
from runner.interpreter.program import compile_program

PAGE = pages.text_of("flow-file.md")
ROWS = pages.rows(PAGE.partition("### Retry policies\n")[2].partition("\n| where ")[0])[1:]
UNITS = {"s": 1, "min": 60, "h": 3600}
FLOW = """
document: {dsl: 1.0.3, namespace: default, name: example, version: 1.0.0}
execution: {retry: %s}
do: [{ask: {call: http, with: {method: get, endpoint: "https://example.com"}}}]
"""


def documented(text):
    """Return the shortest and longest delay before each try, in seconds."""
    if text == "none":
        return []
    listed, _, more = text.partition(";")
    at_random = listed.startswith("up to ")
    longer = 1 + int(re.search(r"(\d+) %", more)[1]) / 100 if more else 1
    found = []
    for part in listed.removeprefix("up to ").split(", "):
        bounds = [int(count) * UNITS[unit] for count, unit in (each.split() for each in part.split(" to "))]
        found.append((0 if at_random else bounds[0], bounds[-1] * longer))
    return found


def delays(policy, chance):
    """Return how long an execution waits before each try of a call that always fails, in seconds."""
    now = 0
    definition = parse((FLOW % policy).encode()).definition
    workflow = ExecutionContext("evt_1", definition, {}, 0, lambda: now)
    machine = ExecutionMachine(compile_program(definition, Evaluator()), workflow, chance=lambda: chance)
    step, found = machine.advance(), []
    while step.ending is None:
        [effect] = step.perform
        step, before = machine.resume(effect, EffectResult(None, error(Kind.COMMUNICATION, "no", status=503))), now
        if step.wake_at_ms is not None:
            now = step.wake_at_ms
            step = machine.advance()
        if step.ending is None:
            found.append((now - before) / 1000)
    return found


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_a_policy_waits_as_the_table_says(row):
    policy, waits, _ = row
    expected = documented(waits)
    assert delays(policy.strip("`"), 0.0) == [least for least, _ in expected]
    assert delays(policy.strip("`"), 1.0) == pytest.approx([most for _, most in expected])


def test_the_default_is_the_one_that_the_table_names():
    assert [row[0] for row in ROWS if "default" in row[2]] == [f"`{DEFAULT_RETRY}`"]
