"""The path of an execution: visits with counts and durations, and the ways that it took, as far as they are stored."""

from __future__ import annotations

import gzip
import re

from flowhook.model import TaskRun, TaskState
from operations.diagram.path import AGAIN, HANDLER, JOIN, START, execution_path
from operations.diagram.reading import END
from operations.diagram.svg import svg

SET = {"set": {"a": 1}}


def runs(*tasks, state=TaskState.COMPLETED):
    """Runs of 10 ms each, in order."""
    return [TaskRun(n, task, 10 * n, 10 * n + 10, 1, state, "") for n, task in enumerate(tasks, 1)]


def path(do, history, *, completed=True):
    return execution_path({"do": do}, history, completed=completed)


def test_tasks_that_follow_one_another_are_ways_from_the_start_to_the_end():
    found = path([{"a": SET}, {"b": SET}, {"c": SET}], runs("/do/0/a", "/do/2/c"))
    assert found.ways == {(START, "/do/0/a"), ("/do/0/a", "/do/2/c"), ("/do/2/c", END)}
    assert set(found.visits) == {"/do/0/a", "/do/2/c"}


def test_an_execution_that_did_not_complete_did_not_reach_the_end():
    found = path([{"a": SET}], runs("/do/0/a", state=TaskState.FAULTED), completed=False)
    assert found.ways == {(START, "/do/0/a")}
    assert found.visits["/do/0/a"].state == "faulted"


def test_iterations_are_counted_and_their_time_is_summed():
    do = [{"all": {"for": {"each": "x", "in": ".x"}, "do": [{"a": SET}, {"b": SET}]}}]
    inner = [f"/do/0/all/do/{place}[{number}]" for number in range(3) for place in ("0/a", "1/b")]
    found = path(do, runs("/do/0/all", *inner))
    visit = found.visits["/do/0/all/do/0/a"]
    assert (visit.runs, visit.took_ms, visit.text, visit.duration(0)) == (
        3,
        30,
        "completed \N{MULTIPLICATION SIGN}3",
        "30 ms",
    )
    assert found.ways == {
        (START, "/do/0/all"),
        ("/do/0/all", "/do/0/all/do/0/a"),
        ("/do/0/all/do/0/a", "/do/0/all/do/1/b"),
        ("/do/0/all", AGAIN),
        ("/do/0/all/do/1/b", END),
        ("/do/0/all", END),
    }


def test_a_fault_among_several_runs_is_counted_and_the_last_run_decides_the_state():
    first, second = runs("/do/0/a", "/do/0/a")
    found = path([{"a": SET}], [first._replace(state=TaskState.FAULTED), second])
    assert found.visits["/do/0/a"].text == "completed \N{MULTIPLICATION SIGN}2, 1 faulted"


def test_what_waits_is_marked_with_the_time_so_far():
    waiting = TaskRun(1, "/do/0/later", 1000, None, 1, TaskState.RUNNING, "")
    visit = path([{"later": {"wait": "PT1H"}}], [waiting], completed=False).visits["/do/0/later"]
    assert (visit.state, visit.text, visit.duration(181_000)) == ("waiting", "waiting", "3 min so far")


def test_branches_of_a_fork_are_ways_of_their_own_and_join_if_they_completed():
    do = [{"both": {"fork": {"branches": [{"a": SET}, {"b": SET}]}}}, {"c": SET}]
    one, two, three, last = runs(
        "/do/0/both", "/do/0/both/fork/branches/0/a", "/do/0/both/fork/branches/1/b", "/do/1/c"
    )
    found = path(do, [one, two, three._replace(state=TaskState.CANCELLED), last])
    assert found.ways == {
        (START, "/do/0/both"),
        ("/do/0/both", two.task),
        (two.task, JOIN),
        ("/do/0/both", three.task),
        ("/do/0/both", "/do/1/c"),
        ("/do/1/c", END),
    }


def test_a_caught_error_leads_to_the_handler():
    do = [{"t": {"try": [{"a": SET}], "catch": {"do": [{"c": SET}]}}}]
    outer, tried, caught = runs("/do/0/t", "/do/0/t/try/0/a", "/do/0/t/catch/do/0/c")
    found = path(do, [outer, tried._replace(state=TaskState.FAULTED), caught])
    assert {("/do/0/t", tried.task), ("/do/0/t", HANDLER), ("/do/0/t", caught.task)} <= found.ways


def test_no_way_leads_over_a_gap_in_the_history():
    first, second = runs("/do/0/a", "/do/1/b")
    found = path([{"a": SET}, {"b": SET}], [first, second._replace(number=200)])
    assert ("/do/0/a", "/do/1/b") not in found.ways
    assert set(found.visits) == {"/do/0/a", "/do/1/b"}


def test_tasks_of_functions_and_unknown_ones_are_left_out():
    found = path([{"a": SET}], runs("/do/0/a", "/do/0/a#0 /do/0/inner", "/do/9/gone"))
    assert set(found.visits) == {"/do/0/a"}


def test_a_name_that_ends_like_an_iteration_is_itself():
    assert set(path([{"a[1]": SET}], runs("/do/0/a[1]")).visits) == {"/do/0/a[1]"}


def test_the_picture_says_what_was_visited_in_words_and_by_class():
    definition = {"do": [{"a": SET}, {"b": SET}]}
    [run] = runs("/do/0/a")
    picture = svg(definition, "flow", path=execution_path(definition, [run], completed=False))
    assert 'class="diagram path"' in picture
    assert 'class="task kind-set visited completed"' in picture
    assert re.search(r'class="task kind-set" id="task-\d+" data-task="/do/1/b"', picture)
    assert ">completed</text>" in picture
    assert ">10 ms</text>" in picture
    assert "a: set a; completed; 10 ms\n" in picture


def test_ways_that_were_taken_are_painted_over_the_others():
    definition = {"do": [{"a": SET}, {"b": SET}, {"c": SET}]}
    [run] = runs("/do/0/a")
    edges = re.findall(
        r'class="edge next([ a-z]*)"', svg(definition, "flow", path=path(definition["do"], [run], completed=False))
    )
    assert edges == ["", "", "", " taken"]


def test_the_picture_of_a_long_execution_of_a_long_flow_is_bounded():
    do = [{"all": {"for": {"each": "x", "in": ".x"}, "do": [{f"t{number}": SET} for number in range(1000)]}}]
    inner = [f"/do/0/all/do/{number}/t{number}[{each}]" for each in range(3) for number in range(1000)]
    picture = svg({"do": do}, "flow", path=path(do, runs("/do/0/all", *inner)))
    assert len(gzip.compress(picture.encode())) < 40_000
