from __future__ import annotations

import orjson
import pytest

from edge.webhook.configured_responses import ConfiguredResponse
from flowhook.document.models.webhook import Respond
from flowhook.events.ids import mint

EVENT = mint(7)


def render(view=None, **respond):
    return ConfiguredResponse(Respond.model_validate(respond)).render(EVENT, view)


def test_the_default_is_202_with_the_id():
    answer = render()

    assert answer.status == 202
    assert orjson.loads(answer.body) == {"id": EVENT}
    assert answer.head == (
        b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % len(answer.body)
    )


def test_a_duplicate_of_any_id_is_answered_with_that_id():
    response = ConfiguredResponse(Respond())
    assert orjson.loads(response.render("other", None).body) == {"id": "other"}


def test_status_headers_and_body_are_those_of_the_flow():
    answer = render(status=200, headers={"X-Thanks": "yes"}, body={"ok": True})

    assert answer.status == 200
    assert b"X-Thanks: yes\r\n" in answer.head
    assert orjson.loads(answer.body) == {"ok": True}


def test_a_string_is_sent_as_it_is():
    answer = render(body="thanks")

    assert answer.body == b"thanks"
    assert b"Content-Type: text/plain; charset=utf-8\r\n" in answer.head


def test_a_content_type_of_the_flow_is_retained():
    head = render(body="<ok/>", headers={"content-type": "application/xml"}).head

    assert b"content-type: application/xml\r\n" in head
    assert head.lower().count(b"content-type") == 1


def test_expressions_see_the_request():
    answer = render(
        {"id": "not this one", "body": {"order": 7}},
        headers={"Location": '${ "/orders/\\(.body.order)" }'},
        body={"id": "${ .id }", "order": ["${ .body.order }", 1]},
    )

    assert b"Location: /orders/7\r\n" in answer.head
    assert orjson.loads(answer.body) == {"id": EVENT, "order": [7, 1]}


def test_the_id_in_a_header_is_the_stored_one():
    answer = render(headers={"X-Event": "${ .id }"}, body="ok")
    assert f"X-Event: {EVENT}\r\n".encode() in answer.head


def test_the_id_may_stand_in_a_larger_body_or_twice():
    assert orjson.loads(render(body={"a": [{"b": "${ .id }"}], "c": "d"}).body) == {"a": [{"b": EVENT}], "c": "d"}
    assert orjson.loads(render(body=["${ .id }", "${ .id }"]).body) == [EVENT, EVENT]


@pytest.mark.parametrize("body", [{"x": "${ .body.a.b }"}, {"x": "${ .body.missing }"}])
def test_an_expression_that_fails_gives_null_because_the_event_is_stored_already(body):
    assert orjson.loads(render({"body": {"a": 1}}, body=body).body) == {"x": None}


def test_no_value_can_end_a_header_line():
    head = render({"body": {"x": "a\r\nSet-Cookie: b"}}, headers={"X": "${ .body.x }"}, body="ok").head
    assert b"X: a  Set-Cookie: b\r\n" in head


def test_a_response_without_content_has_no_length():
    answer = render(status=204, body=None)

    assert answer.body == b""
    assert b"Content-Length" not in answer.head


def test_no_body_is_an_empty_one():
    answer = render(status=200, body=None)

    assert answer.body == b""
    assert answer.head == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"


def test_only_responses_that_look_at_the_request_need_it():
    assert not ConfiguredResponse(Respond()).needs_view
    assert not ConfiguredResponse(Respond(body={"ok": 1})).needs_view
    assert ConfiguredResponse(Respond(body={"x": "${ .path }"})).needs_view


def test_a_header_value_that_is_too_long_is_left_empty():
    respond = {"headers": {"X-Name": "${ .body.name }"}}
    assert b"X-Name: " + b"n" * 4096 + b"\r\n" in render({"body": {"name": "n" * 4096}}, **respond).head
    assert b"X-Name: \r\n" in render({"body": {"name": "n" * 4097}}, **respond).head
