"""Plain programs give what jq gives: programs made at random, each on many inputs, by a closure and by jq."""

from __future__ import annotations

import os
import random
import re

import jq
import orjson
import pytest

from flowhook.expressions.plain_programs import Undecided, compile_plain
from flowhook.expressions.syntax import ExpressionTypeError
from runner.interpreter import json_codec

TEXTS = r"""
    null true false 0 -0 1 -1 2 3 7 200 1.0 1.5 -1.5 0.1 0.2 0.30000000000000004 0.5 -0.0 1e16 1e22 1e300 5e-324
    1e-7 0.00001 9007199254740991 9007199254740992 9007199254740993 -9007199254740993 18446744073709551615
    18446744073709551616 123456789012345678901234567890 1.10 4503599627370497.5 1e15 2000.125 "" "a" "A" "b"
    "ab" "abc" "Z" "a,b,,c" "," "aXa" "é" "aé" "e\u0301" "\ud83d\ude00" "\ud800\udc00" "\uffff" "a\u0000b"
    "\u007f" "\"" "\\" "null" "1" "\u0130" [] {} [1] [[]] {"a":1} {"a":null} ["a","b"] [1,2,3]
"""
SCALARS = TEXTS.split()
RAW = [
    *SCALARS,
    '" "',
    '"a b  c"',
    '{"a":1,"a":2}',
    '{"é":1,"e\\u0301":2}',
    '{"a":1,"A":2,"":3}',
    '{"b":1,"a":{"b":[{"c":1},2,null]}}',
    "[" * 200 + "]" * 200,
    '{"a":' * 200 + "1" + "}" * 200,
    '"' + "ab " * 2000 + '"',
    "[" + ",".join(map(str, range(5000))) + "]",
]
VARIABLES = {"context": {"n": 3, "s": "ab", "big": 2**53 + 1, "none": None}, "item": "a b"}
BINDINGS = "".join(f"(.[1].{name}) as ${name} | " for name in VARIABLES)


class Programs:
    """Writes programs: plain ones, and with `beyond` also what is next to them."""

    def __init__(self, chance: random.Random) -> None:
        self.chance, self.depth = chance, 0

    def __call__(self) -> str:
        self.depth = self.chance.choice((1, 2, 2, 3))
        text = self.piped()
        if self.chance.random() < 0.15:  # change a token
            tokens = text.split(" ")
            place = self.chance.randrange(len(tokens))
            tokens[place : place + self.chance.randint(0, 1)] = self.chance.choice(TOKENS) * self.chance.randint(0, 1)
            text = self.chance.choice((" ", "", " ")).join(tokens)
        return text

    def piped(self) -> str:
        return " | ".join(self.operation() for _ in range(self.chance.choice((1, 1, 1, 2))))

    def operation(self) -> str:
        terms = [self.term() for _ in range(self.chance.choice((1, 2, 2, 3)))]
        return "".join(f"{term} {self.chance.choice(OPERATORS)} " for term in terms[:-1]) + terms[-1]

    def term(self) -> str:
        self.depth -= 1
        try:
            kind = self.chance.choice(self.COMPOUND if self.depth >= 0 else self.SIMPLE)
            return kind(self)
        finally:
            self.depth += 1

    def path(self) -> str:
        steps = "".join(self.chance.choice(STEPS) for _ in range(self.chance.choice((0, 1, 1, 1, 2))))
        root = self.chance.choice((".", ".", ".", ".", "$context", "$item"))
        return root + (steps[1:] if root == "." and steps.startswith(".") else steps)

    def literal(self) -> str:
        return self.chance.choice(LITERALS)

    def function(self) -> str:
        return self.chance.choice(FUNCTIONS)

    def parenthesised(self) -> str:
        return f"({self.piped()})" + self.chance.choice(("", "", "", "?", ".a", "[0]"))

    def text(self) -> str:
        return f'"x\\({self.piped()})y"'

    def array(self) -> str:
        return "[" + ", ".join(self.operation() for _ in range(self.chance.randint(0, 2))) + "]"

    def members(self) -> str:
        members = (f"{self.chance.choice(KEYS)}: {self.operation()}" for _ in range(self.chance.randint(0, 2)))
        return "{" + ", ".join([*members, *self.chance.choice(((), (), ("a",), ("$context",), ('"b"',)))]) + "}"

    def conditional(self) -> str:
        other = self.chance.choice((f"else {self.piped()} ", f"elif {self.piped()} then {self.piped()} ", ""))
        return f"if {self.piped()} then {self.piped()} {other}end"

    SIMPLE = (path, path, path, literal, function)
    COMPOUND = (*SIMPLE, path, literal, parenthesised, parenthesised, text, array, members, conditional)


STEPS = (".a", ".a", ".b", ".a?", '["a"]', "[0]", "[-1]", ".[1]", '."é"', ".length")
KEYS = ("a", "b", '"x y"', "if", '""')
OPERATORS = ("==", "==", "!=", "<", "<=", ">", ">=", "and", "or", "//", "+", "+", "-", "*")
FUNCTIONS = (
    *("length", "length", "not", "tostring", "ascii_downcase", "ascii_upcase", 'split(" ")', 'split("")', 'split(",")'),
    *(
        'startswith("a")',
        'endswith("b")',
        'contains("")',
        'contains("b")',
        'has("a")',
        'ltrimstr("a")',
        'rtrimstr("b")',
    ),
    *('rtrimstr("")', 'split( "a" )', "type", "keys", "add", "tojson", "empty", 'error("x")'),
)
LITERALS = (
    *("null", "true", "false", "0", "1", "-1", "3", "200", "0.1", "0.5", "-1.5", "1.5", "0.0001", "1.10", "1.0", "-0"),
    *("999999999999999", "9007199254740993", "1e3", '""', '"a"', '"ab"', '"é"', '"x\\u0000"', '"\\ud83d\\ude00"', "[]"),
    *("{}", "0.00001", "1000.25", "999.0001"),
)
TOKENS = (*OPERATORS, *FUNCTIONS, *LITERALS, "(", ")", "[", "]", "{", "}", ",", ":", ".", "..", "?", "?//", "|", "-")
TOKENS += (
    "if",
    "then",
    "else",
    "end",
    "/",
    "%",
    "=",
    "|=",
    "as $x | $x",
    "$__loc__",
    "# c",
    ".a",
    "a",
    "not.a",
    "1.",
    "$",
)


SEED = int(os.environ.get("FLOWHOOK_EXPRESSIONS_SEED", "20261130"))
BEYOND = re.compile(r"\$(?!(?:context|item)\b)[A-Za-z_]")  # an unknown variable is only found when it is read
INPUTS = [orjson.loads(text) for text in RAW]
SIMPLE = INPUTS[: len(SCALARS)]


def compare_with_jq(seed: int, cases: int) -> float:
    """Try plain programs on inputs; returns the share of these pairs that was decided without jq."""
    chance, tried, decided = random.Random(seed), 0, 0
    pairs = [{"a": one, "b": other} for one in SIMPLE for other in (one, *SIMPLE[seed % 9 :: 9])]
    data = INPUTS + chance.sample(pairs, 200)
    text = json_codec.encode([data, VARIABLES]).decode()
    write = Programs(chance)
    while tried < cases:
        source = write()
        plain = compile_plain("${" + source + "}")
        try:
            program = jq.compile(f"{BINDINGS} .[0][] | [limit(2; try ((\n{source}\n) | tojson) catch false)]")
        except ValueError:
            assert plain is None or BEYOND.search(source), source
            continue
        if plain is None:
            continue
        tried += len(data)
        for value, found in zip(data, program.input_text(text), strict=True):
            try:
                result = plain(value, VARIABLES)
            except (Undecided, ExpressionTypeError):
                continue
            decided += 1
            assert len(found) == 1, (source, value, found)
            assert found[0], (source, value, result)
            assert repr(result) == repr(orjson.loads(found[0])), (source, value)  # 1, 1.0 and true are equal
    return decided / tried


def test_closures_give_what_jq_gives():
    assert compare_with_jq(1, 20_000) > 0.25


def test_closures_give_what_jq_gives_in_a_million_cases():
    for seed in range(SEED, SEED + 10):
        assert compare_with_jq(seed, 100_000) > 0.25, seed


@pytest.mark.parametrize("text", ["1e1000", "-1e1000", "NaN", r'"\ud800"', r'"\udc00\ud800"'])
def test_what_python_and_jq_would_read_differently_is_no_input(text):
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(text)
