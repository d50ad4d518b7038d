from __future__ import annotations

import contextlib
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cases import cases

from edge.http.head import MAX_FIELDS, MAX_NAME_BYTES, MalformedRequestError, parse_head


def head_of(*lines, start=b"POST /hook/a?x=1 HTTP/1.1", host=b"Host: a.test"):
    return b"".join(line + b"\r\n" for line in (start, *((host,) if host else ()), *lines))


def test_a_head_is_taken_apart():
    head = parse_head(head_of(b"Content-Type: application/json", b"Content-Length: 12"))

    assert (head.method, head.path, head.query, head.target) == ("POST", "/hook/a", "x=1", "/hook/a?x=1")
    assert head.host == "a.test"
    assert head.content_type == "application/json"
    assert head.length == 12
    assert head.keep_alive
    assert not head.expects_continue


def test_fields_keep_their_order_and_their_repeats():
    head = parse_head(head_of(b"A: 1", b"b:2", b"A:\t 3 "))

    assert head.headers == [("host", b"a.test"), ("a", b"1"), ("b", b"2"), ("a", b"3")]


def test_values_keep_bytes_that_are_no_ascii():
    assert parse_head(head_of(b"X: \xe9\xff")).headers[1] == ("x", b"\xe9\xff")


@cases(
    ("lines", "status", "reason"),
    [
        ([b"No colon"], 400, "HEADER_MALFORMED"),
        ([b" folded: x"], 400, "HEADER_MALFORMED"),
        ([b"A: 1", b" more"], 400, "HEADER_MALFORMED"),
        ([b"Space : x"], 400, "HEADER_MALFORMED"),
        ([b": x"], 400, "HEADER_MALFORMED"),
        ([b"A: \x00"], 400, "HEADER_MALFORMED"),
        ([b"A: a\rb"], 400, "HEADER_MALFORMED"),
        ([b"A: a\nB: b"], 400, "HEADER_MALFORMED"),
        ([b"A\xe9: b"], 400, "HEADER_MALFORMED"),
        ([b"n" * (MAX_NAME_BYTES + 1) + b": x"], 400, "HEADER_MALFORMED"),
        ([b"Host: b.test"], 400, "HOST_INVALID"),
        ([b"Content-Length: 1", b"Content-Length: 2"], 400, "FRAMING_INVALID"),
        ([b"Content-Length: 1", b"Content-Length: 1"], 400, "FRAMING_INVALID"),
        ([b"Content-Length: 1, 1"], 400, "FRAMING_INVALID"),
        ([b"Content-Length: -1"], 400, "FRAMING_INVALID"),
        ([b"Content-Length: +1"], 400, "FRAMING_INVALID"),
        ([b"Content-Length: 0x1"], 400, "FRAMING_INVALID"),
        ([b"Content-Length: \xb2"], 400, "FRAMING_INVALID"),
        ([b"Content-Length: " + b"9" * 5000], 400, "FRAMING_INVALID"),
        ([b"Content-Length:"], 400, "FRAMING_INVALID"),
        ([b"Content-Length: 1", b"Transfer-Encoding: chunked"], 400, "FRAMING_INVALID"),
        ([b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"], 400, "FRAMING_INVALID"),
        ([b"Transfer-Encoding: gzip, chunked"], 501, "TRANSFER_CODING_UNKNOWN"),
        ([b"Transfer-Encoding: xchunked"], 501, "TRANSFER_CODING_UNKNOWN"),
        ([b"Transfer-Encoding:"], 501, "TRANSFER_CODING_UNKNOWN"),
        ([b"Content-Type: text/plain", b"content-type: application/json"], 400, "CONTENT_TYPE_INVALID"),
        ([b"Content-Type: text/plain"] * 2, 400, "CONTENT_TYPE_INVALID"),
        ([b"Expect: a-miracle"], 417, "EXPECTATION_UNKNOWN"),
        ([b"X: y"] * MAX_FIELDS, 431, "HEADER_TOO_LARGE"),
    ],
)
def test_ambiguous_and_malformed_fields_are_refused(lines, status, reason):
    with pytest.raises(MalformedRequestError) as caught:
        parse_head(head_of(*lines))
    assert (caught.value.status, caught.value.reason) == (status, reason)


@cases(
    ("start", "status"),
    [
        (b"", 400),
        (b"GET", 400),
        (b"GET /", 400),
        (b"GET  / HTTP/1.1", 400),
        (b"GET / HTTP/1.1 ", 400),
        (b"GET / http/1.1", 400),
        (b"GET /\x00 HTTP/1.1", 400),
        (b"G\xe9T / HTTP/1.1", 400),
        (b"GET hook HTTP/1.1", 400),
        (b"CONNECT a.test:443 HTTP/1.1", 400),
        (b"CONNECT /hook/a HTTP/1.1", 400),
        (b"GET /\xff HTTP/1.1", 400),
        (b"GET http:///a HTTP/1.1", 400),
        (b"GET http://u:p@a.test/ HTTP/1.1", 400),
        (b"GET ftp://a.test/ HTTP/1.1", 400),
        (b"GET //a.test@b/\t HTTP/1.1", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET / HTTP/2.0", 505),
        (b"GET / HTTP/0.9", 505),
    ],
)
def test_what_is_no_request_line_is_refused(start, status):
    with pytest.raises(MalformedRequestError) as caught:
        parse_head(head_of(start=start))
    assert caught.value.status == status


@cases("method", ["BREW", "get", "X-Y", "PRI", "SOURCE", "SETUP"])
def test_a_method_is_any_token(method):
    head = parse_head(head_of(b"Content-Length: 3", start=f"{method} /a HTTP/1.1".encode()))
    assert (head.method, head.path, head.length) == (method, "/a", 3)


@cases(
    ("line", "reason"),
    [
        (b"Content-Length: +1", "FRAMING_INVALID"),
        (b"Transfer-Encoding:", "TRANSFER_CODING_UNKNOWN"),
        (b"Space : x", "HEADER_MALFORMED"),
        (b"n" * (MAX_NAME_BYTES + 1) + b": x", "HEADER_MALFORMED"),
    ],
)
@cases("method", ["POST", "BREW"])
def test_the_first_field_is_refused_like_any_other(method, line, reason):
    with pytest.raises(MalformedRequestError) as caught:
        parse_head(head_of(line, b"Host: a", start=f"{method} / HTTP/1.1".encode(), host=None))
    assert caught.value.reason == reason


def test_later_minor_versions_are_read_like_1_1():
    assert parse_head(head_of(b"Content-Length: 3", start=b"GET /a HTTP/1.7")).keep_alive


def test_a_target_may_be_in_utf_8():
    assert parse_head(head_of(start="GET /café?ü HTTP/1.1".encode())).target == "/café?ü"


@pytest.mark.parametrize("framing", [b"Content-Length: 3", b"Transfer-Encoding: chunked"])
def test_the_offer_of_another_protocol_is_not_taken(framing):
    head = parse_head(head_of(b"Connection: upgrade, http2-settings", b"Upgrade: h2c", framing))
    assert head.length == (3 if b"3" in framing else -1)
    assert head.keep_alive


def test_a_request_without_host_is_refused_in_http_1_1_alone():
    with pytest.raises(MalformedRequestError) as caught:
        parse_head(head_of(host=b""))
    assert caught.value.reason == "HOST_INVALID"
    assert parse_head(head_of(start=b"GET / HTTP/1.0", host=b"")).host == ""


@cases("value", [b"a test", b"a/b", b"a@b", b"a\xe9", b"a<b", b"a" * 301])
def test_a_host_that_is_no_host_is_refused(value):
    with pytest.raises(MalformedRequestError) as caught:
        parse_head(head_of(host=b"Host: " + value))
    assert caught.value.reason == "HOST_INVALID"


@pytest.mark.parametrize(
    ("target", "host", "path", "query"),
    [
        (b"http://b.test/hook/a?q", "b.test", "/hook/a", "q"),
        (b"HTTPS://b.test:8443", "b.test:8443", "/", ""),
        (b"http://b.test?q", "b.test", "/", "q"),
        (b"*", "", "*", ""),
    ],
)
def test_an_absolute_target_replaces_host(target, host, path, query):
    head = parse_head(head_of(start=b"OPTIONS " + target + b" HTTP/1.1"))
    assert (head.host, head.path, head.query) == (host, path, query)


@cases(
    ("version", "connection", "keep_alive"),
    [
        (b"1.1", None, True),
        (b"1.1", b"close", False),
        (b"1.1", b"Close, X-Other", False),
        (b"1.1", b"keep-alive", True),
        (b"1.0", None, False),
        (b"1.0", b"Keep-Alive", True),
        (b"1.0", b"keep-alive, close", False),
    ],
)
def test_connection_decides_whether_the_connection_persists(version, connection, keep_alive):
    fields = [] if connection is None else [b"Connection: " + connection]
    assert parse_head(head_of(*fields, start=b"GET / HTTP/" + version)).keep_alive is keep_alive


def test_a_chunked_body_has_no_length():
    assert parse_head(head_of(b"Transfer-Encoding: Chunked")).length == -1
    with pytest.raises(MalformedRequestError):
        parse_head(head_of(b"Transfer-Encoding: chunked", start=b"POST / HTTP/1.0"))


def test_continue_is_expected_in_http_1_1_alone():
    assert parse_head(head_of(b"Expect: 100-Continue")).expects_continue
    assert not parse_head(head_of(b"Expect: 100-continue", start=b"POST / HTTP/1.0")).expects_continue


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_else(data):
    with contextlib.suppress(MalformedRequestError):
        parse_head(data)


@given(st.lists(st.sampled_from([b"GET", b" ", b"/", b"HTTP/1.1", b"\r\n", b"Host: a", b":", b"\x00", b"\xff"])))
def test_no_mixture_of_parts_raises_anything_else(parts):
    with contextlib.suppress(MalformedRequestError):
        assert parse_head(b"".join(parts)).path


def test_what_senders_choose_is_not_remembered_without_bound():
    tracemalloc.start()
    try:
        for number in range(200):
            value = b"%d" % number + b"y" * 60_000
            for line in (value + b": 1", b"Host: " + value, b"Connection: " + value):
                with contextlib.suppress(MalformedRequestError):
                    parse_head(head_of(line, host=None if line.startswith(b"Host") else b"Host: a"))
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()


def cost_of(head):
    """Return the CPU time that a head takes, the least of several times, whatever comes of it."""
    times = []
    for _ in range(9):
        before = time.thread_time()
        with contextlib.suppress(MalformedRequestError):
            parse_head(head)
        times.append(time.thread_time() - before)
    return min(times)


@pytest.mark.parametrize("line", [b"a:\r\n" * 15_000, b"Connection: " + b"a," * 30_000 + b"\r\n"])
def test_a_head_of_many_tiny_things_costs_no_more_than_a_large_one_that_is_taken(line):
    most = head_of(*[b"x-%d: %b" % (number, b"y" * 200) for number in range(MAX_FIELDS - 1)])
    assert cost_of(head_of() + line) < 3 * cost_of(most)
    with pytest.raises(MalformedRequestError) as caught:
        parse_head(head_of() + line)
    assert caught.value.status == 431
