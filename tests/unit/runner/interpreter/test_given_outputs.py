"""Outputs that a replay gives to tasks instead of performing them."""

from __future__ import annotations

import pytest

from flowhook.model import JournalEntry
from flowhook.model.held_results import PREFIX, given_output_key
from runner.interpreter import journal as journals


def given(task, output=b'{"given":true}'):
    return (JournalEntry(f"{PREFIX}{given_output_key(task)}", output),)


def performed(world):
    return [effect.function for effect in world.performed]


@pytest.mark.parametrize(
    "body",
    [
        {"call": "f"},
        {"set": {"x": "${ error }"}},
        {"do": [{"inner": {"call": "f"}}]},
        {"for": {"in": "${ [1, 2] }"}, "do": [{"inner": {"call": "f"}}]},
        {"fork": {"branches": [{"p": {"call": "f"}}, {"q": {"call": "f"}}]}},
        {"try": [{"inner": {"call": "f"}}], "catch": {"do": [{"handle": {"call": "f"}}]}},
        {"wait": {"hours": 1}},
        {"listen": {"to": {"one": {"with": {"type": "never"}}}}},
        {"emit": {"event": {"with": {"type": "t", "source": "https://example.com"}}}},
        {"run": {"workflow": {"namespace": "default", "name": "other", "version": "1.0.0"}}},
        {"raise": {"error": {"type": "https://example.com/no", "status": 500}}},
        {"switch": [{"never": {"then": "exit"}}]},
        {"call": "f", "if": "${ false }"},
        {"call": "f", "timeout": {"after": {"seconds": 1}}},
    ],
    ids=lambda body: next(iter(body)),
)
def test_a_task_of_any_kind_is_not_performed_and_has_the_given_output(execute, body):
    do = [{"a": {"call": "before"}}, {"t": body}, {"z": {"set": "${ {seen: .} }"}}]
    world = execute.World()
    outcome = execute(do, {}, journal=given("/do/1/t"), world=world)
    assert outcome.output == {"seen": {"given": True}}
    assert performed(world) == ["before"]
    # the output is an entry of the journal from then on, at its place; before tasks that wait, a snapshot is taken
    keys = [entry.key for entry in outcome.journal if entry.key != "@"]
    assert keys == ["~/do/1/t#0:output", "/do/0/a#0", "/do/1/t#0.0:output"]
    again = execute(do, {}, journal=outcome.journal, world=world)
    assert again.output == outcome.output
    assert performed(world) == ["before"]


def test_it_is_the_raw_output_which_is_transformed_and_exported(execute):
    task = {"call": "f", "output": {"as": "${ .given }"}, "export": {"as": "${ {kept: .} }"}}
    do = [{"t": task}, {"z": {"set": "${ [., $context] }"}}]
    assert execute(do, {}, journal=given("/do/0/t")).output == [True, {"kept": True}]


def test_it_is_that_of_the_first_run_and_later_ones_have_the_keys_they_would_have(execute):
    do = [{"t": {"call": "f"}}, {"again": {"switch": [{"no": {"when": ".given", "then": "t"}}]}}]
    world = execute.World()
    outcome = execute(do, {}, journal=given("/do/0/t"), world=world)
    assert outcome.output == {"n": 1}
    assert [effect.key for effect in world.performed] == ["/do/0/t#1"]


def test_it_is_that_of_one_iteration(execute):
    do = [{"l": {"for": {"in": "${ [1, 2, 3] }"}, "do": [{"t": {"call": "f"}}]}}]
    world = execute.World()
    execute(do, {}, journal=given("/do/0/l/do/0/t[1]"), world=world)
    assert [effect.key for effect in world.performed] == ["/do/0/l/do/0/t[0]#0", "/do/0/l/do/0/t[2]#0"]


def test_it_is_that_of_a_task_in_a_function(execute):
    functions = {"twice": {"do": [{"x": {"call": "f"}}, {"y": {"call": "g"}}]}}
    do = [{"a": {"call": "twice"}}, {"b": {"call": "twice"}}]
    world = execute.World()
    journal = given("/do/1/b#0 /use/functions/twice/do/0/x")
    execute(do, {}, journal=journal, world=world, use={"functions": functions})
    assert performed(world) == ["f", "g", "g"]


@pytest.mark.parametrize("cut", range(1, 7))
def test_it_survives_a_crash_anywhere(execute, cut):
    do = [{"a": {"call": "a"}}, {"t": {"set": {"n": 5}}}, {"b": {"call": "b"}}, {"u": {"call": "u"}}]
    journal = (*given("/do/1/t"), *given("/do/3/u", b"7"))
    world = execute.World()
    part = execute(do, {}, journal=journal, world=world, stop_after=cut)
    assert execute(do, {}, journal=part.journal, world=world).output == 7
    assert "u" not in performed(world)


@pytest.mark.parametrize("many", [1, 2, 3])
def test_it_survives_compaction_before_and_after_it_is_used(execute, monkeypatch, many):
    monkeypatch.setattr(journals, "COMPACT_ENTRIES", many)
    do = [{f"c{index}": {"call": "c"}} for index in range(4)] + [{"t": {"call": "t"}}]
    do += [{f"d{index}": {"call": "d"}} for index in range(4)]
    world = execute.World()
    outcome = execute(do, {}, journal=given("/do/4/t"), world=world)
    assert performed(world) == ["c"] * 4 + ["d"] * 4
    snapshots = [index for index, entry in enumerate(outcome.journal) if entry.key == "@"]
    assert snapshots
    for index in snapshots:
        rest = next((later for later in snapshots if later > index), len(outcome.journal))
        assert "t" not in performed(execute(do, {}, journal=outcome.journal[index:rest]).world)


def test_in_a_fork_it_does_not_depend_on_the_order_of_the_branches(execute):
    for task in ("/do/0/f/fork/branches/0/p", "/do/0/f/fork/branches/1/q"):
        do = [{"f": {"fork": {"branches": [{"p": {"call": "p"}}, {"q": {"call": "q"}}]}}}]
        world = execute.World()
        outcome = execute(do, {}, journal=given(task), world=world)
        assert performed(world) == ["q" if task.endswith("p") else "p"]
        assert execute(do, {}, journal=outcome.journal).world.performed == []


def test_results_that_a_snapshot_holds_are_not_used_by_a_replay_that_takes_over_only_its_own(execute, monkeypatch):
    do = [{f"c{index}": {"call": "c"}} for index in range(3)] + [{"t": {"call": "t"}}]
    held = JournalEntry(f"{PREFIX}/do/3/t#0", b'"held"')
    monkeypatch.setattr(journals, "COMPACT_ENTRIES", 2)
    outcome = execute(do, {}, journal=(held,))
    assert outcome.output == "held"
    last = max(index for index, entry in enumerate(outcome.journal) if entry.key == "@")
    retained = outcome.journal[last : last + 1]
    assert execute(do, {}, journal=retained).output == "held"
    assert execute(do, {}, journal=(*retained, JournalEntry(PREFIX, b"null"))).output == {"n": 1}
