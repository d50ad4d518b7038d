"""Flows take turns."""

from __future__ import annotations

import pytest

from runner.worker.execution_driver import TurnQueue


def test_flows_take_turns_and_within_a_flow_it_is_first_come_first_served():
    turns = TurnQueue()
    for number in range(4):
        turns.add("noisy", f"noisy {number}")
    taken = [turns.next()]
    turns.add("quiet", "quiet 0")
    turns.add("quiet", "quiet 1")
    turns.add("noisy", "noisy 4")
    while turns:
        taken.append(turns.next())
    assert taken == ["noisy 0", "noisy 1", "quiet 0", "noisy 2", "quiet 1", "noisy 3", "noisy 4"]


def test_a_flow_that_had_nothing_to_do_comes_behind_those_that_have():
    turns = TurnQueue()
    for flow_id in ("a", "b", "a"):
        turns.add(flow_id, flow_id)
    assert [turns.next(), turns.next()] == ["a", "b"]
    turns.add("b", "b")
    assert [turns.next(), turns.next()] == ["a", "b"]
    with pytest.raises(IndexError):
        turns.next()
