"""The edge's reading of a connection, against h11's and llhttp's: where they differ in framing, the edge refuses.

`FLOWHOOK_HTTP_REQUESTS` is the number of generated requests (10,000), `FLOWHOOK_HTTP_SEED` another seed.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from random import Random

from httptools import HttpParserError, HttpRequestParser
from support.http_messages import generate, of_h11, of_llhttp, ours

REQUESTS = int(os.environ.get("FLOWHOOK_HTTP_REQUESTS", "10000"))
SEED = int(os.environ.get("FLOWHOOK_HTTP_SEED", "20261127"))

OTHERS = {"h11": of_h11, "llhttp": of_llhttp}


def is_unknown_to_llhttp(method):
    try:
        HttpRequestParser(object()).feed_data(method + b" / HTTP/1.1\r\n")
    except HttpParserError:
        return True
    return False


ACCEPTED_BY_THE_EDGE_ALONE = {
    "llhttp: a method is any token, and llhttp has a list": lambda _, method: is_unknown_to_llhttp(method),
    "llhttp: targets in UTF-8 are no URLs, but senders send them": lambda data, _: (
        re.search(rb"(?m)^\S+ \S*[\x80-\xff]", data) is not None
    ),
    "llhttp: a later minor version is read like HTTP/1.1 (RFC 9110, section 2.5)": lambda data, _: (
        re.search(rb" HTTP/1\.[2-9]\r\n", data) is not None
    ),
    "h11: targets in UTF-8 are no URLs, but senders send them": lambda data, _: (
        re.search(rb"(?m)^\S+ \S*[\x80-\xff]", data) is not None
    ),
    "h11: a server should ignore an empty line before a request (RFC 9112, section 2.2)": lambda data, _: (
        b"\r\n\r\n\r\n" in data or data.startswith(b"\r\n") or re.search(rb"\r\n\r\n.*\r\n[A-Za-z]+ ", data, re.DOTALL)
    ),
}
"""What another parser refuses, and the edge does not: none of it is about framing."""


def difference(name, data, mine, other):
    """Return how two readings of the same bytes differ, or None where the edge is the stricter one."""
    for index, message in enumerate(other.messages):
        if index >= len(mine.messages):
            return "the end of a message that is not complete" if mine.end == "incomplete" else None
        if message != mine.messages[index]:
            return "another method or another body"
    if len(other.messages) == len(mine.messages) or other.end == "closed":
        return None
    if other.end == "incomplete":
        return "a message that is not complete"
    method = mine.messages[len(other.messages)][0]
    for reason, applies in ACCEPTED_BY_THE_EDGE_ALONE.items():
        if reason.startswith(f"{name}: ") and applies(data, method):
            return None
    return "a message that is malformed"


def test_where_others_read_a_connection_differently_the_edge_refuses():
    random = Random(SEED)
    seen = Counter()
    for _ in range(REQUESTS):
        data = generate(random)
        mine = ours(data)
        seen[mine.end, len(mine.messages)] += 1
        for name, read in OTHERS.items():
            found = difference(name, data, mine, read(data))
            assert found is None, f"{name} sees {found}: {data!r} (the edge: {mine})"
    # both kinds are frequent enough to mean something
    assert seen["refused", 0] > REQUESTS / 5
    assert seen["incomplete", 2] > REQUESTS / 5
