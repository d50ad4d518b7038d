"""The workflow's input is made of the event, and nothing of it is lost without a trace."""

from __future__ import annotations

import base64
import hashlib

import pytest
from support.cases import cases

from flowhook.events.workflow_input import (
    MAX_INLINE_BYTES,
    admission_view,
    has_webhook,
    inlined_indexes,
    request_view,
    rfc3339,
    stored_attachments,
    takes_raw_body,
    webhook_view,
    workflow_input,
)
from flowhook.model import Blob, Event, Origin, Part


def event(body=b"", content_type="application/json", headers=(), query=""):
    return Event("evt_1", "f", 1_700_000_000_123, None, "", "POST", "/hook/f", query, content_type, headers, body)


def test_the_shape_is_the_documented_one():
    assert workflow_input(event(b'{"a":1}')) == {
        "id": "evt_1",
        "received_at": "2023-11-14T22:13:20.123Z",
        "method": "POST",
        "path": "/hook/f",
        "query": {},
        "headers": {},
        "content_type": "application/json",
        "body": {"a": 1},
        "attachments": [],
    }


@cases(
    ("milliseconds", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),  # a double holds no such fraction
    ],
)
def test_an_instant_is_exact_to_the_millisecond(milliseconds, text):
    assert rfc3339(milliseconds) == text


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/cloudevents+json"]
)
def test_json_of_any_name_is_parsed(kind):
    assert workflow_input(event(b"[1]", kind))["body"] == [1]


def test_repeated_headers_are_joined_and_odd_bytes_survive():
    headers = (("a", b"1"), ("b", "é".encode()), ("a", b"2"), ("c", b"\xe9"))
    assert workflow_input(event(headers=headers))["headers"] == {"a": "1, 2", "b": "é", "c": "é"}


def test_repeated_query_parameters_become_arrays():
    assert workflow_input(event(query="a=1&b=x%20y&a=2&c=&a=3"))["query"] == {"a": ["1", "2", "3"], "b": "x y", "c": ""}


@pytest.mark.parametrize(
    ("body", "content"),
    [("<ä/>".encode(), {"content": "<ä/>"}), (b"\xff\x00", {"base64": base64.b64encode(b"\xff\x00").decode()})],
)
def test_what_is_not_parsed_is_an_attachment(body, content):
    data = workflow_input(event(body, "image/svg"))
    assert data["body"] is None
    assert data["attachments"] == [
        {
            "name": "body",
            "type": "image/svg",
            "size": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
            "attachment": "evt_1/0",
            **content,
        }
    ]


def test_the_parts_of_a_form_are_fields_and_attachments():
    body = b"".join(
        b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % field
        for field in [(b"a", b"1"), (b'f"; filename="x.txt', b"file")]
    )
    data = workflow_input(event(body + b"--b--", "multipart/form-data; boundary=b"))
    assert data["body"] == {"a": "1"}
    assert [(each["name"], each["field"], each["content"]) for each in data["attachments"]] == [("x.txt", "f", "file")]


def test_a_flow_may_want_the_body_as_it_is():
    data = workflow_input(event(b'{"a":1}'), raw=True)
    assert (data["body"], data["attachments"][0]["content"]) == (None, '{"a":1}')
    assert takes_raw_body({"webhook": {"parse": "raw", "callbacks": {"c": {}}}})
    assert not takes_raw_body({"webhook": {"parse": "raw", "callbacks": {"c": {}}}}, "c")


@pytest.mark.parametrize("kind", ["application/json", "application/xml", "multipart/form-data; boundary=b"])
def test_what_an_edge_would_have_refused_is_an_attachment_too(kind):
    assert workflow_input(event(b"{", kind))["attachments"][0]["content"] == "{"


def test_what_of_attachments_is_large_is_described_but_not_carried():
    (attachment,) = workflow_input(event(b"x" * (MAX_INLINE_BYTES + 1), "image/png"))["attachments"]
    assert set(attachment) == {"name", "type", "size", "sha256", "attachment"}


def test_an_empty_body_is_nothing():
    data = workflow_input(event())
    assert (data["body"], data["attachments"]) == (None, [])


def test_expressions_under_webhook_see_the_same_but_for_attachments():
    stored = event(b'{"a":1}', headers=(("a", b"1"),), query="a=1")
    shown = workflow_input(stored)
    assert shown.pop("attachments") == []
    assert webhook_view(stored, {"a": 1}) == shown


@cases("origin", [Origin.WORKFLOW, Origin.SCHEDULE, Origin.EVENTS])
@cases(("body", "expected"), [(b'{"a":1}', {"a": 1}), (b"[1]", [1]), (b"", {})])
def test_what_no_request_made_is_given_its_body(origin, body, expected):
    assert workflow_input(event(body)._replace(origin=origin)) == expected


@cases(
    ("body", "kind", "expected"),
    [
        (b'{"body":{"a":1}}', "application/json", {"body": {"a": 1}}),
        (b"[1]", "", [1]),
        (b"null", "application/json", None),
        (b"", "application/json", {}),
        (b"hi", "text/plain", "hi"),
        (b"a=1", "application/x-www-form-urlencoded", {"a": "1"}),
    ],
)
def test_without_a_webhook_the_input_is_the_content_as_it_is(body, kind, expected):
    assert workflow_input(event(body, kind), webhook=False) == expected


@pytest.mark.parametrize(("body", "kind"), [(b"\xff", "image/png"), (b"{", "application/json"), (b"{", "")])
def test_without_a_webhook_too_what_is_not_parsed_is_an_attachment(body, kind):
    assert workflow_input(event(body, kind), webhook=False) == workflow_input(event(body, kind))
    stored = streamed(SMALL)
    assert workflow_input(stored, webhook=False, contents={0: b"abc"}) == workflow_input(stored, contents={0: b"abc"})


@pytest.mark.parametrize(("definition", "has"), [({}, False), ({"webhook": None}, False), ({"webhook": {}}, True)])
def test_a_webhook_is_what_stands_there(definition, has):
    assert has_webhook(definition) is has


BLOB = Blob("0" * 32, 5_000_000, b"\x01" * 32)
SMALL, LARGE = (
    Part(100, 3, "text/plain", "a.txt", "note", b"\x02" * 32),
    Part(200, 4_000_000, "image/png", "a.png", "picture", b"\x03" * 32),
)


def streamed(*parts, form=b"", content_type="multipart/form-data; boundary=b", headers=()):
    return event(b"", content_type, headers)._replace(body_blob=BLOB, parts=parts, form=form)


def test_of_a_streamed_form_there_are_fields_and_where_its_files_lie():
    stored = streamed(LARGE, SMALL, form=b'{"a":"1"}')
    assert inlined_indexes(stored_attachments(stored)) == [1]
    data = workflow_input(stored, owner="evt_0", contents={1: b"abc"})
    assert data["body"] == {"a": "1"}
    assert data["attachments"] == [
        {
            "name": "a.png",
            "type": "image/png",
            "size": 4_000_000,
            "sha256": "03" * 32,
            "attachment": "evt_0/0",
            "field": "picture",
        },
        {
            "name": "a.txt",
            "type": "text/plain",
            "size": 3,
            "sha256": "02" * 32,
            "attachment": "evt_0/1",
            "field": "note",
            "content": "abc",
        },
    ]


@pytest.mark.parametrize(
    ("stored", "raw"), [(streamed(content_type="video/mp4"), False), (streamed(SMALL, form=b"{}"), True)]
)
def test_a_streamed_body_without_parts_or_that_is_wanted_raw_is_one_attachment(stored, raw):
    data = workflow_input(stored, raw=raw)
    whole = {"type": stored.content_type, "size": BLOB.size, "sha256": "01" * 32, "attachment": "evt_1/0"}
    assert (data["body"], data["attachments"]) == (None, [{"name": "body", **whole}])


@cases("form", [b"{", b"{]}", b'{"a":}', b"[]", b"1", b"{}{}", b'{"a":"\xff"}'])
@cases("webhook", [True, False])
def test_fields_of_a_streamed_form_that_are_no_object_are_none(form, webhook):
    """The router does not read them: it is the one that looks who finds it out."""
    data = workflow_input(streamed(LARGE, form=form), webhook=webhook)
    assert data["body"] is None
    assert [each["name"] for each in data["attachments"]] == ["a.png"]
    assert admission_view(streamed(LARGE, form=form), webhook=webhook)["body"] is None


def test_a_cloud_event_whose_data_was_streamed_has_its_attributes():
    headers = (("ce-specversion", b"1.0"), ("ce-id", b"7"), ("ce-type", b"film"))
    data = workflow_input(streamed(content_type="video/mp4", headers=headers))
    assert data["body"] == {"specversion": "1.0", "id": "7", "type": "film", "datacontenttype": "video/mp4"}


def test_as_many_contents_belong_into_the_input_as_fit_first_come_first():
    sizes = (MAX_INLINE_BYTES - 2, 3, 2, 1)
    parts = [Part(0, size, "", "", "", b"") for size in sizes]
    assert inlined_indexes(parts) == [0, 2]


def test_attachments_of_nobody_have_no_handles():
    assert "attachment" not in request_view(event(b"x", "image/png"))["attachments"][0]
