"""Compaction: what an execution has come to replaces its journal, wherever nothing runs beside it."""

from __future__ import annotations

from unittest import mock

import orjson
import pytest

from flowhook import limits
from flowhook.model import SNAPSHOT_KEY, JournalEntry
from flowhook.model.error_types import ERROR_TYPE_BASE, spellings
from runner.interpreter import journal, snapshot, tasks
from runner.interpreter.effects import EffectResult
from runner.interpreter.errors import Kind, error

CALL = {"a": {"call": "f", "output": {"as": "${ {n: ($input.n + 1)} }"}}}
MORE = {"more": {"switch": [{"yes": {"when": ".n < 1500", "then": "a"}}]}}
LOOP = {"for": {"in": "[range(1500)]"}, "do": [CALL]}
NESTED = {"for": {"in": "[range(30)]"}, "do": [{"inner": {"for": {"in": "[range(50)]", "each": "x"}, "do": [CALL]}}]}
WAITING = {"for": {"in": "[range(600)]"}, "do": [CALL, {"rest": {"wait": {"seconds": 1}}}]}


def after_last_snapshot(journal):
    return journal[max(index for index, entry in enumerate(journal) if entry.key == SNAPSHOT_KEY) :]


@pytest.mark.parametrize(
    ("do", "calls"),
    [
        ([CALL, MORE], 1500),
        ([{"loop": {"do": [CALL, MORE]}}], 1500),
        ([{"loop": LOOP}], 1500),
        ([{"loop": NESTED}], 1500),
        ([{"loop": WAITING}], 600),
        ([{"loop": {"try": [{"loop": LOOP}], "catch": {}}}], 1500),
        ([{"fails": {"try": [{"r": {"raise": {"error": "own"}}}], "catch": {"do": [{"loop": LOOP}]}}}], 1500),
        ([{"loop": {**LOOP, "timeout": {"after": {"days": 1}}}}], 1500),
        ([{"loop": {"call": "own", "with": {"n": "${ .n }"}}}], 1500),
    ],
)
def test_loops_may_make_more_calls_than_a_journal_has_entries(execute, do, calls):
    use = {"functions": {"own": LOOP}, "errors": {"own": {"type": "https://example.com/e", "status": 409}}}
    outcome = execute(do, {"n": 0}, use=use)
    assert outcome.output == {"n": calls}
    world = execute.World()
    again = execute(do, {"n": 0}, journal=after_last_snapshot(outcome.journal), world=world, use=use)
    assert again.output == {"n": calls}
    assert not world.performed


@pytest.mark.parametrize("chosen", ["open-workflow", "serverless-workflow"])
def test_an_error_that_an_earlier_version_handles_is_compared_by_the_name_that_the_flow_sees(execute, chosen):
    present, earlier, *_ = spellings(f"{ERROR_TYPE_BASE}runtime")
    told = {"said": {"set": {"same": f'${{ $error.type == "{earlier}" }}'}}}
    do = [{"t": {"try": [{"r": {"raise": {"error": "own"}}}], "catch": {"do": [{"loop": LOOP}, told]}}}]
    more = {"use": {"errors": {"own": {"type": earlier, "status": 500}}}, "execution": {"error_types": chosen}}
    cut = execute(do, {"n": 0}, stop_after=1234, **more)
    (taken, *others) = after_last_snapshot(cut.journal)
    for name in (present, earlier):
        output = taken.output.replace(present.encode(), name.encode()).replace(earlier.encode(), name.encode())
        assert name.encode() in output
        retained = [JournalEntry(taken.key, output), *others]
        assert execute(do, {"n": 0}, journal=retained, **more).output == {"same": True}


def test_an_execution_that_goes_on_within_a_loop_requests_nothing_again(execute):
    do = [{"loop": {**LOOP, "input": {"from": "{n: .start}"}, "output": {"as": "{n, of: $input}"}}}]
    world = execute.World()
    cut = execute(do, {"start": 5}, world=world, stop_after=1234)
    after = execute(do, {"start": 5}, world=world, journal=after_last_snapshot(cut.journal))
    assert after.output == {"n": 1505, "of": {"n": 5}}
    assert len({effect.key for effect in world.performed}) == len(world.performed) == 1500


def test_a_loop_goes_on_with_the_items_it_had(execute):
    do = [{"loop": {"for": {"in": "$context.items", "each": "x", "at": "i"}, "while": "$x != 299", "do": []}}]
    do[0]["loop"]["do"] = [{"a": {"call": "f", "output": {"as": "[$x, $i]"}, "export": {"as": "{items: [], x: $x}"}}}]
    data = {"items": list(range(100, 400))}
    cut = execute(do, data, stop_after=150)
    after = execute(do, data, journal=after_last_snapshot(cut.journal))
    assert after.output == execute(do, data).output == [298, 198]


def test_a_retry_keeps_the_keys_although_the_journal_was_compacted_within_the_try(execute):
    broken = {"calls": 0}

    def answer(effect):
        broken["calls"] += 1
        return EffectResult(None, error(Kind.RUNTIME, "no")) if broken["calls"] == 350 else {"n": 1}

    world = execute.World({"f": answer})
    tries = {"try": [{"loop": LOOP}], "catch": {"retry": {"limit": {"attempt": {"count": 1}}}}}
    assert execute([{"t": tries}], {"n": 0}, world=world).output == {"n": 1500}
    keys = [effect.key for effect in world.performed]
    assert keys[350:] == [f"/do/0/t/try/0/loop/do/0/a[{index}]#0" for index in range(1500)]


def test_a_retry_that_goes_on_from_a_snapshot_has_only_what_is_left_of_its_tries(execute):
    world = execute.World({"g": EffectResult(None, error(Kind.RUNTIME, "no"))})
    loop = {"for": {"in": "[range(150)]"}, "do": [CALL]}
    tries = {"try": [{"loop": loop}, {"g": {"call": "g"}}], "catch": {"retry": {"limit": {"attempt": {"count": 2}}}}}
    cut = execute([{"t": tries}], {"n": 0}, world=world, stop_after=280)
    assert execute([{"t": tries}], {"n": 0}, world=world, journal=after_last_snapshot(cut.journal)).error.detail == "no"
    assert len([effect for effect in world.performed if effect.function == "g"]) == 3


def test_limits_of_time_go_on_from_a_snapshot_and_begin_anew_in_a_replay(execute):
    do = [{"loop": {**WAITING, "timeout": {"after": {"seconds": 900}}}}]
    clock = execute.Clock()
    cut = execute(do, {"n": 0}, stop_after=1000, clock=clock, timeout={"after": {"seconds": 800}})
    retained = after_last_snapshot(cut.journal)
    assert orjson.loads(retained[0].output)["limit"]["until_ms"] == 1_700_000_801_000
    late = execute.Clock(clock.now + 800_000)
    again = execute(do, {"n": 0}, journal=retained[:1], clock=late, timeout={"after": {"seconds": 800}})
    assert (again.error.status, again.error.instance) == (408, "/do")
    late = execute.Clock(clock.now + 800_000)
    replayed = execute(
        do, {"n": 0}, journal=retained[:1], clock=late, timeout={"after": {"seconds": 800}}, workflow={"id": "evt_2"}
    )
    assert replayed.output == {"n": 600}


def test_what_runs_beside_something_is_not_compacted(execute):
    outcome = execute([{"f": {"fork": {"branches": [{"loop": LOOP}]}}}], {"n": 0})
    assert "journal is full" in outcome.error.detail
    assert not [entry for entry in outcome.journal if entry.key == SNAPSHOT_KEY]


def test_what_is_too_large_for_a_snapshot_is_not_compacted_and_rarely_tried(execute, monkeypatch):
    monkeypatch.setattr(limits, "MAX_RESULT_BYTES", 5_000)
    taken = mock.Mock(wraps=snapshot.json_codec.encode)
    monkeypatch.setattr(snapshot, "json_codec", mock.Mock(encode=taken))
    do = [{"loop": {**LOOP, "for": {"in": "$context.none // [range(4000) | [., 7]]"}}}]
    outcome = execute(do, {"n": 0})
    assert taken.call_count == limits.MAX_JOURNAL_ENTRIES // journal.COMPACT_ENTRIES
    assert "journal is full" in outcome.error.detail
    assert len(outcome.journal) == limits.MAX_JOURNAL_ENTRIES


def test_a_limit_of_time_that_was_exceeded_stays_so_in_a_replay(execute, monkeypatch):
    monkeypatch.setattr(journal, "COMPACT_ENTRIES", 2)
    slow = {"do": [{"a": {"call": "f"}}, {"w": {"wait": {"hours": 2}}}], "timeout": {"after": {"hours": 1}}}
    do = [{"t": {"try": [{"slow": slow}], "catch": {"do": [{"b": {"call": "g"}}]}}}]
    keys = {SNAPSHOT_KEY, "/do/0/t/try/0/slow#0:timeout"}
    retained = [entry for entry in execute(do, {}, stop_after=5).journal if entry.key in keys][1:3]
    assert (retained[0].key, retained[1].output[:7]) == (SNAPSHOT_KEY, b'{"over"')
    world = execute.World()
    assert execute(do, {}, journal=retained, world=world, workflow={"id": "evt_2"}).output == {"n": 1}
    assert [effect.function for effect in world.performed] == ["g"]


def test_before_a_wait_in_the_outermost_list_a_journal_is_compacted_however_short_it_is(execute):
    wait = {"wait": {"hours": 1}}
    inner = execute([{"d": {"do": [CALL, {"w": wait}]}}], {"n": 0}).journal
    outer = execute([CALL, {"w": wait}], {"n": 0}).journal
    assert [entry.key for entry in inner] == ["/do/0/d/do/0/a#0", *["/do/0/d/do/1/w#0:wait"] * 2]
    assert [entry.key for entry in outer] == ["/do/0/a#0", SNAPSHOT_KEY, *["/do/1/w#0:wait"] * 2]


@pytest.fixture
def resume(execute, monkeypatch):
    """Run to the end; then again, later, from the last snapshot before the first entry of a key, and that entry."""
    monkeypatch.setattr(journal, "COMPACT_ENTRIES", 1)

    def run(do, data, key, execution="evt_1", **more):
        clock = execute.Clock()
        whole = execute(do, data, clock=clock, **more).journal
        cut = [entry.key for entry in whole].index(key)
        retained = after_last_snapshot(whole[: cut + 1])
        return execute(
            do, data, journal=retained, clock=execute.Clock(clock.now + 60_000), workflow={"id": execution}, **more
        )

    return run


def test_what_was_exported_before_a_snapshot_is_there_after_it(resume):
    call = {"call": "f", "export": {"as": "{kept: 7}"}}
    do = [{"a": call}, {"w": {"wait": {"hours": 1}}}, {"s": {"set": "${ $context.kept }"}}]
    assert resume(do, {}, "/do/1/w#0:wait").output == 7


def test_a_task_goes_on_from_a_snapshot_in_the_time_it_has_left(resume):
    waits = [CALL, {"w": {"wait": {"minutes": 40}}}, {"x": {"wait": {"minutes": 40}}}]
    do = [{"d": {"do": waits, "timeout": {"after": {"hours": 1}}}}]
    assert resume(do, {"n": 0}, "/do/0/d/do/2/x#0:wait").error.instance == "/do/0/d"


def test_the_next_attempt_after_one_that_went_on_from_a_snapshot_has_all_its_time(execute, resume):
    world = execute.World({"g": lambda _: next(answers)})
    answers = iter([{"n": 1}, EffectResult(None, error(Kind.RUNTIME, "no")), {"n": 2}])
    tries = [CALL, {"w": {"wait": {"minutes": 40}}}, {"g": {"call": "g"}}]
    retry = {"limit": {"attempt": {"count": 1, "duration": {"hours": 1}}}}
    do = [{"t": {"try": tries, "catch": {"retry": retry}}}]
    assert resume(do, {"n": 0}, "/do/0/t/try/1/w#0:wait", world=world).output == {"n": 2}


def test_an_attempt_that_a_replay_takes_over_has_all_its_time_again(resume):
    tries = [CALL, {"w": {"wait": {"minutes": 40}}}, {"x": {"wait": {"minutes": 40}}}]
    retry = {"limit": {"attempt": {"count": 0, "duration": {"hours": 1}}}}
    do, key = [{"t": {"try": tries, "catch": {"retry": retry}}}], "/do/0/t/try/2/x#0:wait"
    assert resume(do, {"n": 0}, key).error.instance == "/do/0/t"
    assert resume(do, {"n": 0}, key, execution="evt_2").output == {"n": 1}


def test_while_is_not_asked_again_for_an_iteration_that_goes_on_from_a_snapshot(resume):
    stop = {"call": "f", "export": {"as": "{stop: true}"}}
    loop = {"for": {"in": "[1, 2]"}, "while": "$context.stop | not", "do": [{"stop": stop}, {"b": {"call": "f"}}]}
    assert resume([{"l": loop}], {}, "/do/0/l/do/1/b[0]#0").output == {"n": 2}


def test_a_task_that_goes_on_from_a_snapshot_began_when_it_did(execute, resume):
    loop = {"for": {"in": "[1, 2]"}, "do": [CALL], "output": {"as": "$task.startedAt.epoch.milliseconds"}}
    assert resume([{"l": loop}], {"n": 0}, "/do/0/l/do/0/a[1]#0").output == execute.Clock().now


def test_tasks_before_a_snapshot_count_for_the_limit_of_tasks(execute, resume, monkeypatch):
    monkeypatch.setattr(tasks, "MAX_TASKS", 20)
    do = [CALL, {"again": {"switch": [{"always": {"then": "a"}}]}}]
    outcome = resume(do, {"n": 0}, "/do/0/a#7")
    assert "more than 20 tasks" in outcome.error.detail
    assert [effect.key for effect in outcome.world.performed] == ["/do/0/a#8", "/do/0/a#9"]


def test_a_large_input_is_left_out_of_snapshots(execute):
    data = {"items": [{"id": number, "text": "x" * 2000} for number in range(1200)]}
    loop = {"for": {"in": ".items"}, "do": [{"ask": {"call": "f", "with": {"id": "${ $item.id }"}}}]}
    do = [{"l": loop}, {"count": {"set": {"items": "${ $context.items | length }", "n": "${ .n }"}}}]
    world = execute.World()
    cut = execute(do, data, world=world, stop_after=1150)
    retained = after_last_snapshot(cut.journal)
    assert len(retained[0].output) < 1000
    outcome = execute(do, data, world=world, journal=retained)
    assert outcome.output == {"items": 1200, "n": 1200}
    assert [effect.arguments["id"] for effect in world.performed] == list(range(1200))


def test_a_snapshot_does_not_grow_with_what_loops_have_done(execute):
    snapshots = [entry.output for entry in execute([{"loop": NESTED}], {"n": 0}).journal if entry.key == SNAPSHOT_KEY]
    assert len(snapshots) >= 10
    assert max(map(len, snapshots)) < 1000


def test_a_loop_that_is_come_to_again_has_keys_of_its_own(execute):
    world = execute.World()
    again = {"again": {"switch": [{"yes": {"when": ".n < 12", "then": "loop"}}]}}
    loop = {"for": {"in": "[1, 2]"}, "do": [{"inner": {"for": {"in": "[1, 2]", "each": "x"}, "do": [CALL]}}]}
    execute([{"loop": loop}, again], {"n": 0}, world=world)
    keys = [effect.key for effect in world.performed]
    place = "/do/0/loop/do/0/inner/do/0/a"
    assert keys == [f"{place}[{i}][{j}]#{visit}" for visit in range(3) for i in range(2) for j in range(2)]
