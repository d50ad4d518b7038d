"""Differences of bodies: as JSON, as text, as bytes."""

from __future__ import annotations

import time

from support.cases import cases

from operations.comparison import MAX_COMPARED, MAX_DIFFERENCES, MAX_LINE, MAX_VALUES, compare_content


def test_the_same_bytes_are_equal_whatever_they_are():
    for body in (b"", b"{", b"\xff", b'{"a":1}'):
        assert compare_content(body, body).format == "equal"


def test_json_is_compared_by_path_and_its_whitespace_is_not():
    found = compare_content(b'{"a": 1.0}', b'{"a":1}')
    assert (found.format, found.first_size, found.second_size) == ("json", 10, 7)
    [difference] = found.differences
    assert (difference.path, difference.first, difference.second) == ("/a", "1.0", "1")
    assert compare_content(b'{"a": 1}', b'{"a":1}').differences == ()


def test_differences_are_limited():
    first = b"[" + b",".join([b"1"] * 2 * MAX_DIFFERENCES) + b"]"
    found = compare_content(first, first.replace(b"1", b"2"))
    assert (len(found.differences), found.cut) == (MAX_DIFFERENCES, True)
    assert not compare_content(b"[1]", b"[2]").cut


def test_text_is_compared_by_line_with_the_lines_around():
    first = "\n".join(str(number) for number in range(100))
    found = compare_content(first.encode(), first.replace("\n50\n", "\nfifty\n").encode())
    assert found.format == "text"
    assert found.lines == ("@@ -48,7 +48,7 @@", " 47", " 48", " 49", "-50", "+fifty", " 51", " 52", " 53")


def test_json_and_text_are_compared_as_text():
    assert compare_content(b'{"a":1}', b"a=1").lines == ("@@ -1 +1 @@", '-{"a":1}', "+a=1")
    assert compare_content(b'{"a":1,"a":2}', b'{"a":2}').format == "text"


def test_long_lines_are_cut():
    found = compare_content(b"x" * 5000, b"y")
    assert max(map(len, found.lines)) == MAX_LINE + 1


def test_other_bytes_are_compared_by_offset():
    found = compare_content(b"\xff\x00ab", b"\xff\x00ac")
    assert (found.format, found.offset, found.first_bytes, found.second_bytes) == ("binary", 3, "62", "63")
    assert compare_content(b"\xff", b"\xff\x01").offset == 1


def test_what_is_too_large_is_not_compared():
    large = b"x" * (MAX_COMPARED + 1)
    found = compare_content(large, b"x", sizes=(5_000_000, 1))
    assert (found.format, found.first_size, found.lines) == ("too_large", 5_000_000, ())


HOSTILE = {
    "brackets": lambda: (b"[" * 500_000, b"[" * 500_000 + b"1"),
    "deep": lambda: (b'{"a":' * 90_000 + b"1" + b"}" * 90_000, b'{"a":' * 90_000 + b"2" + b"}" * 90_000),
    "values": lambda: (b"[" + b"1," * MAX_VALUES + b"1]", b"[" + b"2," * MAX_VALUES + b"2]"),
    "members": lambda: (
        b"{" + b",".join(b'"%d":1' % n for n in range(60_000)) + b"}",
        b"{" + b",".join(b'"%d":1' % n for n in range(60_000, 0, -1)) + b"}",
    ),
    "lines": lambda: (
        b"".join(b"%d\n" % (n % 90) for n in range(200_000)),
        b"".join(b"%d\n" % (n % 91) for n in range(200_000)),
    ),
    "alike": lambda: (b"\n" * 1_000_000, b"a\n" * 500_000),
}


@cases("name", HOSTILE)
def test_hostile_contents_are_compared_within_bounds(name):
    contents = HOSTILE[name]()
    began = time.thread_time()
    found = compare_content(*contents)
    assert time.thread_time() - began < 5.0  # a tenth of it on an idle machine
    assert len(found.differences) + len(found.lines) <= MAX_DIFFERENCES
