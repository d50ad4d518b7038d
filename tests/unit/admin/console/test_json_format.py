"""JSON is indented, and stays what it is."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cases import cases
from support.examples import examples

from admin.console.body_view import indent_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def test_each_member_and_element_has_a_line():
    assert indent_json('{"a":[1,{"b" : "c:d,{"}],"e":{},"f":[ ]}') == (
        '{\n  "a": [\n    1,\n    {\n      "b": "c:d,{"\n    }\n  ],\n  "e": {},\n  "f": []\n}'
    )


@settings(max_examples=examples(40))
@given(JSON)
def test_indented_by_two_it_is_what_python_writes(value):
    assert indent_json(json.dumps(value)) == json.dumps(value, indent=2)


@pytest.mark.parametrize("number", ["1" * 400, "-0.10e+0020", "1E400", "12345678901234567890123"])
def test_numbers_stay_verbatim(number):
    assert indent_json(f'{{"n":{number}}}') == f'{{\n  "n": {number}\n}}'


def test_escapes_stay_verbatim():
    assert indent_json(r'["\u00e9\/\"\\"]') == '[\n  "\\u00e9\\/\\"\\\\"\n]'


NOT_JSON = """|{|}|[1|[1}|"a|{"a":"}|["\\"]|][|hello world|{a: b c}|[a b, c d]|1 2|[1 2]|{"a" "b"}|[1,]|{"a":1,}|
[,1]|{,}|{:}|
{"a"}|{"a":}|["a":1]|{1:2}|01|1.|.5|+1|-|NaN|Infinity|nulls|true false|"\\x"|"\\u12"|"\t"|'a'|{}{}|[] []|:|,|1,2"""


@cases("text", NOT_JSON.replace("\n", "").split("|"))
def test_what_is_not_json_is_not_indented(text):
    assert indent_json(text) is None
    with pytest.raises(ValueError, match=r"."):
        json.loads(text, parse_constant=int)


def test_repeated_keys_stay():
    assert indent_json('{"a":1,"a":2}') == '{\n  "a": 1,\n  "a": 2\n}'


@given(st.text(alphabet='{}[],:"\\ a10-e.\n'))
def test_exactly_json_is_indented(text):
    indented = indent_json(text)
    try:
        value = json.loads(text)
    except ValueError:
        assert indented is None
    else:
        assert json.loads(indented) == value


def test_deep_json_is_indented_only_so_far():
    depth = 5000
    indented = indent_json("[" * depth + "]" * depth)
    assert len(indented) < depth * 150


@pytest.mark.parametrize(
    "text", ["[" * 65_000, '"' * 65_001, '"\\' * 32_000, "[" * 32_000 + "]" * 32_000, "a" * 65_000]
)
def test_hostile_text_takes_time_in_proportion(text):
    indent_json(text)  # under the test's time limit: quadratic time would exceed it by far
