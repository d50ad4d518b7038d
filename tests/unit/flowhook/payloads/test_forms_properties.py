"""Properties are those that the library finds, however their lines are continued."""

from __future__ import annotations

import javaproperties
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowhook.errors import InvalidError
from flowhook.payloads.forms import MAX_LINES, MAX_PROPERTIES_BYTES, nest_fields, parse_properties

PIECES = ["a", "=", ":", " ", "\t", "\f", "\\", "\\", "\n", "\r", "\r\n", "#", "!", "\\u0041", "[x]", "\v", "\x85", "é"]


@given(st.lists(st.sampled_from(PIECES), max_size=16).map("".join))
def test_any_text_has_the_properties_that_the_library_finds(text):
    pairs = [(line.key, line.value) for line in javaproperties.parse(text) if isinstance(line, javaproperties.KeyValue)]
    assert parse_properties(text) == nest_fields(pairs)


def test_a_value_may_be_continued_over_many_lines():
    assert parse_properties("a=" + "b\\\n  " * (MAX_LINES - 1) + "c") == {"a": "b" * (MAX_LINES - 1) + "c"}


@pytest.mark.parametrize(
    ("text", "why", "reason"),
    [
        ("a=b\n" * (MAX_LINES + 1), "10000 lines", "BODY_INVALID"),
        ("a\\\n" * (MAX_LINES + 1), "10000 lines", "BODY_INVALID"),
        ("#\r" * (MAX_LINES + 1), "10000 lines", "BODY_INVALID"),
        ("a=" + "b" * MAX_PROPERTIES_BYTES, "512 KiB", "BODY_TOO_LARGE"),
        ("a=\\u00", "an invalid escape", "BODY_INVALID"),
    ],
)
def test_what_is_too_much_is_refused_with_its_cause(text, why, reason):
    with pytest.raises(InvalidError, match=why) as caught:
        parse_properties(text)
    assert caught.value.reason == reason
