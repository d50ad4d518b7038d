"""W3C trace contexts are read strictly, and what is too large or malformed is not passed on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cases import cases

from flowhook.tracing.context import MAX_STATE, TraceContext, new_span_id, new_trace_id, parse, state_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@cases(
    ("text", "expected"),
    [
        (f"00-{TRACE}-{SPAN}-01", TraceContext(TRACE, SPAN, sampled=True)),
        (f"00-{TRACE}-{SPAN}-00", TraceContext(TRACE, SPAN)),
        (f"00-{TRACE}-{SPAN}-fe", TraceContext(TRACE, SPAN)),
        (f"cc-{TRACE}-{SPAN}-01-what-comes-later", TraceContext(TRACE, SPAN, sampled=True)),
        (f"00-{TRACE}-{SPAN}-01-more", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN}", None),
        (f"00-{TRACE}-{SPAN}-01\n", None),
        ("", None),
    ],
)
def test_a_traceparent_is_read_as_the_w3c_says(text, expected):
    assert parse(text) == expected


@given(st.text(max_size=80))
def test_what_is_no_traceparent_is_none(text):
    found = parse(text)

    assert found is None or parse(found.traceparent) == found


def test_new_ids_are_valid():
    made = TraceContext(new_trace_id(), new_span_id(), sampled=True)

    assert parse(made.traceparent) == made


@cases(
    ("values", "expected"),
    [
        ([], ""),
        ([b"a=1"], "a=1"),
        ([b"a=1, b=2", b"c@d/e=x y"], "a=1,b=2,c@d/e=x y"),
        ([b"A=1"], ""),
        ([b"a=1,b"], ""),
        ([b"a=\x001"], ""),
        ([b"a=" + b"1" * MAX_STATE], ""),
        ([b",".join(b"k%d=v" % number for number in range(33))], ""),
    ],
)
def test_a_tracestate_is_passed_on_whole_or_not_at_all(values, expected):
    headers = [("x-other", b"1"), *(("tracestate", value) for value in values)]

    assert state_of(headers) == expected


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_long_tracestate_takes_no_time_to_refuse(size):
    assert state_of([("tracestate", b"a=1," * size)]) == ("" if size > 100 else ",".join(["a=1"] * 10))
