"""Crashes as a property: wherever a run is cut, however often, it ends the same, and nothing happens twice in vain.

The router's side is played faithfully: it keeps what was journaled, drops what a compaction makes superfluous, writes
what comes for an execution that waits into its journal, hands it over while something is under way, and assigns an
execution again when it was cut or when something has come. Effects answer by their key and by how often it was tried,
and events have the same data whenever they come, so that the same flow has the same end in every order of events.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from unittest import mock

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.examples import examples

from flowhook.events.lifecycle import FROM_RUNNERS, CorrelationEventType, TaskEventType
from flowhook.model import JournalEntry
from runner.interpreter import journal
from runner.interpreter.effects import DeliveredEvent, EffectResult, WorkflowCompleted, WorkflowFaulted
from runner.interpreter.errors import Kind, error
from runner.interpreter.execution_context import ExecutionContext
from runner.interpreter.execution_machine import ExecutionMachine
from runner.interpreter.program import compile_program

START = 1_700_000_000_000
SOON_MS = 600_000
"""Within this time it may be that nothing comes: limits of time that nothing should come to are longer."""
MAX_TURNS = 20_000


@dataclass
class OutsideWorld:
    """What is outside: time, and a service that counts calls by key, the durable ones apart.

    `fails`: tasks of this name fail so many times before they succeed.
    """

    now: int = START
    calls: Counter = field(default_factory=Counter)
    durable: Counter = field(default_factory=Counter)

    def clock(self):
        return self.now

    def answer(self, effect):
        self.now += 7
        key = effect.key
        self.calls[key] += 1
        failures = effect.arguments.get("fails", 0)
        if effect.function == "emit":
            assert effect.arguments["event"]["id"] == f"evt_1:{key}"
        if effect.function == "run.workflow":
            return EffectResult(orjson.dumps({"execution": f"evt_{len(key)}"}))
        if self.durable[key] < failures:
            status = 503 if effect.arguments.get("transient") else 418
            return EffectResult(None, error(Kind.COMMUNICATION, "no", status=status, instance=effect.instance))
        return EffectResult(orjson.dumps({"n": len(key)}))

    def comes(self, subscription, picks):
        """Return the entry for something that is waited for."""
        if subscription.execution_id:
            return JournalEntry(subscription.key, b'{"n":3}')
        wanted = picks.choice(subscription.filters)
        event = {"type": wanted.type or "other", "data": {"n": 1, "ok": picks.random() < 0.7}}
        return JournalEntry(subscription.key, orjson.dumps(event))


class StoredJournal:
    """The journal as a router keeps it, and what it is told beside."""

    def __init__(self):
        self.start, self.entries, self.written = 0, [], 0
        self.reported = []

    def arrive(self, entry):
        self.entries.append(entry)
        self.written += 1

    def append(self, write):
        if write.compacts:
            self.start, self.entries = self.written, []
        self.entries.append(write.entry)
        self.written += 1
        self.reported += write.lifecycle_events
        assert isinstance(write.entry, JournalEntry)


def workflow_of(definition, world):
    def overdue():  # the turns of others come at any moment
        return random.random() < 0.3

    return ExecutionContext("evt_1", definition, {"n": 1}, START, world.clock, must_yield=overdue)


def unobserved(*_):
    pass


def run_through(program, definition, cuts, picks, long=100, *, look=unobserved):
    """Run to the end, cut after so many journal entries or effects each time; returns ending, world and storage.

    A journal is compacted when it has `long` entries. `look` is called whenever nothing goes on by itself: with world
    and storage, the run, its last turn, and the effects that are under way.
    """
    with mock.patch.object(journal, "COMPACT_ENTRIES", long):
        return run_on(program, definition, cuts, picks, look)


def run_on(program, definition, cuts, picks, look):
    world, storage = OutsideWorld(), StoredJournal()
    cuts, picks = iter(cuts), random.Random(picks)
    for _ in range(MAX_TURNS):
        run = run_of(program, definition, world, storage)
        turn = attempt(run, world, storage, cuts, picks, look=partial(look, world, storage, run))
        if turn is None:
            continue
        if turn.ending is not None:
            return turn.ending, world, storage
        late = turn.wake_at_ms is None or turn.wake_at_ms > world.now + SOON_MS
        if turn.subscriptions and (late or picks.random() < 0.7):
            storage.arrive(world.comes(picks.choice(turn.subscriptions), picks))
        else:
            assert turn.wake_at_ms is not None, "it waits for nothing"
            world.now = max(world.now, turn.wake_at_ms)
    raise AssertionError("it does not end")


def run_of(program, definition, world, storage):
    workflow = workflow_of(definition, world)
    return ExecutionMachine(program, workflow, tuple(storage.entries), chance=lambda: 0.5, lifecycle_types=FROM_RUNNERS)


def attempt(run, world, storage, cuts, picks, *, look=unobserved):
    """One attempt; returns the turn in which it ended or parked, None when it was cut."""
    left = next(cuts, None)
    waiting, turn = [], run.advance()
    for _ in range(MAX_TURNS):
        for write in turn.writes[:left]:
            storage.append(write)
            world.durable[write.entry.key] += write.entry.key in world.calls
        if left is not None and left < len(turn.writes):
            return None  # cut between two entries of one turn
        left = None if left is None else left - len(turn.writes)
        if left == 0 and turn.ending is None and picks.random() < 0.2:
            return None  # cut before all was told
        storage.reported += turn.lifecycle_events
        if turn.ending is not None:
            return turn
        waiting = [effect for effect in waiting if effect.key not in turn.cancel] + list(turn.perform)
        if turn.paused:
            turn = run.advance()
            continue
        look(turn, waiting)
        if waiting and turn.subscriptions and picks.random() < 0.3:
            turn = run.deliver(DeliveredEvent(world.comes(picks.choice(turn.subscriptions), picks), 7))
            assert [write.consumed for write in turn.writes if write.consumed] == [7]
        elif waiting:
            effect = waiting.pop(picks.randrange(len(waiting)))
            result = world.answer(effect)
            if left == 0:
                return None  # done, and not journaled
            turn = run.resume(effect, result)
        else:
            return turn
    raise AssertionError("it does not end")


def listen(to, **more):
    return {"listen": {"to": to}, "output": {"as": "${ {n: 4} }"}, **more}


SAFE = [
    {"call": "f", "with": {}},
    {"call": "f", "with": {}, "output": {"as": "${ {n: (.n + ($input.n // 0))} }"}},
    {"call": "f", "with": {"fails": 2, "transient": True}},
    {"if": "(.n // 0) % 2 == 0", "call": "f", "with": {}},
    {"set": {"n": "${ ((.n // 0) + 1) }"}},
    {"set": {"n": "${ ((.n // 0) % 97) }", "late": "${ now > 1700000000 and $task.startedAt.epoch.seconds > 0 }"}},
    {"wait": {"seconds": 3}},
    {"wait": {"milliseconds": 1}},
    {"emit": {"event": {"with": {"type": "told", "data": {"n": "${ .n }"}}}}, "output": {"as": "${ {n: .data.n} }"}},
    {"run": {"workflow": {"namespace": "default", "name": "other", "version": "latest"}}},
    listen({"one": {"with": {"type": "a", "data": "${ .ok }"}}}),
    listen({"all": [{"with": {"type": kind}, "correlate": {"n": {"from": ".data.n"}}} for kind in "ab"]}),
    listen({"any": [{"with": {"type": kind, "data": "${ .ok }"}} for kind in "ab"], "until": "length > 2"}),
    listen({"any": [], "until": {"one": {"with": {"type": "b", "data": "${ .ok }"}}}}),
    listen({"any": [], "until": "length > 2"}, foreach={"do": [{"f": {"call": "f", "with": {}}}], "at": "i"}),
]
"""Tasks that always end well."""

UNSAFE = [
    {"call": "f", "with": {"fails": 1}},
    {"call": "f", "with": {"fails": 9}},
    {"call": "f", "with": {}, "export": {"as": "${ {seen: .n} }"}},
    {"raise": {"error": {"type": "https://example.com/errors/own", "status": 409}}},
    {"wait": {"days": 2}, "timeout": {"after": {"hours": 1}}},
    listen({"any": [], "until": "length > 2"}, foreach={"do": [{"f": {"call": "f", "with": {"fails": 1}}}]}),
    listen({"any": []}, export={"as": "${ {seen: .n} }"}),
    {"set": {"n": 5}, "then": "end"},
    {"set": {"n": 6}, "then": "exit"},
]
"""Tasks that may fail, or change what others see or do: which of several branches gets there first matters."""

LIMITED = listen({"any": [], "until": "length > 2"}, timeout={"after": {"minutes": 5}})
"""A task whose end depends on when events come."""

OWN = {
    "for": {"in": "[range(.times)]"},
    "do": [{"first": {"call": "f", "with": {}}}, {"second": {"call": "f", "with": {"fails": 1, "transient": True}}}],
}
"""A function: calls from within a loop of its own."""

RETRIES = [
    None,
    {"delay": {"seconds": 2}, "backoff": {"exponential": {}}, "limit": {"attempt": {"count": 2}}},
    {"backoff": {"linear": {"increment": "PT1M"}}, "limit": {"duration": {"minutes": 5}}},
    {"limit": {"attempt": {"count": 3, "duration": {"hours": 1}}}, "jitter": {"from": "PT1S", "to": "PT4S"}},
]


def blocks(inner):
    return st.lists(inner, min_size=1, max_size=3).map(
        lambda tasks: [{f"t{index}": task} for index, task in enumerate(tasks)]
    )


def fork(block, *, compete=False):
    return {"fork": {"branches": block, "compete": compete}, "output": {"as": "{n: 1, of: .}"}}


ANY, LASTING, TEAPOT = {}, {"exceptWhen": "$error.status == 503"}, {"errors": {"with": {"status": 418}}}


def attempted(block, handler, retry, only, then):
    retry = {"retry": retry} if retry else {}
    return {"try": block, "catch": {**retry, **only, **handler, **then}}


def composites(inner, *, caught=(LASTING, TEAPOT)):
    """Tasks of others; what fails for a while is caught where it does not matter when: outside of forks."""
    block = blocks(inner)
    return st.one_of(
        block.map(lambda do: {"do": do}),
        st.tuples(block, st.integers(0, 3)).map(
            lambda part: {"for": {"in": f"${{ [range({part[1]})] }}"}, "do": part[0]}
        ),
        block.map(lambda do: {"for": {"in": "[1, 2, 3]"}, "while": "$item < 3", "do": do}),
        st.builds(
            attempted,
            block,
            st.one_of(block.map(lambda do: {"do": do}), st.just({})),
            st.sampled_from(RETRIES),
            st.sampled_from(caught),
            st.sampled_from([{}, {"then": "exit"}, {"then": "continue"}]),
        ),
        block.map(lambda do: {"do": do, "timeout": {"after": {"days": 50}}}),
        st.integers(0, 3).map(lambda times: {"call": "own", "with": {"times": times}}),
    )


def without_races():
    """Forks only of what always ends well."""
    safe = st.recursive(st.sampled_from(SAFE), lambda inner: composites(inner) | blocks(inner).map(fork), max_leaves=6)
    return blocks(st.recursive(safe | st.sampled_from(UNSAFE), composites, max_leaves=8))


def with_races():
    return blocks(
        st.recursive(
            st.sampled_from([*SAFE, *UNSAFE, LIMITED]),
            lambda inner: (
                composites(inner, caught=(ANY, LASTING, TEAPOT)) | st.builds(fork, blocks(inner), compete=st.booleans())
            ),
            max_leaves=12,
        )
    )


def outcome(ending):
    if isinstance(ending, WorkflowCompleted):
        return "completed", ending.output
    assert isinstance(ending, WorkflowFaulted)
    return "faulted", ending.error


def compiled(evaluator, do):
    definition = {
        "document": {"namespace": "default", "name": "test"},
        "use": {"functions": {"own": OWN}},
        "do": do,
        "timeout": {"after": {"days": 300}},
    }
    return compile_program(definition, evaluator), definition


CUTS = st.lists(st.integers(0, 6), max_size=8)
LONG = st.sampled_from([1, 2, 5, 100])


@settings(max_examples=examples(150), deadline=None, suppress_health_check=list(HealthCheck))
@given(do=without_races(), cuts=CUTS, picks=st.integers(0, 9), long=LONG)
def test_any_flow_that_is_cut_anywhere_ends_as_if_it_had_not_been(evaluator, do, cuts, picks, long):
    program, definition = compiled(evaluator, do)
    whole, undisturbed, _ = run_through(program, definition, (), 0)
    ending, world, _ = run_through(program, definition, cuts, picks, long)
    assert outcome(ending) == outcome(whole)
    assert set(world.calls) == set(undisturbed.calls)
    assert {visit for key in world.calls for visit in re.findall(r"#(\d+)", key)} <= {"0"}  # in retries, too
    assert sum((world.calls - undisturbed.calls).values()) <= len(cuts)


@settings(max_examples=examples(150), deadline=None, suppress_health_check=list(HealthCheck))
@given(do=with_races(), cuts=CUTS, picks=st.integers(0, 9), long=LONG)
def test_who_won_a_race_is_the_same_in_every_replay(evaluator, do, cuts, picks, long):
    program, definition = compiled(evaluator, do)
    ending, world, storage = run_through(program, definition, cuts, picks, long)
    if isinstance(ending, WorkflowFaulted):
        return  # the failure that ended it is not journaled: nobody goes on from there
    world.calls.clear()
    turn = attempt(
        ExecutionMachine(program, workflow_of(definition, world), tuple(storage.entries), chance=lambda: 0.5),
        world,
        StoredJournal(),
        iter(()),
        random.Random(0),
    )
    assert outcome(turn.ending) == outcome(ending)
    assert not world.calls


@settings(max_examples=examples(150), deadline=None, suppress_health_check=list(HealthCheck))
@given(do=with_races(), picks=st.integers(0, 9), long=LONG)
def test_a_replay_at_any_moment_stands_where_the_execution_does(evaluator, do, picks, long):
    program, definition = compiled(evaluator, do)

    def look(world, storage, run, turn, waiting):
        again = run_of(program, definition, world, storage)
        replayed, requested = again.advance(), []
        while replayed.paused:
            requested += replayed.perform
            replayed = again.advance()
        assert standing(again) == standing(run)
        assert {effect.key for effect in [*requested, *replayed.perform]} == {effect.key for effect in waiting}
        assert (replayed.wake_at_ms, replayed.subscriptions) == (turn.wake_at_ms, turn.subscriptions)
        assert not replayed.writes

    run_through(program, definition, (), picks, long, look=look)


def standing(run):
    """Return what a run waits for, and until when."""
    return {key: pending.until_ms for key, pending in run._fibers.pending.items()}


def test_a_replay_that_pauses_requests_nothing_that_the_journal_has(evaluator):
    program, definition = compiled(evaluator, [{"both": fork([{"a": SAFE[0]}, {"b": SAFE[2]}])}])
    for seed in range(100):
        random.seed(seed)  # decides when the turns of others come
        _, world, _ = run_through(program, definition, (), seed)
        assert world.calls == {"/do/0/both/fork/branches/0/a#0": 1, "/do/0/both/fork/branches/1/b#0": 3}


def test_a_replay_requests_no_effect_that_has_lost_its_race(evaluator):
    race = fork([{"a": SAFE[0]}, {"b": SAFE[1]}], compete=True)
    program, definition = compiled(evaluator, [{"race": race}, {"next": SAFE[0]}])
    won = JournalEntry("/do/0/race/fork/branches/1/b#0", b'{"n": 1}')
    workflow = ExecutionContext("evt_1", definition, {"n": 1}, START, lambda: START, must_yield=lambda: True)
    run = ExecutionMachine(program, workflow, (won,))
    turn, requested = run.advance(), []
    while turn.paused:
        requested += turn.perform
        turn = run.advance()
    assert [effect.key for effect in [*requested, *turn.perform]] == ["/do/1/next#0"]


ENDS = frozenset({TaskEventType.COMPLETED, TaskEventType.FAULTED, TaskEventType.CANCELLED})


def known(reported):
    """Return what was told, each once: receivers know it by its type and key, which never stand for two things."""
    found = {}
    for each in reported:
        content = orjson.loads(each.data)
        assert found.setdefault((each.type, each.key), content) == content
    return found


def kinds(found):
    return Counter((type_, content.get("task")) for (type_, _), content in found.items())


@settings(max_examples=examples(150), deadline=None, suppress_health_check=list(HealthCheck))
@given(do=without_races(), cuts=CUTS, picks=st.integers(0, 9), long=LONG)
def test_a_flow_that_is_cut_anywhere_reports_what_it_would_have_reported(evaluator, do, cuts, picks, long):
    program, definition = compiled(evaluator, do)
    _, _, undisturbed = run_through(program, definition, (), 0)
    _, _, storage = run_through(program, definition, cuts, picks, long)
    assert kinds(known(storage.reported)) == kinds(known(undisturbed.reported))


@settings(max_examples=examples(150), deadline=None, suppress_health_check=list(HealthCheck))
@given(do=with_races(), cuts=CUTS, picks=st.integers(0, 9), long=LONG)
def test_every_task_that_is_reported_to_begin_is_reported_to_end_once(evaluator, do, cuts, picks, long):
    program, definition = compiled(evaluator, do)
    _, _, storage = run_through(program, definition, cuts, picks, long)
    lives = {}
    for type_, key in known(storage.reported):
        number, _, retry = key.partition(".")
        assert bool(retry) == (type_ == TaskEventType.RETRIED)
        if type_ not in frozenset(CorrelationEventType):
            lives.setdefault(number, []).append(type_)
    for life in lives.values():
        assert life[0] == TaskEventType.CREATED
        assert life[1] in {TaskEventType.STARTED, TaskEventType.CANCELLED}
        assert set(life[2:-1]) <= {TaskEventType.RETRIED}
        assert life[-1] in ENDS
