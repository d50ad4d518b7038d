"""Attempts of an execution: a table for people, and JSON for programs."""

from __future__ import annotations

from dataclasses import replace

from cli import output
from cli.attempts import COLUMNS, attempt_rows
from flowhook.model import Event, Execution, ExecutionDetail, Status
from flowhook.model.executions import Attempt, AttemptEnd

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
    assert [dict(zip(COLUMNS, row, strict=True)) for row in attempt_rows(DETAIL)] == [
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
    *_, row = attempt_rows(replace(DETAIL, attempts=(*DETAIL.attempts[:2], last)))
    assert row == ("2026-11-27T12:00:03.230Z", 3, "runner-2", "1.0 s", "its execution ended")


def test_json_has_all_that_is_stored_of_each_attempt():
    shown = output.detail_as_json(DETAIL)
    assert shown["attempts_left_out"] == 1
    assert shown["attempt_history"][1:] == [
        {
            "number": 3,
            "runner": "runner-1",
            "assigned_at": "2026-11-27T12:00:00.020Z",
            "ended_at": "2026-11-27T12:00:03.220Z",
            "end": "released",
            "detail": "DRAINING",
            "charged": False,
        },
        {
            "number": 3,
            "runner": "runner-2",
            "assigned_at": "2026-11-27T12:00:03.230Z",
            "ended_at": None,
            "end": None,
            "detail": None,
            "charged": False,
        },
    ]
    assert output.to_json(shown["attempt_history"][1]["end"]) == b'"released"'
