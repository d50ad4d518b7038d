"""What commands print."""

from __future__ import annotations

import json
from dataclasses import replace

import orjson
import pytest
from support.cases import cases

from cli import output
from cli.commands import executions
from flowhook.model import (
    Blob,
    Event,
    Execution,
    ExecutionDetail,
    JournalEntry,
    Part,
    Principal,
    Resolution,
    Retry,
    Status,
    WorkflowError,
)

ERROR = WorkflowError("https://example.org/e", 503, "Away", "/do/0/call", "no route")
FAULTED = Execution("evt_1", "blog", 2, Status.FAULTED, 5, 1_700_000_000_123, 1_700_000_001_000, ERROR)
RUNNING = Execution("evt_2", "blog", 2, Status.RUNNING, 1, 1_700_000_000_000)


def _event(body, content_type="application/json", headers=()):
    return Event(
        "evt_1",
        "blog",
        0,
        Principal("github", "blog-webhook"),
        "",
        "POST",
        "/hook/blog",
        "a=1",
        content_type,
        headers,
        body,
    )


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_700_000_000_123, "2023-11-14T22:13:20.123Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (None, None),
    ],
)
def test_times_are_rfc_3339_in_utc(milliseconds, text):
    assert output.rfc3339(milliseconds) == text


@cases("indent", [False, True])
@cases("depth", [1, 253, 254, 255, 1023])
def test_whatever_can_be_read_can_be_printed(depth, indent):
    text = b'{"a":' * depth + '"é"'.encode() + b"}" * depth
    printed = output.to_json(orjson.loads(text), indent=indent)
    assert b"".join(printed.split()) == text
    assert indent == (b"\n" in printed)


def test_an_execution_has_exactly_the_promised_fields():
    assert output.execution_as_json(FAULTED) == {
        "id": "evt_1",
        "flow": "blog",
        "revision": 2,
        "status": "faulted",
        "received_at": "2023-11-14T22:13:20.123Z",
        "ended_at": "2023-11-14T22:13:21.000Z",
        "attempts": 5,
        "error": {
            "type": "https://example.org/e",
            "status": 503,
            "title": "Away",
            "instance": "/do/0/call",
            "detail": "no route",
        },
        "replay_of": None,
        "replayed_by": None,
        "resolution": None,
        "retry": None,
    }


def test_an_execution_that_waits_for_a_retry_reports_what_failed_and_when_it_is_tried_again():
    retry = Retry(FAULTED.error, 2, 1_700_000_000_000, 1)
    waiting = replace(FAULTED, status=Status.WAITING, error=None, end_time_ms=None, retry=retry)
    shown = output.execution_as_json(waiting)
    assert shown["retry"] == {
        "error": FAULTED.error.as_dict(),
        "tries": 2,
        "next_at": "2023-11-14T22:13:20.000Z",
        "others": 1,
    }
    assert executions.row(waiting)[-1] == "tried 2 times, next at 2023-11-14T22:13:20.000Z: 503 Away: no route"


def test_an_execution_reports_its_replays_and_what_an_operator_said_of_it():
    reported = replace(
        FAULTED, replay_of="evt_0", replayed_by="evt_2", resolution=Resolution("by hand", 1_700_000_000_000)
    )
    shown = output.execution_as_json(reported)
    assert (shown["replay_of"], shown["replayed_by"]) == ("evt_0", "evt_2")
    assert shown["resolution"] == {"reason": "by hand", "resolved_at": "2023-11-14T22:13:20.000Z"}


def test_what_has_not_happened_is_null():
    shown = output.execution_as_json(RUNNING)
    assert (shown["ended_at"], shown["error"]) == (None, None)


def test_the_detail_adds_request_tasks_and_output():
    detail = ExecutionDetail(
        FAULTED,
        _event(b'{"a": 1}', headers=(("x", b"1"), ("x", b"2"))),
        (
            JournalEntry("@", b'{"position":["/do/0"],"data":1}'),  # what the interpreter keeps for itself
            JournalEntry("/do/0/call#0", b'{"ok":true}'),
            JournalEntry("/do/1/call#0", None, ERROR),
        ),
        b"[1]",
    )
    shown = output.detail_as_json(detail)
    assert shown["request"] == {
        "method": "POST",
        "path": "/hook/blog",
        "query": "a=1",
        "content_type": "application/json",
        "headers": {"x": "1, 2"},
        "principal": {"scheme": "github", "secret": "blog-webhook"},
        "size": 8,
        "body": {"a": 1},
    }
    assert shown["tasks"] == [
        {"task": "/do/0/call#0", "output": {"ok": True}, "error": None},
        {"task": "/do/1/call#0", "output": None, "error": ERROR.as_dict()},
    ]
    assert shown["output"] == [1]
    assert (shown["attempt_history"], shown["attempts_left_out"]) == ([], 0)


@cases(
    ("body", "content_type", "expected"),
    [
        (b"{}", "application/vnd.x+json; charset=utf-8", {"body": {}}),
        (b"{}", "text/plain", {"body": "{}"}),
        (b"{broken", "application/json", {"body": "{broken"}),
        (b"\xff\x00", "application/octet-stream", {"body_base64": "/wA="}),
        (b"\xff\x00", "application/json", {"body_base64": "/wA="}),
        (b"", "", {"body": ""}),
        (b"", "application/json", {"body": None}),
    ],
)
def test_a_body_is_json_or_text_or_base64(body, content_type, expected):
    shown = output.request_as_json(_event(body, content_type))
    assert {key: value for key, value in shown.items() if key.startswith("body")} == expected


def test_of_a_body_that_was_streamed_there_are_its_size_its_fields_and_where_its_parts_lie():
    part = Part(5, 3, "image/png", "a.png", "picture", b"\x01" * 32)
    event = _event(b"", "multipart/form-data; boundary=b")._replace(
        body_blob=Blob("0" * 32, 9_000_000, b"\x02" * 32), parts=(part,), form=b'{"a":"1"}'
    )
    shown = output.request_as_json(event)
    assert (shown["size"], shown["body"]) == (9_000_000, {"a": "1"})
    assert shown["parts"] == [
        {"name": "a.png", "type": "image/png", "field": "picture", "offset": 5, "size": 3, "sha256": "01" * 32}
    ]
    whole = output.request_as_json(event._replace(parts=(), form=b""))
    assert (whole["body"], [each["size"] for each in whole["parts"]]) == (None, [9_000_000])


def test_json_is_one_object_a_line(capfdbinary):
    output.print_json({"text": "a\nb"})
    output.print_json({})
    lines = capfdbinary.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [{"text": "a\nb"}, {}]


def test_a_table_without_rows_says_so(capsys):
    output.print_table(("A",), [], empty="nothing")
    assert capsys.readouterr().out == "nothing\n"


def test_a_row_stays_one_line_where_there_is_no_terminal(capsys):
    output.print_table(("A", "B"), [("x" * 150, "y" * 150)], empty="")
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_no_line_ends_in_blanks_where_there_is_no_terminal(capsys):
    output.print_table(("A", "B"), [("x", "long"), ("y", "s"), ("z", None)], empty="")
    output.print_fields([("name", {"a": [1]}), ("long name", "x")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == ["A  B", "x  long", "y  s", "z  -"]
    assert len(lines) > 5
    assert [line for line in lines if line != line.rstrip()] == []


def test_what_senders_wrote_is_neither_markup_nor_escape_sequences(capsys):
    output.print_table(("A",), [("[red]x[/red] \x1b[2J",)], empty="")
    output.print_fields([("name", {"a": "\x9b2J"}), ("text", "[/]")])
    shown = capsys.readouterr().out
    assert "[red]x[/red]" in shown
    assert "[/]" in shown
    assert "\x1b" not in shown
    assert "\x9b" not in shown
