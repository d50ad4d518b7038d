"""Tasks that extensions run before and after others."""

from __future__ import annotations

import pytest

from flowhook.model import SNAPSHOT_KEY
from runner.interpreter import journal
from runner.interpreter.effects import EffectResult
from runner.interpreter.errors import Kind, error

CALL = {"call": "f", "with": {"task": "${ $task.reference }", "data": "${ . }"}}
SET = {"a": {"set": {"n": "${ (.n // 0) + 1 }"}}}


def extension(extend="all", **more):
    return {"extend": extend, **more}


def use(*extensions):
    return {"extensions": [{f"e{number}": each} for number, each in enumerate(extensions)]}


def reported(outcome):
    """What the calls of a run were given."""
    return [effect.arguments for effect in outcome.world.performed]


def test_tasks_run_before_and_after_the_extended_one_and_change_nothing(execute):
    logging = extension(before=[{"log": CALL}], after=[{"log": CALL}])
    outcome = execute([SET, {"b": SET["a"]}], {}, use=use(logging))
    assert outcome.output == {"n": 2}
    assert reported(outcome) == [
        {"task": "/do/0/a", "data": {}},
        {"task": "/do/0/a", "data": {"n": 1}},
        {"task": "/do/1/b", "data": {"n": 1}},
        {"task": "/do/1/b", "data": {"n": 2}},
    ]
    place = "extended /use/extensions/0/e0/"
    assert [effect.key for effect in outcome.world.performed] == [
        f"/do/0/a#0:{place}before/0/log#0",
        f"/do/0/a#0:{place}after/0/log#0",
        f"/do/1/b#0:{place}before/0/log#0",
        f"/do/1/b#0:{place}after/0/log#0",
    ]


def test_an_exit_puts_what_was_made_in_the_place_of_the_task_which_then_does_not_run(execute):
    when = '$task.call == "g" and ($task.with.uri | startswith("https://mocked"))'
    mock = extension(
        "call", when=when, before=[{"m": {"set": {"body": "${ .n }"}, "then": "exit"}}], after=[{"l": CALL}]
    )
    calls = [
        {f"c{host}": {"call": "g", "with": {"uri": f"https://{host}"}, "output": {"as": "{n: (.body // .n)}"}}}
        for host in ("mocked", "real")
    ]
    outcome = execute(calls, {"n": 40}, use=use(mock))
    assert outcome.output == {"n": 1}
    assert [effect.instance for effect in outcome.world.performed] == ["/do/1/creal"]
    assert execute(calls[:1], {"n": 40}, use=use(mock)).output == {"n": 40}


@pytest.mark.parametrize(
    ("extend", "extended"),
    [("all", "dsfic"), ("composite", "d"), ("set", "s"), ("for", "f"), ("switch", "i"), ("call", "c"), ("wait", "")],
)
def test_tasks_of_the_kind_are_extended_wherever_they_are(execute, extend, extended):
    mark = {"m": {"call": "mark", "with": {"name": "${ $task.name }"}}}
    loop = {"for": {"in": "[1]"}, "do": [{"i": {"switch": [{"x": {"then": "c"}}]}}, {"c": {"call": "g"}}]}
    do = [{"d": {"do": [{"s": {"set": {"x": 1}}}, {"f": loop}]}}]
    outcome = execute(do, {}, use=use(extension(extend, before=[mark])))
    assert [given["name"] for given in reported(outcome) if "name" in given] == list(extended)


def test_extensions_enclose_those_after_them(execute):
    def mark(name):
        return {"m": {"call": "mark", "with": {"at": name}}}

    extensions = [
        extension(before=[mark(f"{name} before"), *more], after=[mark(f"{name} after")])
        for name, more in (("outer", []), ("mock", [{"x": {"set": {"n": 9}, "then": "exit"}}]), ("inner", []))
    ]
    outcome = execute([SET], {}, use=use(*extensions))
    assert outcome.output == {"n": 9}
    assert [given["at"] for given in reported(outcome)] == ["outer before", "mock before", "outer after"]
    outcome = execute([SET], {}, use=use(extensions[0], extensions[2]))
    assert [given["at"] for given in reported(outcome)] == [
        "outer before",
        "inner before",
        "inner after",
        "outer after",
    ]


def test_tasks_of_extensions_are_not_extended_even_in_functions_that_they_call(execute):
    own = {"functions": {"note": {"do": [{"say": {"call": "mark", "with": {"x": 1}}}]}}}
    outcome = execute([{"b": {"call": "note"}}], {}, use={**own, **use(extension(before=[{"n": {"call": "note"}}]))})
    assert (
        len(reported(outcome)) == 4
    )  # before the call of the function, the function, and what it does; and that itself


def test_what_is_skipped_is_not_extended(execute):
    do = [{"a": {"if": "false", "set": {"x": 1}}}]
    assert reported(execute(do, {}, use=use(extension(before=[{"log": CALL}])))) == []


def test_what_is_exported_before_is_seen_by_the_task_and_after_it(execute):
    before = [{"p": {"set": {"who": "me"}, "export": {"as": "${ . }"}}}]
    after = [{"log": {"call": "f", "with": {"context": "${ $context }", "output": "${ $task.output }"}}}]
    do = [{"a": {"set": {"who": "${ $context.who }"}, "output": {"as": "{by: .who}"}}}]
    outcome = execute(do, {}, use=use(extension(before=before, after=after)))
    assert outcome.output == {"by": "me"}
    assert reported(outcome) == [{"context": {"who": "me"}, "output": {"who": "me"}}]


def test_an_error_of_an_extension_is_one_of_the_task_and_can_be_caught(execute):
    world = execute.World(
        {"f": EffectResult(None, error(Kind.RUNTIME, "no", instance="/use/extensions/0/e0/before/0/log"))}
    )
    extended = use(extension("set", before=[{"log": CALL}]))
    outcome = execute([SET], {}, world=world, use=extended)
    assert outcome.error.instance == "/use/extensions/0/e0/before/0/log"
    caught = [{"t": {"try": [SET], "catch": {"do": [{"c": {"call": "g"}}]}}}]
    assert execute(caught, {}, world=world, use=extended).output == {"n": 1}


def test_an_end_in_an_extension_ends_the_flow(execute):
    ends = extension("set", before=[{"e": {"set": {"over": True}, "then": "end"}}], after=[{"log": CALL}])
    outcome = execute([SET, {"never": {"call": "f"}}], {}, use=use(ends))
    assert outcome.output == {"over": True}
    assert outcome.world.performed == []


def test_the_time_in_an_extension_is_that_of_the_extended_task(execute):
    began = {"log": {"call": "f", "with": {"at": "${ $task.startedAt.epoch.seconds }"}}}
    outcome = execute([SET], {}, use=use(extension("set", after=[began])))
    assert outcome.journal[0].key == "/do/0/a#0:now"
    assert reported(outcome) == [{"at": 1_700_000_001}]


def test_a_replay_of_any_part_of_the_journal_repeats_nothing(execute, monkeypatch):
    monkeypatch.setattr(journal, "COMPACT_ENTRIES", 3)
    some = extension("for", when=".n == 0", before=[{"b": CALL}], after=[{"a": CALL}])
    every = extension(before=[{"b": CALL}], after=[{"a": CALL}])
    do = [{"l": {"for": {"in": "[range(5)]"}, "do": [SET, {"c": {"call": "f", "output": {"as": "$input"}}}]}}]
    world = execute.World()
    whole = execute(do, {"n": 0}, world=world, use=use(some, every))
    assert whole.output == {"n": 5}
    keys = [effect.key for effect in world.performed]
    assert len(set(keys)) == len(keys) == 2 + 2 + 5 * (2 + 3)
    for end in range(1, len(whole.journal) + 1):
        retained = whole.journal[:end]
        retained = retained[
            max((index for index, entry in enumerate(retained) if entry.key == SNAPSHOT_KEY), default=0) :
        ]
        again = execute.World()
        outcome = execute(do, {"n": 0}, world=again, journal=retained, use=use(some, every))
        assert outcome.output == whole.output
        done = {entry.key for entry in whole.journal[:end]}
        assert [effect.key for effect in again.performed] == [key for key in keys if key not in done]
