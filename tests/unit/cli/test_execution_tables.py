"""How commands show executions, their tasks, their attempts and their links."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cli.execution_tables import (
    ATTEMPT_COLUMNS,
    attempt_rows,
    duration,
    link_rows,
    row,
    task_rows,
)
from cli.operation_commands import shown
from flowhook.model import (
    Event,
    Execution,
    ExecutionDetail,
    JournalEntry,
    Resolution,
    Retry,
    ShapedBy,
    Status,
    TaskRun,
    TaskState,
    Turn,
    WorkflowError,
)
from flowhook.model.executions import (
    Attempt,
    AttemptEnd,
    ExecutionLinks,
    LinkedExecution,
    LinkKind,
)
from operations.executions import detail_view

T = 1_700_000_000_000
AT = "2023-11-14T22:13:20.000Z"
EVENT = Event("evt_1", "blog", T, None, "", "POST", "/", "", "application/json", (), b"{}")


def detail(*runs, journal=()):
    execution = Execution("evt_1", "blog", 1, Status.COMPLETED, 1, T, T)
    return told(ExecutionDetail(execution, EVENT, tuple(journal), b"{}", history=runs))


def told(stored):
    """Return what `--json` prints of an execution."""
    return shown(detail_view(stored))


def run(number, task="/do/0/a", begin=T, end=T, tries=1, state=TaskState.COMPLETED, message=""):  # noqa: PLR0917
    return TaskRun(number, task, begin, end, tries, state, message)


def test_a_table_has_time_task_tries_duration_and_result():
    found = detail(
        run(1),
        run(2, "/do/1/b", end=T + 3210, tries=3, state=TaskState.FAULTED, message="503 Away"),
        run(3, "/do/2/s", message="last"),
        run(4, "/do/3/w", end=None, state=TaskState.RUNNING),
        run(5, "/do/4/x", begin=None, state=TaskState.SKIPPED),
    )
    assert list(task_rows(found)) == [
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
    rows = list(task_rows(detail(run(1), run(2, "/do/1/b"), run(3, "/do/2/w"), journal=journal)))
    assert rows[0][-1] == '{"id":7}'
    assert (len(rows[1][-1]), rows[1][-1][-1]) == (120, "…")
    assert rows[2][-1] == "completed"
    twice = list(task_rows(detail(run(1), run(2), journal=journal)))
    assert [row[-1] for row in twice] == ["completed", "completed"]


def test_one_that_waits_for_its_turn_says_until_when_and_where_it_stands():
    waiting = Execution("evt_1", "blog", 1, Status.PENDING, 0, T)
    soon = replace(waiting, turn=Turn(ShapedBy.RATE, 1212, T))
    assert row(shown(soon))[-1] == f"waits for rate until {AT}, position 1,212"
    assert row(shown(replace(waiting, turn=Turn(ShapedBy.RATE))))[-1] == "waits for rate, far back"
    assert row(shown(replace(waiting, turn=Turn(ShapedBy.DEBOUNCE, 0, T))))[-1] == f"waits for debounce until {AT}"
    gathering = replace(waiting, turn=Turn(ShapedBy.BATCH, 0, T, 12, 1000))
    assert row(shown(gathering))[-1] == f"waits for its batch, 12 of 1,000, until {AT}"
    batch = replace(waiting, batch="evt_1", batch_events=12)
    assert row(shown(batch))[-1] == row(shown(replace(batch, id="evt_3")))[-1] == "for a batch of 12 events"
    assert row(shown(replace(batch, id="evt_2", status=Status.COMPLETED)))[-1] == "in the batch of evt_1"
    down = replace(waiting, destinations=("https://a.example", "https://b.example"))
    assert row(shown(down))[-1] == "waits for https://a.example, https://b.example, which is down"
    assert row(shown(waiting))[-1] == ""


def test_what_is_not_retained_is_counted():
    rows = list(task_rows(detail(run(3), run(9))))
    assert [row[1] for row in rows] == ["… 2 that are not stored", "/do/0/a", "… 5 that are not stored", "/do/0/a"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.999, "999 ms"),
        (1, "1.0 s"),
        (59.949, "59.9 s"),
        (61, "1 min 1 s"),
        (93_780, "26 h 3 min"),
    ],
)
def test_a_duration_is_reported_in_the_unit_that_fits(seconds, text):
    assert duration(seconds) == text


START = 1_795_780_800_000
DETAIL = ExecutionDetail(
    Execution("evt_1", "f", 1, Status.RUNNING, 3, START),
    Event("evt_1", "f", START, None, "", "POST", "/", "", "", (), b""),
    (),
    None,
    attempts=(
        Attempt(2, "", None, START + 10, AttemptEnd.ROUTER_RESTARTED, "", charged=True),
        Attempt(3, "runner-1", START + 20, START + 3220, AttemptEnd.RELEASED, "DRAINING"),
        Attempt(3, "runner-2", START + 3230),
    ),
    attempts_left_out=1,
)


def test_each_attempt_is_a_row_with_its_reason():
    assert [dict(zip(ATTEMPT_COLUMNS, row, strict=True)) for row in attempt_rows(told(DETAIL))] == [
        {
            "ASSIGNED": "",
            "RUNNER ATTEMPT": "",
            "RUNNER": "… 1 that are not stored",
            "DURATION": "",
            "ENDED BECAUSE": "",
        },
        {
            "ASSIGNED": None,
            "RUNNER ATTEMPT": 2,
            "RUNNER": "",
            "DURATION": "",
            "ENDED BECAUSE": "the router was restarted",
        },
        {
            "ASSIGNED": "2026-11-27T12:00:00.020Z",
            "RUNNER ATTEMPT": 3,
            "RUNNER": "runner-1",
            "DURATION": "3.2 s",
            "ENDED BECAUSE": "released by the runner (DRAINING); not charged",
        },
        {
            "ASSIGNED": "2026-11-27T12:00:03.230Z",
            "RUNNER ATTEMPT": 3,
            "RUNNER": "runner-2",
            "DURATION": "",
            "ENDED BECAUSE": "under way",
        },
    ]


def test_the_attempt_that_ended_the_execution_is_the_last_row():
    last = Attempt(3, "runner-2", START + 3230, START + 4230, AttemptEnd.EXECUTION_ENDED, charged=True)
    *_, row = attempt_rows(told(replace(DETAIL, attempts=(*DETAIL.attempts[:2], last))))
    assert row == ("2026-11-27T12:00:03.230Z", 3, "runner-2", "1.0 s", "its execution ended")


LINKS = ExecutionLinks(
    (LinkedExecution("evt_1", (LinkKind.EVENT, LinkKind.LISTEN)),),
    (LinkedExecution("evt_3", (LinkKind.RUN,), "shop", Status.FAULTED), LinkedExecution("evt_2", (LinkKind.EVENT,))),
    more_caused=True,
)


def test_links_are_shown_if_there_are_any():
    linked = told(replace(DETAIL, links=LINKS))["links"]
    assert list(link_rows(told(DETAIL)["links"])) == []
    assert list(link_rows(linked)) == [
        ("causes", "evt_1 (event and listen)"),
        ("caused", "evt_3 (run), evt_2 (event), ..."),
    ]


FAULTED = Execution(
    "evt_1",
    "blog",
    2,
    Status.FAULTED,
    5,
    T,
    T + 1000,
    WorkflowError("https://e.org", 503, "Away", "/do/0/call", "no route"),
)


def test_one_that_waits_for_a_retry_says_what_failed_and_when_it_is_tried_again():
    waiting = replace(FAULTED, status=Status.WAITING, error=None, end_time_ms=None, retry=Retry(FAULTED.error, 2, T, 1))
    assert row(shown(waiting))[-1] == f"tried 2 times, next at {AT}: 503 Away: no route"


def test_a_row_says_what_replays_it_and_what_an_operator_said_of_it():
    reported = replace(FAULTED, replay_of="evt_0", replayed_by="evt_2", resolution=Resolution("by hand", T))
    assert row(shown(reported))[-2:] == ("of evt_0, by evt_2, resolved: by hand", "503 Away: no route")
