import json
import re

import jq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cases import cases
from support.examples import examples

from flowhook.expressions.paths import compile_accessor
from flowhook.expressions.syntax import ExpressionTypeError, InvalidExpression

DATA = {
    "id": "evt_1",
    "headers": {"webhook-id": "msg_1", "x y": [1, 2]},
    "body": {"a": {"x": [{"y": 5}, None]}, "if": 1, "n": 1.0, "b": True},
}

KEYS = st.one_of(st.sampled_from(["a", "b", "x-y", "é", '"', "if", ""]), st.text(max_size=4))
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(min_value=-(2**63), max_value=2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=12
)
NAMES = st.sampled_from(["a", "b", "if", "_x1", "and"])


@st.composite
def steps(draw):
    kind = draw(st.sampled_from(["name", "quoted", "bracket", "dot-bracket", "index"]))
    if kind == "name":
        return "." + draw(NAMES)
    if kind == "index":
        return f"[{draw(st.integers(-4, 4))}]"
    key = json.dumps(draw(KEYS), ensure_ascii=draw(st.booleans()))
    return {"quoted": f".{key}", "bracket": f"[ {key} ]", "dot-bracket": f".[{key}]"}[kind]


@st.composite
def paths(draw):
    root = draw(st.sampled_from([".", "$context", "$input"]))
    tail = "".join(draw(st.lists(steps(), max_size=4)))
    return root + (tail[1:] if root == "." and tail.startswith(".") else tail)


LITERALS = st.sampled_from(["true", "false", "null", "0", "12", "1.5", "0.25", "999999999999999"])
TEXTS = st.text(max_size=6).map(lambda text: json.dumps(text)[1:-1])


@st.composite
def strings(draw):
    parts = [draw(TEXTS)]
    for _ in range(draw(st.integers(0, 3))):
        parts += [r"\( ", draw(paths() | LITERALS), ")", draw(TEXTS)]
    return '"' + "".join(parts) + '"'


def run_jq(source, data, variables):
    # Bound as the runner binds them: values that come as `args` are rounded to doubles.
    bindings = "".join(f".[1].{name} as ${name} | " for name in variables)
    return jq.compile(f"{bindings}.[0] | ({source})").input_text(json.dumps([data, variables])).all()


@cases(
    ("source", "expected"),
    [
        (".", DATA),
        (" .id ", "evt_1"),
        ('.headers["webhook-id"]', "msg_1"),
        ('.["headers"]."x y"[-1]', 2),
        ('.headers.["webhook-id"]', "msg_1"),
        (".body.a.x[0].y", 5),
        (".body.a.x[1].y.z", None),
        (".body.a.x[9]", None),
        (".nothing.at.all[0]", None),
        (".body.if", 1),
        (r'"\(.id)/\(.body.a.x)"', 'evt_1/[{"y":5},null]'),
        (r'"\(.body.n) \(.body.b) \(.gone)"', "1.0 true null"),
        (r'"é\n\ud83d\ude00"', "é\n😀"),
        ("$context.order", 7),
        (r'"order-\($context.order)"', "order-7"),
        ("42", 42),
        ("null", None),
    ],
)
def test_a_path_yields_what_it_points_to(source, expected):
    assert compile_accessor(source)(DATA, {"context": {"order": 7}}) == expected


@cases(
    "source",
    [
        "", " ", "a", ".a.", ".a[", ".a[]", "..", "..a", '..["a"]', ".a..b", ".a[1:2]", ".a[1.5]", ".a?", ".a // 1",
        ".a | .b", ".a + 1", "$", "$ENV", "$__loc__", "$a::b", "env", "input", "-1", "01", "1e3", '"a', r'"\x"',
        r'"\(.a"', r'"\("x")"', r'."\(.a)"', r'"\ud800"', "[.a]", "{a: 1}", ". a", ".a .b", "true.a", "trueish", "nan",
        '@base64 "x"', "\0", '"\0"', "." + "a" * 8192,
    ],
)  # fmt: skip
def test_anything_but_paths_strings_and_literals_is_refused(source):
    with pytest.raises(InvalidExpression):
        compile_accessor(source)


def test_a_refusal_says_where_and_what_would_do():
    with pytest.raises(InvalidExpression, match=r"expected a path such as .* found '\| length' at character 7"):
        compile_accessor(".body | length")


def test_a_variable_that_is_not_there_is_refused_by_name():
    with pytest.raises(InvalidExpression, match=r"unknown variable \$context; available: none"):
        compile_accessor("$context.a", variables=())
    assert compile_accessor("$context.a", variables={"context"})(None, {"context": {"a": 1}}) == 1


@cases(
    ("source", "message"),
    [
        (".id.a", 'Cannot index string with "a"'),
        (".id[0]", "Cannot index string with number"),
        (".headers[0]", "Cannot index object with number"),
        (".body.a.x.y", 'Cannot index array with "y"'),
        (".body.b.y", 'Cannot index boolean with "y"'),
        (".body.n.y", 'Cannot index number with "y"'),
        ("$gone", r"there is no variable \$gone"),
    ],
)
def test_data_of_the_wrong_type_is_an_error_that_shows_no_data(source, message):
    with pytest.raises(ExpressionTypeError, match=message):
        compile_accessor(source)(DATA)


@settings(deadline=None, max_examples=examples(500))
@given(source=paths() | strings() | LITERALS, data=VALUES, context=VALUES)
def test_what_is_accepted_means_what_it_means_in_jq(source, data, context):
    variables = {"context": context, "input": data}
    accessor = compile_accessor(source)
    try:
        expected = run_jq(source, data, variables)
    except ValueError:
        with pytest.raises(ExpressionTypeError):
            accessor(data, variables)
        return
    assert expected == [_rounded(accessor(data, variables))]


def _rounded(value):
    """Round integers to doubles, as the binding does with all numbers it returns, though not with text made of them."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


@given(source=st.text(alphabet='.abx01"\\()[]$ue \n-?|', max_size=30))
def test_no_text_fails_in_any_other_way(source):
    try:
        compile_accessor(source)
    except InvalidExpression:
        return
    jq.compile(source, args=dict.fromkeys(re.findall(r"\$(\w+)", source), 0))


def test_what_is_nested_too_deeply_for_a_text_is_a_type_error():
    data = 1
    for _ in range(1000):
        data = [data]
    with pytest.raises(ExpressionTypeError, match="too deeply"):
        compile_accessor('"x \\(.)"')(data)
