from __future__ import annotations

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cases import cases

from edge.http.body_framing import (
    LINES_AT_ONCE,
    MAX_EXCESS_BYTES,
    MAX_TRAILER_BYTES,
    BodyFraming,
    BodyTime,
    ChunkedBody,
)
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


def chunked(*chunks, trailer=b""):
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n" + trailer + b"\r\n"


def feed_all(body, pieces):
    for piece in pieces:
        body.feed(piece)
        while body.more:
            body.feed()


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    st.binary(max_size=10),
    st.lists(st.integers(1, 200), max_size=20),
)
def test_a_chunked_body_is_the_same_however_it_arrives(chunks, rest, cuts):
    data = chunked(*chunks, trailer=b"X-Sum: 1\r\n") + rest
    body = ChunkedBody()
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    received_after = b""
    for start, end in itertools.pairwise(places):
        if body.done:
            received_after += data[start:end]
        else:
            feed_all(body, [data[start:end]])

    assert body.done
    assert bytes(body.content) == b"".join(chunks)
    assert body.rest + received_after == rest


def test_chunk_extensions_and_trailers_are_dropped():
    body = ChunkedBody()
    body.feed(b'3;name="v"\r\nabc\r\n0;last\r\nA: b\r\nC: d\r\n\r\nGET')

    assert bytes(body.content) == b"abc"
    assert body.rest == b"GET"


@cases(
    "data",
    [
        b"x\r\n",
        b"-1\r\n",
        b"0x3\r\nabc\r\n",
        b"\r\n",
        b" 3\r\nabc\r\n",
        b"3 \r\nabc\r\n",
        b"3\nabc\r\n",
        b"3\r\nabcd\r\n",
        b"3\r\nabc\n0\r\n\r\n",
        b"3;a\x00\r\n",
        b"1000000000000000\r\n",
        b"3" * 300,
        b"0\r\nbad trailer\r\n\r\n",
        b"0\r\n folded: x\r\n\r\n",
    ],
)
def test_bad_chunks_are_refused(data):
    with pytest.raises(MalformedRequestError):
        ChunkedBody().feed(data + b"\r\n" * 300)


def test_a_trailer_section_without_end_is_refused():
    body = ChunkedBody()
    body.feed(b"0\r\n" + b"A: b\r\n" * (MAX_TRAILER_BYTES // 6))
    with pytest.raises(MalformedRequestError) as caught:
        feed_all(body, [b"A: b\r\n"] * 100)
    assert caught.value.status == 431


@given(st.lists(st.binary(max_size=30), max_size=10))
def test_no_chunks_raise_anything_else(pieces):
    body = ChunkedBody()
    with contextlib.suppress(MalformedRequestError):
        for piece in filter(None, pieces):
            if not body.done:
                body.feed(piece)


def test_tiny_chunks_are_looked_at_a_few_at_a_time():
    body = ChunkedBody()
    body.feed(chunked(*[b"x"] * 10_000) + b"GET")
    assert 0 < len(body.content) <= LINES_AT_ONCE

    while body.more:
        before = len(body.content)
        body.feed()
        assert len(body.content) - before <= LINES_AT_ONCE

    assert body.done
    assert body.content == b"x" * 10_000
    assert body.rest == b"GET"


def test_a_trailer_section_is_looked_at_a_few_lines_at_a_time():
    body = ChunkedBody()
    body.feed(b"0\r\n" + b"A:\r\n" * 2 * LINES_AT_ONCE + b"\r\n")
    turns = 1
    while body.more:
        body.feed()
        turns += 1
    assert body.done
    assert turns == 3


@pytest.mark.parametrize(("size", "extension"), [(1, b";" + b"e" * 200), (8, b";a=" + b"b" * 200)])
def test_chunks_that_are_next_to_nothing_but_extensions_are_refused(size, extension):
    chunk = b"%x%b\r\n%b\r\n" % (size, extension, b"x" * size)
    body = ChunkedBody()
    with pytest.raises(MalformedRequestError) as caught:
        feed_all(body, [chunk] * 10_000)
    assert (caught.value.status, caught.value.reason) == (400, "FRAMING_INVALID")
    assert len(body.content) <= size * MAX_EXCESS_BYTES // 150


def test_chunks_with_signatures_in_their_extensions_are_taken():
    signature = b";chunk-signature=" + b"0" * 64
    body = ChunkedBody()
    for _ in range(1000):
        body.feed(b"40%b\r\n%b\r\n" % (signature, b"x" * 64))
    assert len(body.content) == 64_000
