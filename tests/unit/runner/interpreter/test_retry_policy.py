"""How long whoever failed is left alone before the next try."""

from __future__ import annotations

from itertools import pairwise

import orjson
import pytest
from support.cases import cases

from flowhook.attach.limits import MAX_RETRY_AFTER_MS
from flowhook.document.quantities import MAX_SECONDS
from flowhook.model import JournalEntry
from runner.interpreter.effects import EffectResult
from runner.interpreter.errors import Kind, error
from runner.interpreter.execution_context import ExecutionContext
from runner.interpreter.execution_machine import ExecutionMachine
from runner.interpreter.program import compile_program
from runner.interpreter.retry_policy import is_transient

NOW = 1_700_000_001_000
DAY = 86_400_000
MOST = MAX_SECONDS * 1000


def failing(execute, clock, requested, *, times=1):
    """Return a world whose `f` fails, and when it was called."""
    calls = []

    def answer(_effect):
        calls.append(clock.now - NOW)
        if len(calls) > times:
            return EffectResult(orjson.dumps(clock.now - NOW))
        return EffectResult(None, error(Kind.COMMUNICATION, "busy", status=503), retry_after_ms=requested)

    return execute.World({"f": answer}), calls


def in_call(policy):
    return {"call": "f", "metadata": {"retry": policy}}


def in_try(policy):
    return {"try": [{"a": {"call": "f"}}], "catch": {"retry": policy}}


@pytest.mark.parametrize("task", [in_call, in_try])
@pytest.mark.parametrize(
    ("requested", "policy", "expected"),
    [
        (0, {"delay": {"seconds": 2}}, 2_000),
        (7_000, {"delay": {"seconds": 2}}, 7_000),
        (7_000, {"delay": {"seconds": 9}}, 9_000),
        (7_000, {"limit": {"duration": {"seconds": 5}}}, 5_000),
        (10 * MAX_RETRY_AFTER_MS, {}, MAX_RETRY_AFTER_MS),
    ],
)
def test_the_next_try_waits_for_as_long_as_the_server_asks_within_bounds(execute, task, requested, policy, expected):
    clock = execute.Clock(NOW)
    world, calls = failing(execute, clock, requested)
    assert execute([{"t": task(policy)}], {}, world=world, clock=clock).output == expected
    assert calls == [0, expected]


@pytest.mark.parametrize("task", [in_call, in_try])
def test_what_the_server_requested_is_not_in_the_journal_and_a_replay_takes_the_same_way(execute, task):
    clock = execute.Clock(NOW)
    do = [{"t": task({"limit": {"duration": {"seconds": 5}}})}]
    world, _ = failing(execute, clock, 7_000)
    outcome = execute(do, {}, world=world, clock=clock)
    assert outcome.output == 5_000
    for cut in range(1, len(outcome.journal) + 1):  # the first entry is the failure
        world, calls = failing(execute, clock, 0, times=0)
        assert execute(do, {}, journal=outcome.journal[:cut], world=world, clock=clock).output == 5_000
        assert len(calls) == (cut < len(outcome.journal))


@pytest.mark.parametrize("task", [in_call, in_try])
@pytest.mark.parametrize(
    ("policy", "delays"),
    [
        ({}, [0, 0, 0]),
        ({"delay": {"seconds": 2}}, [2_000, 2_000, 2_000]),
        ({"delay": {"seconds": 2}, "backoff": {"constant": {}}}, [2_000, 2_000, 2_000]),
        ({"delay": {"seconds": 2}, "backoff": {"linear": {}}}, [2_000, 4_000, 6_000]),
        ({"delay": {"seconds": 2}, "backoff": {"linear": {"increment": "PT1S"}}}, [2_000, 3_000, 4_000]),
        ({"delay": {"seconds": 2}, "backoff": {"exponential": {}}}, [2_000, 4_000, 8_000]),
        ({"delay": {"seconds": 2}, "backoff": {"exponential": {"maxDelay": "PT5S"}}}, [2_000, 4_000, 5_000]),
        ({"delay": {"seconds": 2}, "backoff": {"linear": {"maxDelay": "${ .delay }"}}}, [2_000, 4_000, 5_000]),
        ({"delay": {"days": 3000}, "backoff": {"exponential": {}}}, [3000 * DAY, MOST, MOST]),
        ({"delay": "${ .delay }"}, [5_000, 5_000, 5_000]),
    ],
)
def test_the_delay_before_a_try_grows_as_the_backoff_says(execute, task, policy, delays):
    clock = execute.Clock(NOW)
    world, calls = failing(execute, clock, 0, times=3)
    limit = {"limit": {"attempt": {"count": 3}}}
    execute([{"t": task({**policy, **limit})}], {"delay": "PT5S"}, world=world, clock=clock)
    assert [after - before for before, after in pairwise(calls)] == delays


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
def test_jitter_adds_a_time_by_chance_between_two_bounds(begin, chance):
    policy = {"delay": {"seconds": 2}, "jitter": {"from": {"seconds": 1}, "to": {"seconds": 3}}}
    begun = begin([{"t": in_call(policy)}], chance=chance)
    turn = begun.after(
        effect=begun.effects[0], result=EffectResult(None, error(Kind.COMMUNICATION, "busy", status=503))
    )
    assert turn.wake_at_ms == begun.now + 3_000 + int(2_000 * chance)


@pytest.mark.parametrize("chance", [0.0, 0.999])
def test_the_preset_quick_tries_again_after_times_by_chance_that_may_double(begin, chance):
    begun = begin([{"t": in_call("quick")}], chance=chance)
    for most in (1_000, 2_000, 4_000, 8_000):
        failed = EffectResult(None, error(Kind.COMMUNICATION, "busy", status=503))
        turn = begun.after(effect=begun.effects[-1], result=failed)
        if chance:
            assert turn.wake_at_ms == begun.now + int(most * chance)
            begun.after(seconds=most / 1000)
    assert len(begun.effects) == 5
    assert begun.after(effect=begun.effects[-1], result=failed).ending is not None


@pytest.mark.parametrize("written", [{}, {"metadata": {"retry": "webhook"}}])
@pytest.mark.parametrize("chance", [0.0, 0.999])
def test_a_call_without_a_policy_outlives_an_outage_of_a_day(begin, written, chance):
    begun = begin([{"t": {"call": "f", **written}}], chance=chance)
    failed = EffectResult(None, error(Kind.COMMUNICATION, "busy", status=503))
    for seconds in (1, 5, 15, 30, 60, 120, 300, 900, 1_800, 7_200, 18_000, 36_000, 36_000):
        turn = begun.after(effect=begun.effects[-1], result=failed)
        wait = 1000 * seconds + int(200 * seconds * chance)
        assert turn.wake_at_ms == begun.now + wait
        begun.after(seconds=wait / 1000)
    assert len(begun.effects) == 14
    assert begun.after(effect=begun.effects[-1], result=failed).ending is not None


@pytest.mark.parametrize("task", [in_call, in_try])
@pytest.mark.parametrize(
    ("status", "requested", "follows"), [(503, 0, True), (500, 0, True), (503, 1_000, False), (429, 0, False)]
)
def test_a_call_follows_a_success_unless_the_destination_asked_for_a_pause(begin, task, status, requested, follows):
    begun = begin([{"t": task({"delay": {"hours": 1}})}])
    failed = EffectResult(None, error(Kind.COMMUNICATION, "busy", status=status), retry_after_ms=requested)
    begun.after(effect=begun.effects[0], result=failed)
    assert begun.run.next_retry.follows is follows


@pytest.mark.parametrize("task", [in_call, in_try])
def test_a_call_follows_a_success_once(execute, evaluator, task):
    do = [{"t": task({"delay": {"hours": 1}, "limit": {"attempt": {"count": 3}}})}]
    failed = EffectResult(None, error(Kind.COMMUNICATION, "down", status=503))
    world = execute.World({"f": failed})
    waiting = execute(do, world=world, stop_after=2)
    early = JournalEntry(waiting.journal[-1].key, b'{"over":1700000002000,"early":true}')
    again = execute(do, world=world, journal=(*waiting.journal, early), stop_after=5)
    assert len(world.performed) == 2
    definition = {"document": {"namespace": "default", "name": "test"}, "do": do}
    for journal, follows in ((waiting.journal, True), (again.journal, False)):
        known = ExecutionContext("evt_1", definition, None, 1_700_000_000_000, lambda: 1_700_000_003_000)
        machine = ExecutionMachine(compile_program(definition, evaluator), known, journal)
        machine.advance()
        assert machine.next_retry.follows is follows


def test_a_policy_of_the_flow_goes_before_the_preset_of_its_name(begin):
    own = {"retries": {"webhook": {"delay": {"seconds": 2}}}}
    begun = begin([{"t": in_call("webhook")}], use=own)
    turn = begun.after(
        effect=begun.effects[0], result=EffectResult(None, error(Kind.COMMUNICATION, "busy", status=503))
    )
    assert turn.wake_at_ms == begun.now + 2_000


@cases(
    ("kind", "status", "transient"),
    [
        (Kind.COMMUNICATION, 500, True),
        (Kind.COMMUNICATION, 503, True),
        (Kind.COMMUNICATION, 408, True),
        (Kind.COMMUNICATION, 425, True),
        (Kind.COMMUNICATION, 429, True),
        (Kind.COMMUNICATION, 404, False),
        (Kind.COMMUNICATION, 303, False),
        (Kind.TIMEOUT, 408, True),
        (Kind.RUNTIME, 500, False),
        (Kind.AUTHENTICATION, 401, False),
    ],
)
def test_what_may_do_better_the_next_time(kind, status, transient):
    assert is_transient(error(kind, "no", status=status)) is transient


@pytest.mark.parametrize(
    ("policy", "tries"),
    [
        ({"when": "$error.status == 503"}, 3),
        ({"when": "$error.status == 404"}, 1),
        ({"when": ".wanted"}, 1),
        ({"exceptWhen": "$error.status == 503"}, 1),
        ({"exceptWhen": "$error.status == 404"}, 3),
        ({"when": "true", "exceptWhen": "true"}, 1),
    ],
)
@pytest.mark.parametrize("task", [in_call, in_try])
def test_a_policy_says_for_what_there_is_another_try(execute, task, policy, tries):
    clock = execute.Clock(NOW)
    world, calls = failing(execute, clock, 0, times=9)
    execute([{"t": task({**policy, "limit": {"attempt": {"count": 2}}})}], {"wanted": False}, world=world, clock=clock)
    assert len(calls) == tries
