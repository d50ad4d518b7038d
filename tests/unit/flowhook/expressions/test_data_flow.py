from __future__ import annotations

import jq
from hypothesis import given
from hypothesis import strategies as st
from support.cases import cases

from flowhook.expressions.data_flow import INPUT, UNKNOWN, Findings, Kind, Made, Read, Value, read_program


def shown(value: Value) -> str:
    texts = [atom.text if isinstance(atom, Read) else "{}" if isinstance(atom, Made) else atom.value for atom in value]
    return "|".join(sorted(texts))


def found_in(program: str) -> tuple[str, list[str], list[str]]:
    findings = Findings()
    result = shown(read_program(program, INPUT, {}, findings))
    operations = [f"{shown(each.left)} {each.symbol} {shown(each.right)}" for each in findings.operations]
    return result, [read.text for read in findings.reads], operations


@cases(
    ("program", "operation"),
    [
        (".body.amount > 100", ".body.amount > number"),
        ("100<.body.amount", "number < .body.amount"),
        ("${ .body.amount * .body.count }", ".body.amount * .body.count"),
        (".body | .amount - 1", ".body.amount - number"),
        (".body as $b | $b.x == 3", ".body.x == number"),
        ("(.query.page // 1) + 1", ".query.page|number + number"),
        ('if .a then .b else "x" end >= 2', ".b|text >= number"),
        (".items | map(.price / 2)", ".items[].price / number"),
        (".items[] | select(.n % 2)", ".items[].n % number"),
        ('.headers["x-n"] > 1', '.headers["x-n"] > number'),
        ('.a."b-c".d[0][1:2]["e"].f < 1', '.a["b-c"].d[0].e.f < number'),
        ('"a \\(.n > 1) b"', ".n > number"),
        ("[.a, {b: (.c > 2)}]", ".c > number"),
        (".a += 1", ".a + number"),
        (".a.b |= . + 1", ".a.b + number"),
        ("- .a", "number - .a"),
        (".a | floor", ".a floor number"),
        (".a | tonumber > 3", "number > number"),
        ("{b: .a}.b != 0", ".a != number"),
        ("$context.limit < .a", "$context.limit < .a"),
        (".a # c > 3\n | . > 1", ".a > number"),
        ("reduce .items[] as $i (0; $i.price * 2)", ".items[].price * number"),
        ("first(.a[]) > 1", ".a[] > number"),
        ("try (.a > 1) catch false", ".a > number"),
        ("label $out | .a > 1, break $out", ".a > number"),
    ],
)
def test_what_is_compared_and_computed_is_found(program, operation):
    assert found_in(program)[2] == [operation]


@cases(
    "program",
    [
        ".items | to_entries | map(.value > 1)",
        "def f(g): g > 1; f(.a)",
        ".a as {b: $x} | $x > 1",
        ".text | fromjson | .n > 1",
        ".items | group_by(.a)[0].n > 1",
        '.a | sub("x"; .n) > 1',
    ],
)
def test_what_cannot_be_followed_is_unknown(program):
    assert ".n" not in "".join(found_in(program)[2])
    assert not [each for each in found_in(program)[2] if each.startswith(".")]


@cases(
    ("program", "reads"),
    [
        (".a.b", [".a.b"]),
        (".a | .b", [".a", ".a.b"]),
        ('{a, "b", c: .d, ($context.x): 1}', [".a", ".b", ".d", "$context.x"]),
        (".a = .b", [".b"]),  # what is assigned need not be there
        (".a |= 1", []),
        (".a?.b?", [".a.b"]),
        (".a[.b]", [".b", ".a[]"]),
        ("any(.a[]; .b)", []),
        (". as [$a] ?// $a | .b", []),  # syntax that is not followed
    ],
)
def test_the_paths_that_are_read_are_found(program, reads):
    assert found_in(program)[1] == reads


_TERMS = st.sampled_from([".", ".a", ".a.b", ".a[]?", '.a["b"]', "1", '"x"', "$v", "..", "null", "(.a)", "[.b]", "{b}"])
_JOINTS = st.sampled_from([" | ", ", ", " // ", " and ", " > ", " + ", "-", "*", "/", " % ", " as $v | ", "|=", "="])
_WRAPPED = st.sampled_from(
    ["map({})", "if {} then . else 1 end", "try ({})?", "-({})", '"\\({})"', "{{c: ({})}}", "select({})", "[{}][0]"]
)


@given(st.lists(st.tuples(_TERMS, _JOINTS, _WRAPPED), min_size=1, max_size=6))
def test_the_syntax_of_jq_is_understood(parts):
    program = ""
    for term, joint, wrapped in parts:
        program = wrapped.format(f"{program}{joint}{term}" if program else term)
    try:
        jq.compile(program, args={"v": 1})
    except ValueError:
        return
    sentinel = f"({program}) | {{sentinel: .q}}"
    [made] = read_program(sentinel, frozenset({Kind.OTHER}), {}, Findings())
    assert isinstance(made, Made), program


def test_large_programs_end():
    for program in ("(" * 4000 + ")" * 4000, " | ".join([". as $a"] * 700) + " | .", "." + "[0]" * 2000):
        assert read_program(program, INPUT, {}, Findings()) in (UNKNOWN, INPUT)
