"""Static check of jq programs: compiles them, but never runs one of a flow.

jq itself resolves names: the program is compiled after definitions that shadow each forbidden function with a body that
does not compile, and jq drops definitions without references. So `.env`, `{env: 1}` and `def env: 1; env` are valid,
and `env` is not, even inside interpolations. Only variables need a lexer.

Explains why a jq program does not compile, in terms of the program instead of the parser's tokens. jq reports the token
that it did not expect, and its position. The cause is mostly the syntax of another language (`&&`, `'text'`, `len(x)`),
or a missing bracket, quote or `end`.

Source: https://jqlang.org/manual/v1.8/, "Builtin operators and functions", "Conditionals and Comparisons", "I/O",
"Modules".
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from functools import cache
from typing import Final

import jq

from flowhook.expressions.paths import MAX_PROGRAM_LENGTH, compile_accessor
from flowhook.expressions.syntax import InvalidExpression

_CLOSERS: Final = {"(": ")", "[": "]", "{": "}"}
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
    """Return the message for an unexpected token, instead of jq's own: `what`, `syntax error, unexpected …`.

    `column` is the start of the token in the line, in bytes, from 1; at the end of the program, that of the last token.
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
        return "" if _open(before) else f"this `{sign}` closes nothing"
    if sign == ";":
        return "a `;` separates the arguments of a function; `|` passes a value on"
    if sign == ".":
        return {"$": _INPUT, "{": _MEMBERS}.get(last, "")
    return ""


_INPUT: Final = "the input is `.`, and its members are `.name`"
_MEMBERS: Final = "members of an object have names, `{name: .value}`"


def explain_early_end(source: str) -> str:
    """Return what is missing from a program that ends too early; empty if that is unknown."""
    opened = _open(source)
    if opened:
        sign = opened[-1]
        return 'a string that begins with `"` is not closed' if sign == '"' else f"this lacks a `{_CLOSERS[sign]}`"
    if len(_IF.findall(source)) > len(_END.findall(source)):
        return "an `if … then …` ends with `end`"
    words = source.split()
    return f"something has to follow `{words[-1][-20:]}`" if words else ""


def function_hint(name: str, arity: str, source: str, variables: Collection[str]) -> str:
    for key in (match["key"] for match in _HYPHENATED.finditer(source)):
        if arity == "0" and name in key.split("-")[1:]:
            return f'; write a key with a hyphen as ["{key[:60]}"]'
    arities = sorted(count for known, count in _builtins() if known == name)
    if arities:
        return f"; {name} takes {_arguments(name, arities)}"
    if name in variables:
        return f", did you mean ${name}?"
    alike = difflib.get_close_matches(name.lower(), {known for known, _ in _builtins()}, n=1, cutoff=0.8)
    meant = _OTHER_LANGUAGES.get(name) or "".join(alike) or (f".{name}" if arity == "0" else "")
    return f", did you mean {meant}?" if meant else ""


def variable_hint(name: str, variables: Collection[str]) -> str:
    close = difflib.get_close_matches(name.lower(), variables, n=1, cutoff=0.75)
    return f", did you mean ${close[0]}?" if close else ""


def _arguments(name: str, arities: list[int]) -> str:
    if arities == [0]:
        return f"no arguments: write its input before it, `… | {name}`"
    counts = " or ".join("none" if count == 0 else str(count) for count in arities)
    return f"{counts} argument{'' if arities[-1] == 1 else 's, with `;` between them'}"


@cache
def _builtins() -> frozenset[tuple[str, int]]:
    """Return names and arities of jq's built-in functions, as jq lists them. This jq program always ends."""
    found = jq.compile("builtins").input_value(None).first()
    return frozenset((name, int(arity)) for name, arity in (each.split("/") for each in found) if name[0] != "_")


_TOKEN: Final = re.compile(r'#[^\n]*|\$[A-Za-z_][A-Za-z0-9_]*|["()\[\]{}]')
_STRING_TOKEN: Final = re.compile(r'\\[\s\S]|"')


def _tokens(source: str) -> Iterator[tuple[str, int, list[str]]]:
    """Yield comments, variables, brackets and quotes, each with the position after it and what is open there."""
    nesting: list[str] = []  # open delimiters: `"` of a string, `\(` of an interpolation, brackets
    position = 0
    while token := (_STRING_TOKEN if nesting[-1:] == ['"'] else _TOKEN).search(source, position):
        position, text = token.end(), token[0]
        if text in ("(", "[", "{", "\\(") or (text == '"' and nesting[-1:] != ['"']):
            nesting.append(text)
        elif text in (")", "]", "}", '"') and nesting:
            nesting.pop()
        yield text, position, nesting


def _open(source: str) -> list[str]:
    """Return the brackets and quotes that are still open at the end of a text, the innermost last."""
    *_, (_, _, nesting) = [("", 0, list[str]()), *_tokens(source)]
    return ["(" if sign == "\\(" else sign for sign in nesting]


FORBIDDEN_FUNCTIONS: Final = {
    "env/0": "expressions can't read the environment",
    "input/0": "the input is `.`, there is no other",
    "inputs/0": "the input is `.`, there is no other",
    "debug/0": "expressions only compute",
    "debug/1": "expressions only compute",
    "stderr/0": "expressions only compute",
    "halt/0": "use `error` to fail",
    "halt_error/0": "use `error` to fail",
    "halt_error/1": "use `error` to fail",
    "input_filename/0": "expressions see no files",
    "input_line_number/0": "expressions see no files",
    "modulemeta/0": "there are no modules",
    "get_search_list/0": "there are no modules",
    "get_jq_origin/0": "there are no modules",
    "get_prog_origin/0": "there are no modules",
}
"""Functions that access more than their input, with the reason to report for each."""

_REFUSED: Final = "__refused_"


def _shadow(function: str) -> str:
    name, arity = function.split("/")
    return f"def {name}{'(f)' * int(arity)}: ${_REFUSED}{name}{arity};"


# On a line of its own, so that the lines that jq reports are those of the program plus one. The definitions also
# prevent imports of modules, which jq would read from disk while compiling: imports are only valid at the start.
_PRELUDE: Final = " ".join(map(_shadow, FORBIDDEN_FUNCTIONS)) + "\n"

_FORBIDDEN_CHARACTER: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]|\r(?!\n)")

_MEMBER: Final = re.compile(
    r'\s*\.(?P<name>[A-Za-z_][A-Za-z0-9_]*)|\s*(?:\.\s*)?\[\s*"(?P<key>[^"\\]*)"\s*\]|\s*\.\s*"(?P<quoted>[^"\\]*)"'
)

_ERROR: Final = re.compile(
    r"jq: error: (?P<what>.*?)(?: \(while parsing .*?\))?"
    r"(?: at <top-level>(?:, line (?P<line>\d+), column (?P<column>\d+))?:?)?(?=\n|$)"
)
_UNDEFINED: Final = re.compile(r"(?P<name>\$?[A-Za-z0-9_:]+)(?:/(?P<arity>-?\d+))? is not defined")
_MODULE_KEYWORD: Final = re.compile(r"unexpected (import|include|module)\b")


def check_program(source: str, variables: Collection[str]) -> None:
    """Raise InvalidExpression if a jq program does not compile, or uses a forbidden function or an unknown variable.

    Blocks for about a millisecond, or a hundredth of that for a path. jq evaluates constants while it compiles, however
    large they are: check untrusted programs in a separate process (`flowhook.sandbox`). `variables` are names without
    `$` that the program may use in addition to those it binds itself.
    """
    if len(source) > MAX_PROGRAM_LENGTH:
        raise InvalidExpression(f"an expression has at most {MAX_PROGRAM_LENGTH} characters")
    with suppress(InvalidExpression):
        compile_accessor(source, variables=variables)
        return
    character = _FORBIDDEN_CHARACTER.search(source)
    if character is not None:
        code = f"{ord(character[0]):04X}"
        raise InvalidExpression(f"an expression has no character U+{code}; in a string, write \\u{code}")
    if "ENV" in (name for name, _ in _variables(source)):
        raise InvalidExpression("$ENV is not allowed: expressions can't read the environment")
    try:
        jq.compile(_PRELUDE + source, args=dict.fromkeys(variables))
    except ValueError as error:
        raise InvalidExpression(_explain(str(error), source, variables)) from None


def secret_names(source: str) -> frozenset[str]:
    """Return the names that a program reads from `$secrets` literally: `$secrets.a`, `$secrets["b-c"]`."""
    names = set()
    for name, end in _variables(source):
        member = _MEMBER.match(source, end) if name == "secrets" else None
        if member is not None:
            names.add(member["name"] or member["key"] or member["quoted"] or "")
    return frozenset(names)


def _variables(source: str) -> Iterator[tuple[str, int]]:
    """Yield each `$name` outside of comments and of the text of strings, with the position after it."""
    for text, position, _ in _tokens(source):
        if text.startswith("$"):
            yield text[1:], position
        elif text.startswith("#") and text.rstrip("\r").endswith("\\"):
            # this version of jq continues the comment on the next line, others do not
            raise InvalidExpression("a comment must not end with a backslash")


def _explain(message: str, source: str, variables: Collection[str]) -> str:
    error = _ERROR.search(message)
    if error is None:
        return "jq can't compile it"
    what = error["what"]
    if undefined := _UNDEFINED.match(what):
        return _explain_undefined(undefined["name"], undefined["arity"], source, variables)
    if keyword := _MODULE_KEYWORD.search(what):
        return f"{keyword[1]} is not allowed: there are no modules"
    if error["line"] is None:
        return "an expression is missing" if "program not given" in what else what
    line, column = max(int(error["line"]) - 1, 1), int(error["column"])
    if "unexpected end of file" in what:
        advice = explain_early_end(source)
        return f"the expression ends too early: {advice}" if advice else "the expression ends too early"
    where = f"line {line}, column {column}" if line > 1 else f"column {column}"
    return f"{explain_unexpected_token(what, source.split(chr(10))[line - 1], column)} ({where} of the expression)"


def _explain_undefined(name: str, arity: str | None, source: str, variables: Collection[str]) -> str:
    if name.startswith("$" + _REFUSED):
        function, arity = name[len(_REFUSED) + 1 : -1], name[-1]
        reason = FORBIDDEN_FUNCTIONS.get(f"{function}/{arity}", "expressions only compute")
        return f"{function} is not allowed: {reason}"
    if name.startswith("$"):
        known = ", ".join(f"${known}" for known in sorted(variables)) or "none"
        return f"unknown variable {name}{variable_hint(name[1:], variables)}; available: {known}"
    return f"unknown function {name}/{arity}{function_hint(name, str(arity), source, variables)}"
