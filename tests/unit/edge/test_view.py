from __future__ import annotations

import orjson
from hypothesis import given
from hypothesis import strategies as st

from edge.view import view
from flowhook.ids import mint
from flowhook.model import Event
from runner.interpreter.event_input import workflow_input

BODY = {"a": [1]}
names = st.sampled_from(["a", "b", "x-c"])


def event(query="", headers=()):
    return Event(
        id=mint(7, now_ms=1_700_000_000_123),
        flow_id="orders",
        receive_time_ms=1_700_000_000_123,
        principal=None,
        dedupe_key="",
        method="POST",
        path="/hook/orders",
        query=query,
        content_type="application/json",
        headers=headers,
        body=orjson.dumps(BODY),
    )


def test_expressions_see_the_request():
    seen = view(event("x=1&y=a%20b&x=2", (("a", b"1"), ("b", b"2"), ("a", b"3"))), BODY)

    assert seen["received_at"] == "2023-11-14T22:13:20.123Z"
    assert seen["query"] == {"x": ["1", "2"], "y": "a b"}
    assert seen["headers"] == {"a": "1, 3", "b": "2"}
    assert seen["body"] == BODY


@given(
    st.one_of(st.text(max_size=20), st.lists(names, max_size=5).map(lambda each: "&".join(f"{one}=1" for one in each))),
    st.lists(st.tuples(names, st.binary(max_size=5)), max_size=5).map(tuple),
)
def test_the_edge_and_the_runner_show_the_same(query, headers):
    stored = event(query, headers)
    shown_by_runner = workflow_input(stored)
    del shown_by_runner["attachments"]
    assert view(stored, BODY) == shown_by_runner
