"""What pages make of a trace and of the stored history."""

from __future__ import annotations

import orjson
import pytest

from admin.console import rendering, timeline
from admin.console.timeline import MAX_LINES, TraceValues, diff_lines
from flowhook.model import (
    Event,
    Execution,
    ExecutionDetail,
    Status,
    TaskRun,
    TaskState,
    to_datetime,
)
from flowhook.model.execution_trace import ExecutionTrace, TracedRequest, TracedTask, TracedValue
from operations.comparison import DiffLine
from operations.executions import detail_view

START = 1_795_780_800_000


def at(seconds):
    return None if seconds is None else START + seconds * 1000


def after(seconds):
    return to_datetime(at(seconds))


def detail(*runs, ended=None):
    execution = Execution(
        id="evt_1",
        flow_id="f",
        flow_revision=1,
        status=Status.RUNNING if ended is None else Status.COMPLETED,
        attempts=1,
        receive_time_ms=START,
        end_time_ms=at(ended),
        error=None,
    )
    event = Event("evt_1", "f", START, None, "", "POST", "/", "", "", (), b"")
    return detail_view(ExecutionDetail(execution, event, (), None, history=runs))


def ran(number, task, begin, end, state=TaskState.COMPLETED):
    return TaskRun(number, task, at(begin), at(end), 1, state, "")


def traced(number, task, kind="set", requests=(), outcome="completed"):
    return TracedTask(number, task, "n", kind, outcome, 0, 0, 0, 0, "continue", 1, None, tuple(requests), False)


def trace(*tasks, values=(), outcome="completed", compacted=False):
    return ExecutionTrace(outcome, tasks, values, None, None, compacted, "", False, False, ())


def test_tasks_of_the_history_and_of_the_trace_are_joined_by_number():
    tasks = timeline.shown_tasks(
        detail(ran(1, "/do/0/a~1b", 1, 2), ran(3, "/do/2/c", 2, 3)),
        trace(traced(1, "/do/0/a~1b"), traced(2, "/do/1/b", outcome="unfinished"), outcome="unfinished"),
    )
    assert [(each.number, each.name, each.run is not None, each.traced is not None) for each in tasks] == [
        (1, "a/b", True, True),
        (2, "b", False, True),
        (3, "c", True, False),
    ]
    assert [each.state for each in tasks] == ["completed", "running", "completed"]


@pytest.mark.parametrize(
    ("ended", "outcome", "compacted", "state"),
    [
        (None, "unfinished", False, "running"),
        (9, "unfinished", False, "unknown"),
        (9, "faulted", False, "unknown"),
        (None, "limited", False, "unknown"),
        (None, "unfinished", True, "unknown"),
    ],
)
def test_a_task_that_nobody_reported_is_running_only_if_it_can_be(ended, outcome, compacted, state):
    open_task = traced(1, "/do/0/a", outcome="unfinished")
    (task,) = timeline.shown_tasks(detail(ended=ended), trace(open_task, outcome=outcome, compacted=compacted))
    assert task.state == state
    (cancelled,) = timeline.shown_tasks(detail(ended=ended), trace(traced(1, "/do/0/a", outcome="cancelled")))
    assert cancelled.state == "cancelled"


def test_a_task_without_an_end_lasts_as_long_as_its_execution():
    view = detail(ran(1, "/do/0/a", 2, None, TaskState.CANCELLED), ended=5)
    *_, bar = timeline.timeline_bars(view, timeline.shown_tasks(view, None), "")
    assert bar.end_ms - bar.begin_ms == 3000


def test_the_time_in_the_queue_is_apart_from_the_time_of_work():
    known = timeline.durations(detail(ran(1, "/do/0/a", 2, 5), ended=6), after(100))
    assert (known.queued, known.ran) == (2, 4)
    assert timeline.durations(detail(ran(1, "/do/0/a", 2, None)), after(9)).ran == 7
    assert timeline.durations(detail(), after(9)) == timeline.Durations(None, None)


def test_the_timeline_begins_with_the_queue_and_tells_waits_from_work():
    view = detail(ran(1, "/do/0/a", 2, 5), ran(2, "/do/1/b/do/0/c", 5, None, TaskState.RUNNING))
    retry = TracedRequest("retry", "/do/0/a#0:retry", answered=True, answered_ms=1)
    pages = trace(traced(1, "/do/0/a", "call", [retry]), traced(2, "/do/1/b/do/0/c", "listen"))
    queue, attempt, first, second = timeline.timeline_bars(view, timeline.shown_tasks(view, pages), "/x?task=")
    assert (queue.state, queue.end_ms - queue.begin_ms) == ("queued", 2000)
    assert (attempt.label, attempt.end_ms) == ("runner attempt 1: under way", None)
    assert (first.waits, first.tries_ms, first.link, first.depth) == (False, (1,), "/x?task=1", 0)
    assert (second.waits, second.end_ms, second.depth) == (True, None, 1)


@pytest.mark.parametrize(
    ("task", "name", "depth"),
    [("/do/0/a[1][2]", "a[1][2]", 0), ("/do/0/a/do/1/b", "b", 1), ("/do/0/x#0 /use/functions/f", "f", 0), ("", "", 0)],
)
def test_names_and_depths_are_those_of_the_pointer(task, name, depth):
    assert (timeline.name_of(task), timeline.depth_of(task)) == (name, depth)


def test_waits_that_overlap_count_once():
    view = detail(ran(1, "/do/0/a", 0, 4), ran(2, "/do/1/b", 2, 6), ran(3, "/do/2/c", 8, 9), ran(4, "/do/3/d", 0, 99))
    waits = trace(traced(1, "/do/0/a", "wait"), traced(2, "/do/1/b", "listen"), traced(3, "/do/2/c", "wait"))
    assert timeline.waited_seconds(timeline.shown_tasks(view, waits), after(100)) == 7
    assert timeline.waited_seconds([], after(1)) == 0


class TestValues:
    def values(self, *texts, cut=False, size=None):
        return TraceValues(trace(values=tuple(TracedValue(text, size or len(text), cut) for text in texts)))

    def test_a_value_is_indented_with_its_numbers_verbatim(self):
        assert self.values('{"a":1.50e+00}').text(0, 100) == '{\n  "a": 1.50e+00\n}'

    def test_a_long_value_is_cut_and_says_its_size(self):
        assert self.values("[" + "1," * 100 + "1]").text(0, 5) == "[1,1,\n… of 203 bytes"
        assert "more than a trace holds" in self.values("", cut=True, size=99).text(0, 5)
        assert self.values("1").text(None, 5) == ""

    @pytest.mark.parametrize(
        ("arguments", "line"),
        [
            ({"method": "get", "endpoint": "https://x/y"}, "GET https://x/y"),
            ({"method": "post", "endpoint": {"uri": "https://x/y", "authentication": None}}, "POST https://x/y"),
            ([], ""),
        ],
    )
    def test_a_call_over_http_has_a_request_line(self, arguments, line):
        values = self.values(orjson.dumps(arguments).decode())
        assert values.request_line(TracedRequest("call", "k", function="http", arguments=0)) == line

    def test_other_calls_and_those_that_were_cut_have_none(self):
        values = self.values('{"method":"get"', cut=True)
        assert values.request_line(TracedRequest("call", "k", function="http", arguments=0)) == ""
        assert values.request_line(TracedRequest("call", "k", function="grpc", arguments=0)) == ""
        assert values.request_line(TracedRequest("wait", "k")) == ""

    def test_differences_are_those_of_the_indented_texts(self):
        values = self.values('{"a":1}', '{"a":2}')
        assert [line.mark for line in values.differences(0, 1)] == [" ", "-", "+", " "]
        assert values.differences(0, 0) == values.differences(None, 1) == []


def test_of_thousands_of_requests_of_a_task_a_page_has_the_last_ones():
    requests = [TracedRequest("call", "/do/0/a#0", f"f{index}", 0, 0, answered=True) for index in range(3000)]
    task = traced(1, "/do/0/a", "call", requests)
    pages = trace(task, values=(TracedValue('"' + "x" * 10_000 + '"', 10_002, False),))
    macros = rendering._ENVIRONMENT.get_template("trace_macros.html").module
    text = macros.request_views(TraceValues(pages), pages, task, 20, 16_384, to_datetime, after(0))
    assert (text.count('class="request"'), "Call of f2999" in text, "Call of f2979" in text) == (20, True, False)
    assert "2980 earlier requests are left out" in text


def test_equal_texts_have_no_difference():
    assert diff_lines("{\n}", "{\n}") == []


def test_a_changed_line_is_removed_and_added_among_those_around_it():
    assert diff_lines('{\n  "a": 1\n}', '{\n  "a": 2\n}') == [
        DiffLine(" ", "{"),
        DiffLine("-", '  "a": 1'),
        DiffLine("+", '  "a": 2'),
        DiffLine(" ", "}"),
    ]


def test_lines_that_look_like_marks_of_a_diff_are_text():
    assert DiffLine("+", "++ b") in diff_lines("-- a", "++ b")
    assert DiffLine("-", "@@ x") in diff_lines("@@ x", "y")


def test_distant_differences_are_separated():
    before = [str(number) for number in range(50)]
    after = ["x", *before[1:-1], "y"]
    changes = [line.mark for line in diff_lines("\n".join(before), "\n".join(after))]
    assert changes.count("@") == 1
    assert changes[0] != "@"


def test_only_the_first_lines_are_compared():
    assert diff_lines("\n".join(["a"] * MAX_LINES + ["b"]), "\n".join(["a"] * MAX_LINES + ["c"])) == []
