"""What the API and commands tell of an execution."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cli.operation_commands import shown
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
from flowhook.model.executions import Attempt, AttemptEnd, ExecutionLinks, LinkedExecution, LinkKind
from operations.executions import detail_view

ERROR = WorkflowError("https://example.org/e", 503, "Away", "/do/0/call", "no route")
FAULTED = Execution("evt_1", "blog", 2, Status.FAULTED, 5, 1_700_000_000_123, 1_700_000_001_000, ERROR)
AS_JSON = {**ERROR.as_dict(), "response": None}
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


def request_of(event):
    return shown(detail_view(ExecutionDetail(FAULTED, event, (), None), with_body=True))["request"]


def test_an_execution_has_exactly_the_promised_fields():
    told = shown(FAULTED)
    assert {"id", "flow", "revision", "status", "received_at", "ended_at", "attempts", "error"} <= told.keys()
    assert told == {
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
            "response": None,
        },
        "replay_of": "",
        "replayed_by": "",
        "replayed": False,
        "resolution": None,
        "retry": None,
        "turn": None,
        "blocked_by": None,
        "keeps_turn": False,
        "destinations": [],
        "batch": "",
        "batch_events": 0,
    }


def test_an_execution_that_waits_for_a_retry_reports_what_failed_and_when_it_is_tried_again():
    retry = Retry(FAULTED.error, 2, 1_700_000_000_000, 1)
    waiting = replace(FAULTED, status=Status.WAITING, error=None, end_time_ms=None, retry=retry)
    told = shown(waiting)
    assert told["retry"] == {
        "error": AS_JSON,
        "tries": 2,
        "next_at": "2023-11-14T22:13:20.000Z",
        "others": 1,
    }


def test_an_execution_reports_its_replays_and_what_an_operator_said_of_it():
    reported = replace(
        FAULTED, replay_of="evt_0", replayed_by="evt_2", resolution=Resolution("by hand", 1_700_000_000_000)
    )
    told = shown(reported)
    assert (told["replay_of"], told["replayed_by"]) == ("evt_0", "evt_2")
    assert told["resolution"] == {"reason": "by hand", "resolved_at": "2023-11-14T22:13:20.000Z"}


def test_what_has_not_happened_is_null():
    told = shown(RUNNING)
    assert (told["ended_at"], told["error"]) == (None, None)


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
    told = shown(detail_view(detail, with_body=True))
    assert told["request"] == {
        "method": "POST",
        "path": "/hook/blog",
        "query": "a=1",
        "content_type": "application/json",
        "headers": {"x": "1, 2"},
        "principal": {"scheme": "github", "secret": "blog-webhook"},
        "origin": "request",
        "parent": "",
        "dedupe_key": "",
        "traceparent": "",
        "trace": "",
        "body_size": 8,
        "rejection": "",
        "body": {"a": 1},
        "body_base64": "",
        "parts": [],
    }
    assert told["journal"] == [
        {"key": "/do/0/call#0", "output": {"ok": True}, "error": None},
        {"key": "/do/1/call#0", "output": None, "error": AS_JSON},
    ]
    assert told["output"] == [1]
    assert (told["attempt_history"], told["attempts_left_out"]) == ([], 0)


@pytest.mark.parametrize(
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
    told = request_of(_event(body, content_type))
    assert {key: told[key] for key in ("body", "body_base64")} == {"body": None, "body_base64": "", **expected}


def test_of_a_body_that_was_streamed_there_are_its_size_its_fields_and_where_its_parts_lie():
    part = Part(5, 3, "image/png", "a.png", "picture", b"\x01" * 32)
    event = _event(b"", "multipart/form-data; boundary=b")._replace(
        body_blob=Blob("0" * 32, 9_000_000, b"\x02" * 32), parts=(part,), form=b'{"a":"1"}'
    )
    told = request_of(event)
    assert (told["body_size"], told["body"]) == (9_000_000, {"a": "1"})
    assert told["parts"] == [
        {"offset": 5, "size": 3, "type": "image/png", "name": "a.png", "field": "picture", "sha256": "01" * 32}
    ]
    whole = request_of(event._replace(parts=(), form=b""))
    assert (whole["body"], [each["size"] for each in whole["parts"]]) == (None, [9_000_000])


def test_without_its_body_a_request_has_none():
    told = shown(detail_view(ExecutionDetail(FAULTED, _event(b"{}"), (), None)))
    assert (told["request"]["body"], told["request"]["body_size"]) == (None, 2)


def test_an_attempt_has_all_that_is_stored_of_it():
    attempt = Attempt(3, "runner-1", 1_700_000_000_000, 1_700_000_001_000, AttemptEnd.RELEASED, "DRAINING")
    told = shown(detail_view(ExecutionDetail(FAULTED, _event(b""), (), None, attempts=(attempt,), attempts_left_out=1)))
    assert told["attempts_left_out"] == 1
    assert told["attempt_history"] == [
        {
            "number": 3,
            "runner": "runner-1",
            "assigned_at": "2023-11-14T22:13:20.000Z",
            "ended_at": "2023-11-14T22:13:21.000Z",
            "end": "released",
            "detail": "DRAINING",
            "reason": "released by the runner (DRAINING)",
            "charged": False,
        }
    ]


def test_a_linked_execution_that_is_not_stored_any_more_has_no_flow():
    links = ExecutionLinks(
        (LinkedExecution("evt_1", (LinkKind.EVENT, LinkKind.LISTEN)),),
        (LinkedExecution("evt_3", (LinkKind.RUN,), "shop", Status.FAULTED),),
        more_caused=True,
    )
    told = shown(detail_view(ExecutionDetail(FAULTED, _event(b""), (), None, links=links)))["links"]
    assert told["causes"] == [{"id": "evt_1", "kinds": ["event", "listen"], "flow": "", "status": None}]
    assert told["caused"] == [{"id": "evt_3", "kinds": ["run"], "flow": "shop", "status": "faulted"}]
    assert told["more_caused"]


@pytest.mark.parametrize("key", ["/do/0/p#0:wait", "/do/1/b#0:retry", "/timeout#0", "/do/0/t#0:now"])
@pytest.mark.parametrize("name", ["now", "until", "over"])
def test_moments_in_the_journal_are_shown_as_times(key, name):
    journal = (JournalEntry(key, b'{"%b":1700000000000}' % name.encode()),)
    (entry,) = shown(detail_view(ExecutionDetail(FAULTED, _event(b""), journal, None)))["journal"]
    assert entry["output"] == {name: "2023-11-14T22:13:20.000Z"}


def test_the_result_of_a_call_is_shown_as_it_is():
    journal = (JournalEntry("/do/0/a#0", b'{"until":1700000000000}'), JournalEntry("/do/0/l#0:event", b'{"id":7}'))
    entries = shown(detail_view(ExecutionDetail(FAULTED, _event(b""), journal, None)))["journal"]
    assert [entry["output"] for entry in entries] == [{"until": 1_700_000_000_000}, {"id": 7}]
