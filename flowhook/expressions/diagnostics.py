"""Explains why a jq program does not compile, in terms of the program instead of the parser's tokens.

jq reports the token that it did not expect, and its position. The cause is mostly the syntax of another language
(`&&`, `'text'`, `len(x)`), or a missing bracket, quote or `end`.

Source: https://jqlang.org/manual/v1.8/, "Builtin operators and functions", "Conditionals and Comparisons".
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator
from functools import cache
from typing import Final

import jq

_CLOSERS: Final = {"(": ")", "[": "]", "{": "}"}
_BRACKET: Final = re.compile(r'#[^\n]*|["()\[\]{}]')
_IN_STRING: Final = re.compile(r'\\\(|\\[\s\S]|"')
_TOKEN_NAME: Final = re.compile(r"unexpected [A-Z_]{2,}")
_WORD: Final = re.compile(r"[.$@]?\w+|[\s\S]")
_IF: Final = re.compile(r"(?<![.$\w])if\b")
_END: Final = re.compile(r"(?<![.$\w])end\b")
_HYPHENATED: Final = re.compile(r"(?P<before>[\w\])\"]?)\.(?P<key>[A-Za-z_]\w*(?:-\w+)+)")

_OTHER_LANGUAGES: Final = {
    "True": "true",
    "False": "false",
    **dict.fromkeys(("None", "nil", "undefined", "NULL", "Null"), "null"),
    **dict.fromkeys(("len", "size", "count"), "length"),
    **dict.fromkeys(("lower", "lowercase", "toLowerCase", "downcase"), "ascii_downcase"),
    **dict.fromkeys(("upper", "uppercase", "toUpperCase", "upcase"), "ascii_upcase"),
    "concat": "add",
    "exists": "has",
    **dict.fromkeys(("filter", "where"), "select"),
    **dict.fromkeys(("parseJson", "parse_json", "fromJSON"), "fromjson"),
    "replace": "gsub",
    "str": "tostring",
    "strip": "trim",
    "sum": "add",
    "toJSON": "tojson",
}
"""Names of functions and values in other languages, with their names in jq."""


def explain_unexpected_token(what: str, line: str, column: int) -> str:
    """Return the message for an unexpected token, instead of jq's own.

    Args:
        what: jq's message, `syntax error, unexpected …`.
        line: line of the program.
        column: start of the token in the line, in bytes, from 1; at the end of the program, that of the last token.
    """
    encoded = line.encode()
    before, after = encoded[: column - 1].decode(errors="ignore"), encoded[column - 1 :].decode(errors="ignore")
    advice = _advice(before, after)
    if _TOKEN_NAME.search(what) and (word := _WORD.match(after)):
        what = f"syntax error, unexpected {word[0]!r}"
    return f"{what.split(', expecting')[0]}: {advice}" if advice else what


def _advice(before: str, after: str) -> str:
    """Return a correction of the text at the error, between `before` and `after`; empty if the cause is unknown."""
    last, sign = before.rstrip()[-1:], after[:1]
    if sign in ("'", "`"):
        return 'strings are written in double quotes, "…"'
    for written, meant in (("&&", "and"), ("||", "or"), ("===", "=="), ("<>", "!=")):
        if after.startswith(written) or (before + sign).endswith(written):
            return f"`{written}` is written `{meant}`"
    if sign == "!":
        return "`!x` is written `(x | not)`"
    if sign == ":" and "?" in before:
        return "`a ? b : c` is written `if a then b else c end`"
    if sign == ")" and last == "(":
        return "a function without arguments has no parentheses"
    if sign in (")", "]", "}"):
        return f"this `{sign}` closes nothing" if not list(_open(before)) else ""
    if sign == ";":
        return "a `;` separates the arguments of a function; `|` passes a value on"
    if sign == ".":
        return {
            "$": "the input is `.`, and its members are `.name`",
            "{": "members of an object have names, `{name: .value}`",
        }.get(last, "")
    return ""


def explain_early_end(source: str) -> str:
    """Return what is missing from a program that ends too early; empty if that is unknown."""
    opened = list(_open(source))
    if opened:
        sign = opened[-1]
        return 'a string that begins with `"` is not closed' if sign == '"' else f"this lacks a `{_CLOSERS[sign]}`"
    if len(_IF.findall(source)) > len(_END.findall(source)):
        return "an `if … then …` ends with `end`"
    words = source.split()
    return f"something has to follow `{words[-1][-20:]}`" if words else ""


def function_hint(name: str, arity: str, source: str, variables: Collection[str]) -> str:
    """Return a hint to append to the name of an unknown function."""
    for key in (match["key"] for match in _HYPHENATED.finditer(source)):
        if arity == "0" and name in key.split("-")[1:]:
            return f'; write a key with a hyphen as ["{key[:60]}"]'
    arities = sorted(count for known, count in _builtins() if known == name)
    if arities:
        return f"; {name} takes {_arguments(name, arities)}"
    if name in variables:
        return f", did you mean ${name}?"
    meant = _OTHER_LANGUAGES.get(name) or _alike(name)
    if meant:
        return f", did you mean {meant}?"
    return f", did you mean .{name}?" if arity == "0" else ""


def variable_hint(name: str, variables: Collection[str]) -> str:
    """Return a hint to append to the name of an unknown variable: the most similar known one; else empty."""
    close = difflib.get_close_matches(name.lower(), variables, n=1, cutoff=0.75)
    return f", did you mean ${close[0]}?" if close else ""


def _arguments(name: str, arities: list[int]) -> str:
    if arities == [0]:
        return f"no arguments: write its input before it, `… | {name}`"
    counts = " or ".join("none" if count == 0 else str(count) for count in arities)
    return f"{counts} argument{'' if arities[-1] == 1 else 's, with `;` between them'}"


def _alike(name: str) -> str:
    close = difflib.get_close_matches(name.lower(), {known for known, _ in _builtins()}, n=1, cutoff=0.8)
    return close[0] if close else ""


@cache
def _builtins() -> frozenset[tuple[str, int]]:
    """Return names and arities of jq's built-in functions, as jq lists them. This jq program always ends."""
    found = jq.compile("builtins").input_value(None).first()
    return frozenset((name, int(arity)) for name, arity in (each.split("/") for each in found) if name[0] != "_")


def _open(source: str) -> Iterator[str]:
    """Yield the brackets and quotes that are still open at the end of a text, the innermost last."""
    nesting: list[str] = []
    position = 0
    while True:
        in_string = nesting[-1:] == ['"']
        token = (_IN_STRING if in_string else _BRACKET).search(source, position)
        if token is None:
            yield from ("(" if sign == "\\(" else sign for sign in nesting)
            return
        position, sign = token.end(), token[0]
        if sign in ("(", "[", "{", "\\(") or (sign == '"' and not in_string):
            nesting.append(sign)
        elif sign in (")", "]", "}", '"') and nesting:
            nesting.pop()
