"""What servers send is cut into messages and lines, whatever they send and however it is cut on the way."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cases import cases

from router.storage.commit_log.jetstream.append_connection import (
    MAX_LINE_BYTES,
    MAX_MESSAGE_BYTES,
    ServerMessage,
    ServerReader,
)

SUBJECTS = st.from_regex(rb"[A-Za-z_.0-9]{1,40}", fullmatch=True)
MESSAGES = st.builds(ServerMessage, SUBJECTS, st.binary(max_size=200))
LINES = st.from_regex(rb"(PING|PONG|\+OK|-ERR 'x'|INFO \{\})", fullmatch=True)


def wire(item, reply):
    if isinstance(item, bytes):
        return item + b"\r\n"
    size = len(item.content)
    head = b"HMSG %s 1 %s0 %d" if size % 2 else b"MSG %s 1 %s%d"
    return head % (item.subject, reply, size) + b"\r\n" + item.content + b"\r\n"


def read(reader):
    while (received := reader.next()) is not None:
        yield received


def chunks(data, cuts):
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    return [data[begin:end] for begin, end in itertools.pairwise(places)]


@given(st.lists(st.one_of(MESSAGES, LINES), max_size=8), st.lists(st.integers(0, 600), max_size=8), st.booleans())
def test_messages_and_lines_come_out_as_they_were_sent_however_they_are_cut(items, cuts, replies):
    reply = b"reply.to " if replies else b""
    data = b"".join(wire(item, reply) for item in items)
    reader, found = ServerReader(), []
    for chunk in chunks(data, cuts):
        reader.feed(chunk)
        found += read(reader)
    assert found == items


@given(st.lists(st.one_of(st.binary(max_size=64), st.sampled_from([b"MSG a 1 ", b"HMSG a 1 2 ", b"\r\n", b"9" * 12]))))
def test_no_bytes_are_taken_for_a_message_that_they_are_not(parts):
    data = b"".join(parts)
    reader, found = ServerReader(), []
    try:
        for part in parts:
            reader.feed(part)
            found += read(reader)
    except ConnectionError:
        pass
    for item in found:
        if isinstance(item, ServerMessage):
            head = rb"H?MSG " + re.escape(item.subject) + rb" [^\r\n]*?0*%d\r\n" % len(item.content)
            assert re.search(head + re.escape(item.content) + b"\r\n", data, re.DOTALL)
            assert len(item.content) <= MAX_MESSAGE_BYTES


@cases(
    "data",
    [
        b"MSG a 1 -5\r\n",
        b"MSG a 1 1_0\r\n",
        b"MSG a 1 %d\r\n" % (MAX_MESSAGE_BYTES + 1),
        b"MSG a 1 99999999999999999999\r\n",
        b"MSG 5\r\n",
        b"MSG a 1 2\r\nabcd\r\n",
        b"x" * (MAX_LINE_BYTES + 1),
    ],
)
def test_what_is_no_message_of_a_server_ends_the_connection(data):
    reader = ServerReader()
    reader.feed(data)
    with pytest.raises(ConnectionError):
        list(read(reader))
