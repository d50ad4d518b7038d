from __future__ import annotations

import pytest

from edge.http.body_framing import BodyFraming, BodyTime
from edge.http.chunked_body import LINES_AT_ONCE
from edge.http.head import MalformedRequestError


def test_a_body_of_declared_length_ends_there_and_the_rest_is_returned():
    body = BodyFraming(5)
    assert body.take(b"abc") == (b"abc", b"")
    assert body.unread == 2
    assert body.take(b"deGET") == (b"de", b"GET")
    assert body.unread == 0
    assert body.take(b"GET") == (b"", b"GET")


def test_without_a_body_everything_is_the_rest():
    assert BodyFraming(0).take(b"GET") == (b"", b"GET")


def test_a_chunked_body_ends_after_its_last_chunk():
    body = BodyFraming(-1)
    assert body.take(b"3\r\nab") == (b"ab", b"")
    assert body.unread == -1
    assert body.take(b"c\r\n0\r\n\r\nGET") == (b"c", b"GET")
    assert body.unread == 0
    assert body.take(b"GET") == (b"", b"GET")


def test_many_chunks_are_taken_in_turns():
    body, content = BodyFraming(-1), b""
    data, turns = b"1\r\nx\r\n" * 3 * LINES_AT_ONCE + b"0\r\n\r\nGET", 0
    while body.unread:
        piece, data = body.take(data)
        content += piece
        turns += 1
        assert body.has_more is bool(body.unread)
    assert (content, data, turns) == (b"x" * 3 * LINES_AT_ONCE, b"GET", 4)


def test_what_is_no_chunk_is_refused():
    with pytest.raises(MalformedRequestError):
        BodyFraming(-1).take(b"zz\r\n")


def test_the_time_for_a_body_counts_while_it_is_waited_for():
    time = BodyTime(10.0)
    assert time.start(100.0) == 110.0
    time.stop(104.0, 1)
    assert time.start(200.0) == 206.0


def test_with_a_minimum_rate_bytes_earn_time_again_but_never_more_than_there_was():
    time = BodyTime(10.0, 100.0)
    time.start(0.0)
    time.stop(4.0, 200)  # 4 s used, 2 s earned
    assert time.start(50.0) == 58.0
    time.stop(51.0, 1_000_000)
    assert time.start(60.0) == 70.0


def test_bytes_that_arrive_while_nothing_is_waited_for_earn_time_too():
    time = BodyTime(10.0, 100.0)
    time.start(0.0)
    time.stop(5.0, 0)
    time.earn(300)
    assert time.start(50.0) == 58.0
    unlimited = BodyTime(10.0)
    unlimited.start(0.0)
    unlimited.stop(5.0, 0)
    unlimited.earn(300)
    assert unlimited.start(50.0) == 55.0
