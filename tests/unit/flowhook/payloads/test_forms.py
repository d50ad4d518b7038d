"""Brackets in names become structure, and no value is lost on the way."""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cases import cases

from flowhook.errors import InvalidError
from flowhook.payloads.forms import MAX_BRACKETS, MAX_BYTES, nest_fields, parse_urlencoded, percent_decode


@cases(
    ("fields", "expected"),
    [
        ([("a", 1), ("a", 2)], {"a": [1, 2]}),
        ([("a[b]", 1), ("a[c][d]", 2)], {"a": {"b": 1, "c": {"d": 2}}}),
        ([("a[]", 1)], {"a": [1]}),
        ([("a[]", 1), ("a[]", 2)], {"a": [1, 2]}),
        ([("a[1]", "y"), ("a[0]", "x")], {"a": ["x", "y"]}),
        ([("a[0][n]", 1), ("a[1][n]", 2)], {"a": [{"n": 1}, {"n": 2}]}),
        ([("a[0]", 1), ("a[]", 2)], {"a": [1, 2]}),
        ([("a[0]", 1), ("a[x]", 2)], {"a": {"0": 1, "x": 2}}),
        ([("a", 1), ("a[b]", 2)], {"a": {"": 1, "b": 2}}),
        ([("a[b]", 2), ("a", 1)], {"a": {"": 1, "b": 2}}),
        ([("a[b][]", 1), ("a[b][c]", 2)], {"a": {"b": {"c": 2, "[]": [1]}}}),
        ([("[a]", 1), ("a]b", 2), ("a[b", 3), ("", 4)], {"[a]": 1, "a]b": 2, "a[b": 3, "": 4}),
        ([("__proto__[x]", 1)], {"__proto__": {"x": 1}}),
        ([], {}),
    ],
)
def test_names_are_places(fields, expected):
    assert nest_fields(fields) == expected


def leaves(value):
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in leaves(item)]
    if isinstance(value, list):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"a" + b"[b]" * 33, "at most 32 brackets"),
        (b"a" + b"[b]" * 600_000, "at most 32 brackets"),
        (b"&".join(b"a%d" % number + b"[]" * 32 for number in range(1 + MAX_BRACKETS // 32)), "20000 brackets"),
        (b"a=&" * 10_000, "at most 10000 fields"),
        (b"a=%FF", "not utf-8"),
    ],
)
def test_what_is_too_much_is_refused_with_its_cause(body, why):
    with pytest.raises(InvalidError, match=why) as caught:
        parse_urlencoded(body, "")
    assert caught.value.reason == "BODY_INVALID"


def test_a_form_that_is_too_large_is_distinguished_from_one_that_is_none():
    with pytest.raises(InvalidError, match="at most 2 MiB") as caught:
        parse_urlencoded(b"a" * (MAX_BYTES + 1), "")
    assert caught.value.reason == "BODY_TOO_LARGE"


@pytest.mark.parametrize("name", ["a" + "[" * 100_000, "a" + "[" * 1000 + "]" * 1000, "[b]" * 1000, "a[" + "]" * 1000])
def test_brackets_that_do_not_match_are_part_of_a_name_however_many_there_are(name):
    assert parse_urlencoded(name.encode(), "") == {name: ""}


@given(
    st.lists(
        st.sampled_from(["a", "=", "&", "%", "%4", "%41", "%C3%A9", "+", "é", "%25", "%3D", "%3d", "%0A", "\n", ";"]),
        max_size=15,
    ).map("".join)
)
def test_fields_are_those_of_the_standard_library(text):
    try:
        fields = parse_qsl(text, keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:  # "%aa"
        with pytest.raises(InvalidError):
            parse_urlencoded(text.encode(), "")
        return
    assert parse_urlencoded(text.encode(), "") == nest_fields(fields)


@cases(
    ("charset", "body", "expected"),
    [
        ("iso-8859-1", b"a=%E9\xe9", {"a": "éé"}),
        ("shift_jis", b"a=%83A", {"a": "ア"}),
        ("shift_jis", b"a=\x83A%83A", {"a": "アア"}),
        ("iso-2022-jp", b"a=%1B%24B%25%22%1B(B", {"a": "ア"}),
        ("iso-2022-jp", b"a=%41\x1b$B%A0!\x1b(B", {"a": "A" + b"\x1b$B%A0!\x1b(B".decode("iso-2022-jp")}),
        ("utf-16", "a=%C3%A9é".encode("utf-16"), {"a": "éé"}),
    ],
)
def test_escapes_are_of_the_charset_where_it_has_ascii_in_it(charset, body, expected):
    assert parse_urlencoded(body, charset) == expected


names = st.lists(st.sampled_from(["a", "b", "[]", "[a]", "[0]", "[1]", "[", "]"]), max_size=5).map("".join)


@given(st.lists(names, max_size=12))
def test_every_value_is_somewhere(found):
    assert sorted(leaves(nest_fields((name, index) for index, name in enumerate(found)))) == list(range(len(found)))


@given(st.lists(st.sampled_from(list(b"%=24dDfFgx\r\n_ \xff\0")), max_size=14).map(bytes))
def test_any_bytes_give_what_the_standard_library_gives(data):
    assert percent_decode(data) == unquote_to_bytes(data)
