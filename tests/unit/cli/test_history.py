"""How commands show what an execution came to, task by task."""

from __future__ import annotations

from support.cases import cases

from cli import output
from cli.history import duration, history_as_json, history_rows
from flowhook.model import Event, Execution, ExecutionDetail, JournalEntry, Status, TaskRun, TaskState

T = 1_700_000_000_000
AT = "2023-11-14T22:13:20.000Z"
EVENT = Event("evt_1", "blog", T, None, "", "POST", "/", "", "application/json", (), b"{}")


def detail(*runs, journal=()):
    execution = Execution("evt_1", "blog", 1, Status.COMPLETED, 1, T, T)
    return ExecutionDetail(execution, EVENT, tuple(journal), b"{}", history=runs)


def run(number, task="/do/0/a", begin=T, end=T, tries=1, state=TaskState.COMPLETED, message=""):  # noqa: PLR0917
    return TaskRun(number, task, begin, end, tries, state, message)


def test_a_table_has_time_task_tries_duration_and_result():
    shown = detail(
        run(1),
        run(2, "/do/1/b", end=T + 3210, tries=3, state=TaskState.FAULTED, message="503 Away"),
        run(3, "/do/2/s", message="last"),
        run(4, "/do/3/w", end=None, state=TaskState.RUNNING),
        run(5, "/do/4/x", begin=None, state=TaskState.SKIPPED),
    )
    assert list(history_rows(shown)) == [
        (AT, "/do/0/a", 1, "0 ms", "completed"),
        (AT, "/do/1/b", 3, "3.2 s", "faulted: 503 Away"),
        (AT, "/do/2/s", 1, "0 ms", "→ last"),
        (AT, "/do/3/w", 1, "", "running"),
        (None, "/do/4/x", 1, "", "skipped"),
    ]


def test_results_of_calls_are_shown_where_it_is_certain_whose_they_are():
    journal = [
        JournalEntry("/do/0/a#0", b'{"id":7}'),
        JournalEntry("/do/1/b#1", b'"' + b"x" * 500 + b'"'),
        JournalEntry("/do/2/w#0:wait", b'{"over":7}'),
    ]
    rows = list(history_rows(detail(run(1), run(2, "/do/1/b"), run(3, "/do/2/w"), journal=journal)))
    assert rows[0][-1] == '{"id":7}'
    assert (len(rows[1][-1]), rows[1][-1][-1]) == (120, "…")
    assert rows[2][-1] == "completed"
    twice = list(history_rows(detail(run(1), run(2), journal=journal)))
    assert [row[-1] for row in twice] == ["completed", "completed"]


def test_what_is_not_retained_is_counted():
    rows = list(history_rows(detail(run(3), run(9))))
    assert [row[1] for row in rows] == ["… 2 that are not stored", "/do/0/a", "… 5 that are not stored", "/do/0/a"]


def test_programs_get_times_in_rfc_3339_and_durations_in_seconds():
    (shown,) = history_as_json([run(1, end=T + 1500)])
    assert shown == {
        "number": 1,
        "task": "/do/0/a",
        "began_at": AT,
        "ended_at": "2023-11-14T22:13:21.500Z",
        "duration": 1.5,
        "tries": 1,
        "status": "completed",
        "detail": "",
    }


@cases(
    ("milliseconds", "text"),
    [
        (0, "0 ms"),
        (999, "999 ms"),
        (1000, "1.0 s"),
        (59_949, "59.9 s"),
        (61_000, "1 min 1 s"),
        (93_780_000, "26 h 3 min"),
    ],
)
def test_a_duration_is_reported_in_the_unit_that_fits(milliseconds, text):
    assert duration(milliseconds) == text


@cases("key", ["/do/0/p#0:wait", "/do/1/b#0:retry", "/timeout#0", "/do/0/t#0:now"])
@cases("name", ["now", "until", "over"])
def test_moments_in_the_journal_are_shown_as_times(key, name):
    journal = [JournalEntry(key, b'{"%b":%d}' % (name.encode(), T))]
    (task,) = output.detail_as_json(detail(journal=journal))["tasks"]
    assert task["output"] == {name: AT}


def test_the_result_of_a_call_is_shown_as_it_is():
    journal = [JournalEntry("/do/0/a#0", b'{"until":%d}' % T), JournalEntry("/do/0/l#0:event", b'{"id":7}')]
    tasks = output.detail_as_json(detail(journal=journal))["tasks"]
    assert [task["output"] for task in tasks] == [{"until": T}, {"id": 7}]
