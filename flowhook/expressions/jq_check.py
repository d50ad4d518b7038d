"""Static check of jq programs: compiles them, but never runs one of a flow.

jq itself resolves names: the program is compiled after definitions that shadow each forbidden function with a body that
does not compile, and jq drops definitions without references. So `.env`, `{env: 1}` and `def env: 1; env` are valid,
and `env` is not, even inside interpolations. Only variables need a lexer.

Source: https://jqlang.org/manual/v1.8/, "Builtin operators and functions", "I/O", "Modules".
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Final

import jq

from flowhook.expressions.diagnostics import explain_early_end, explain_unexpected_token, function_hint, variable_hint
from flowhook.expressions.errors import InvalidExpression
from flowhook.expressions.paths import MAX_PROGRAM_LENGTH, compile_accessor

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
_PARAMETERS: Final = ("", "(f)")


def _shadow(function: str) -> str:
    name, arity = function.split("/")
    return f"def {name}{_PARAMETERS[int(arity)]}: ${_REFUSED}{name}{arity};"


# On a line of its own, so that the lines that jq reports are those of the program plus one. The definitions also
# prevent imports of modules, which jq would read from disk while compiling: imports are only valid at the start.
_PRELUDE: Final = " ".join(map(_shadow, FORBIDDEN_FUNCTIONS)) + "\n"

_FORBIDDEN_CHARACTER: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]|\r(?!\n)")

_TOKEN: Final = re.compile(r'#[^\n]*|\$[A-Za-z_][A-Za-z0-9_]*|["()]')
_STRING_TOKEN: Final = re.compile(r'\\[\s\S]|"')
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
    """Check a jq program, without `${ }`.

    Blocks for about a millisecond, or a hundredth of that for a path. jq evaluates constants while it compiles, however
    large they are: check untrusted programs in a separate process (`flowhook.sandbox`).

    Args:
        source: at most `MAX_PROGRAM_LENGTH` characters.
        variables: names without `$` that the program may use in addition to those it binds itself.

    Raises:
        InvalidExpression: it does not compile, or uses a forbidden function or an unknown variable.
    """
    if len(source) > MAX_PROGRAM_LENGTH:
        raise InvalidExpression(f"an expression has at most {MAX_PROGRAM_LENGTH} characters")
    if _is_path(source, variables):
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


def _is_path(source: str, variables: Collection[str]) -> bool:
    try:
        compile_accessor(source, variables=variables)
    except InvalidExpression:
        return False
    return True


def _variables(source: str) -> Iterator[tuple[str, int]]:
    """Yield each `$name` outside of comments and of the text of strings, with the position after it."""
    nesting: list[str] = []  # open delimiters: `"` of a string, `\(` of an interpolation, or a plain `(`
    position = 0
    while True:
        in_string = bool(nesting) and nesting[-1] == '"'
        token = (_STRING_TOKEN if in_string else _TOKEN).search(source, position)
        if token is None:
            return
        position = token.end()
        text = token[0]
        if text in ("\\(", "(") or (text == '"' and not in_string):
            nesting.append(text)
        elif text in ('"', ")"):
            if nesting:
                nesting.pop()
        elif text.startswith("$"):
            yield text[1:], position
        elif text.startswith("#") and text.rstrip("\r").endswith("\\"):
            # this version of jq continues the comment on the next line, others do not
            raise InvalidExpression("a comment must not end with a backslash")


def _explain(message: str, source: str, variables: Collection[str]) -> str:
    error = _ERROR.search(message)
    if error is None:
        return "jq can't compile it"
    what = error["what"]
    undefined = _UNDEFINED.match(what)
    if undefined is not None:
        return _explain_undefined(undefined["name"], undefined["arity"], source, variables)
    keyword = _MODULE_KEYWORD.search(what)
    if keyword is not None:
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
