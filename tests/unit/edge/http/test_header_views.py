from __future__ import annotations

import pytest
from tornado.httputil import HTTPHeaders

from edge.http.head import parse_head
from edge.http.header_views import RequestHeaders, ResponseHeaders
from edge.http.responses import build_response, problem

HEAD = parse_head(b"POST /a HTTP/1.1\r\nHost: a\r\nset-x: 1\r\nX: \xe9\r\nSet-X: 2\r\n")


def test_fields_of_a_request_are_seen_as_tornado_sees_them():
    headers = RequestHeaders(HEAD)
    assert headers["SET-X"] == "1,2"
    assert headers.get_list("set-x") == ["1", "2"]
    assert headers["x"] == "\xe9"
    assert "host" in headers
    assert "nope" not in headers
    assert list(headers) == ["Host", "Set-X", "X"]
    assert len(headers) == 3
    assert sorted(headers.get_all()) == [("Host", "a"), ("Set-X", "1"), ("Set-X", "2"), ("X", "\xe9")]
    assert HEAD.headers[1:] == [("set-x", b"1"), ("x", b"\xe9"), ("set-x", b"2")]


def test_a_view_may_be_changed_and_copied_like_any_headers():
    headers = RequestHeaders(HEAD)
    headers["A"] = "1"
    headers.add("A", "2")
    del headers["Host"]
    copy = headers.copy()
    assert isinstance(copy, HTTPHeaders)
    assert dict(copy) == {"Set-X": "1,2", "X": "\xe9", "A": "1,2"}
    assert "A: 1\n" in str(headers)


@pytest.mark.parametrize("close", [False, True])
def test_fields_of_a_response_are_those_that_are_sent(close):
    headers = ResponseHeaders(build_response(200, [(b"X-A", b"b: c"), (b"X-A", b"d")], b"body", close=close))
    assert headers.get_list("X-A") == ["b: c", "d"]
    assert headers["Content-Length"] == "4"
    assert headers["Date"].endswith(" GMT")
    assert headers.get("Connection") == ("close" if close else None)


def test_a_refusal_says_what_it_is():
    assert ResponseHeaders(problem(503, "X", "text", retry_after=3))["Retry-After"] == "3"
