"""Values are counted before they are read, and never too few."""

from __future__ import annotations

import gc

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowhook import limits
from flowhook.errors import InvalidError
from flowhook.json import check_value_count, load_json
from flowhook.payloads.parsing import parse

TEXTS = st.lists(st.sampled_from(["a", '"', "\\", ",", "[", "]", "{", "}", ":", "\n", "é"]), max_size=8).map("".join)
VALUES = st.recursive(
    st.integers(0, 9) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


def count(value):
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(count, inner))


def is_refused(text, most):
    try:
        check_value_count(text, most)
    except InvalidError:
        return True
    return False


@given(VALUES, st.integers(0, 40), st.booleans())
def test_what_has_more_values_is_refused_whatever_its_strings_say(value, most, is_indented):
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2 if is_indented else 0)
    if count(value) > most:
        assert is_refused(text, most)
    if 2 * count(value) <= most:
        assert not is_refused(text, most)


@given(st.lists(st.sampled_from([b'"', b"\\", b",", b"[", b"]", b"{}", b"a", b"1", b"\n"]), max_size=30).map(b"".join))
def test_of_any_bytes_at_least_what_is_read_is_counted(text):
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return
    assert is_refused(text, count(value) - 1)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b"[" + b"[]," * limits.MAX_VALUES + b"0]"),
        ("application/json", b"[" + b'{"a":0},' * (limits.MAX_VALUES // 2) + b"0]"),
        ("application/json", b"[" + b'"a,",' * limits.MAX_VALUES + b"0]"),
        ("application/cloudevents-batch+json", b"[" + b"{}," * limits.MAX_VALUES + b"{}]"),
        ("application/x-ndjson", (b"[" + b"0," * 100_000 + b"0]\n") * 11),
    ],
)
def test_a_body_of_more_values_than_are_read_is_refused_with_its_cause(kind, body):
    with pytest.raises(InvalidError, match="more than 1000000 values") as caught:
        parse(kind, body, (), limit=limits.MAX_BODY_BYTES)
    assert caught.value.reason == "BODY_INVALID"


def test_commas_and_brackets_in_strings_are_no_values():
    text = ',[{"\\' * (limits.MAX_VALUES // 2)
    assert parse("application/json", orjson.dumps({"csv": text}), (), limit=limits.MAX_BODY_BYTES).body == {"csv": text}


def test_all_fields_of_a_form_share_what_may_be_read_of_them():
    header = b'--b\r\nContent-Disposition: form-data; name="a"\r\nContent-Type: application/json\r\n\r\n'
    half = b"[" + b"0," * (limits.MAX_VALUES // 2) + b"0]"
    body = (header + half + b"\r\n") * 2 + b"--b--\r\n"
    content = parse("multipart/form-data; boundary=b", body, (), limit=limits.MAX_BODY_BYTES)
    assert len(content.body["a"]) == limits.MAX_VALUES // 2 + 1
    assert [each.content for each in content.attachments] == [half]


@pytest.fixture
def collections():
    """List the generations that are collected."""
    found = []

    def note(phase, details):
        if phase == "start":
            found.append(details["generation"])

    gc.callbacks.append(note)
    yield found
    gc.callbacks.remove(note)


MANY = b"[" + b"[]," * 100_000 + b"1]"


def test_no_garbage_is_collected_while_a_large_text_is_read(collections):
    gc.collect()
    collections.clear()
    value = load_json(MANY)
    seen = len(collections)  # one may follow at once, when it is allowed again
    assert seen <= 1
    assert len(value) == 100_001
    assert gc.isenabled()


def test_garbage_is_collected_after_a_large_text_that_is_not_json():
    with pytest.raises(orjson.JSONDecodeError):
        load_json(MANY[:-1])
    assert gc.isenabled()


def test_the_collector_stays_off_where_it_was():
    gc.disable()
    try:
        load_json(MANY)
        assert not gc.isenabled()
    finally:
        gc.enable()
