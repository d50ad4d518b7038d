"""The part of a body that is looked at."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flowhook.expressions.paths import compile_accessor, paths_in
from flowhook.expressions.syntax import ExpressionTypeError
from flowhook.payloads.parsing import select, selection_of

PATHS = [".", ".a", ".a[2]", ".b[-3].c[1]", ".a.b", ".b[0].a", ".a[-1]", ".b", '.a["b"].a', '"\\(.a.a) \\(.b)"', "1"]

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)


def outcome(source, value):
    try:
        return compile_accessor(source)(value)
    except ExpressionTypeError as error:
        return str(error)


@given(VALUES, st.lists(st.sampled_from(PATHS), max_size=4))
def test_every_expression_yields_of_the_selection_what_it_yields_of_the_whole(value, sources):
    selection = selection_of(path for source in sources for path in paths_in(source))
    selected = select(value, selection)
    assert [outcome(source, selected) for source in sources] == [outcome(source, value) for source in sources]


def test_what_nobody_looks_at_is_left_out():
    value = {"a": {"b": 1, "c": [2] * 100}, "d": "x" * 100, "e": 3, "g": [{"h": n, "k": n} for n in range(9)]}
    few = [{"h": n} for n in (0, 1, 8)]
    assert select(value, selection_of([("g", 0, "h"), ("g", 1, "h"), ("g", -1, "h")])) == {"g": few}
    assert select(value, selection_of([("a", "b"), ("e",), ("f",)])) == {"a": {"b": 1}, "e": 3}
    assert select(value, selection_of([])) == {}
    assert select(value, selection_of([("a", "b"), ()])) == value


def test_paths_in_an_expression_are_found_wherever_they_stand():
    assert paths_in('"\\(.a.b) \\($c.d) \\(.e[0])"') == [("a", "b"), ("e", 0)]
    assert paths_in("$a.b") == []
