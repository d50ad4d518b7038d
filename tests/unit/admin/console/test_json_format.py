"""JSON is indented, and stays what it is."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from admin.console.json_format import indent_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def test_each_member_and_element_has_a_line():
    assert indent_json('{"a":[1,{"b" : "c:d,{"}],"e":{},"f":[ ]}') == (
        '{\n  "a": [\n    1,\n    {\n      "b": "c:d,{"\n    }\n  ],\n  "e": {},\n  "f": []\n}'
    )


@settings(max_examples=40)
@given(JSON)
def test_indented_by_two_it_is_what_python_writes(value):
    assert indent_json(json.dumps(value)) == json.dumps(value, indent=2)


@pytest.mark.parametrize("number", ["1" * 400, "-0.10e+0020", "1E400", "12345678901234567890123"])
def test_numbers_stay_verbatim(number):
    assert indent_json(f'{{"n":{number}}}') == f'{{\n  "n": {number}\n}}'


def test_escapes_stay_verbatim():
    assert indent_json(r'["\u00e9\/\"\\"]') == '[\n  "\\u00e9\\/\\"\\\\"\n]'


@pytest.mark.parametrize("text", ["", " ", "{", "}", "[1", "[1}", '"a', '{"a":"}', '["\\"]', "]["])
def test_what_does_not_match_is_not_indented(text):
    assert indent_json(text) is None


@given(st.text(alphabet='{}[],:"\\ a1\n'))
def test_nothing_but_white_space_is_changed(text):
    indented = indent_json(text)
    assert indented is None or re.sub(r"\s", "", indented) == re.sub(r"\s", "", text)


def test_deep_json_is_indented_only_so_far():
    depth = 5000
    indented = indent_json("[" * depth + "]" * depth)
    assert len(indented) < depth * 150


@pytest.mark.parametrize(
    "text", ["[" * 65_000, '"' * 65_001, '"\\' * 32_000, "[" * 32_000 + "]" * 32_000, "a" * 65_000]
)
def test_hostile_text_takes_time_in_proportion(text):
    indent_json(text)  # under the test's time limit: quadratic time would exceed it by far
