"""How long whoever failed is left alone before the next try."""

from __future__ import annotations

import orjson
import pytest

from runner.interpreter.effects import Result
from runner.interpreter.errors import Kind, error
from runner.interpreter.retrying import MAX_RETRY_AFTER_MS

NOW = 1_700_000_001_000


def failing(execute, clock, asked, *, times=1):
    """Return a world whose `f` fails, and when it was called."""
    calls = []

    def answer(_effect):
        calls.append(clock.now - NOW)
        if len(calls) > times:
            return Result(orjson.dumps(clock.now - NOW))
        return Result(None, error(Kind.COMMUNICATION, "busy", status=503), retry_after_ms=asked)

    return execute.World({"f": answer}), calls


def in_call(policy):
    return {"call": "f", "metadata": {"retry": policy}}


def in_try(policy):
    return {"try": [{"a": {"call": "f"}}], "catch": {"retry": policy}}


@pytest.mark.parametrize("task", [in_call, in_try])
@pytest.mark.parametrize(
    ("asked", "policy", "expected"),
    [
        (0, {"delay": {"seconds": 2}}, 2_000),
        (7_000, {"delay": {"seconds": 2}}, 7_000),
        (7_000, {"delay": {"seconds": 9}}, 9_000),
        (7_000, {"limit": {"duration": {"seconds": 5}}}, 5_000),
        (10 * MAX_RETRY_AFTER_MS, {}, MAX_RETRY_AFTER_MS),
    ],
)
def test_the_next_try_waits_for_as_long_as_the_server_asks_within_bounds(execute, task, asked, policy, expected):
    clock = execute.Clock(NOW)
    world, calls = failing(execute, clock, asked)
    assert execute([{"t": task(policy)}], {}, world=world, clock=clock).output == expected
    assert calls == [0, expected]


@pytest.mark.parametrize("task", [in_call, in_try])
def test_what_the_server_asked_for_is_not_in_the_journal_and_a_replay_takes_the_same_way(execute, task):
    clock = execute.Clock(NOW)
    do = [{"t": task({"limit": {"duration": {"seconds": 5}}})}]
    world, _ = failing(execute, clock, 7_000)
    outcome = execute(do, {}, world=world, clock=clock)
    assert outcome.output == 5_000
    for cut in range(1, len(outcome.journal) + 1):  # the first entry is the failure
        world, calls = failing(execute, clock, 0, times=0)
        assert execute(do, {}, journal=outcome.journal[:cut], world=world, clock=clock).output == 5_000
        assert len(calls) == (cut < len(outcome.journal))
