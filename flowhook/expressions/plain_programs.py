r"""Plain jq programs as Python closures: what most conditions and data mappings are made of.

A closure returns what jq returns, or raises `Undecided` or ExpressionTypeError: then jq has to run the program. So it
knows neither jq's errors nor what jq does with rare values. A program has one result, or fails. It always ends, in time
proportional to its length and to the data that it names: what it builds is not the input of another part (`|`), which
could double it again and again.

    program    := operation ("|" operation)*
    operation  := terms and binary operators, with jq's precedence: // or and == != < <= > >= + - *
    term       := (path | literal | string | array | object | function | "(" program ")") (step | "?")*
    array      := "[" (operation ("," operation)*)? "]"
    object     := "{" (member ("," member)*)? "}"          member := (name | string) (":" operation)?
    function   := a name in `_FUNCTIONS`, or one in `_FUNCTIONS_OF_TEXT` with a string as its argument
    path, literal, string, step: those of `flowhook.expressions.paths`, with programs in `\( )`

Measured: a condition takes 0.8 µs, and in jq 9, or 50 with an input of 1 KB: jq has to parse it.

Source: https://jqlang.org/manual/v1.8/.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sized
from types import NoneType
from typing import Any, Final

import attrs
from typing_extensions import override

from flowhook.expressions.paths import NAME, SPACE, Accessor, Parser, constant, follow, to_text
from flowhook.expressions.syntax import InvalidExpression, is_expression, strip_markers

MAX_TERMS: Final = 200  # of one program: each may go over `MAX_SIZE`, and closures call each other
MAX_SIZE: Final = 4096  # characters or members that a function or an operator goes over
MAX_TEXT: Final = 65_536  # characters that are copied into a text, by each interpolation

_EXACT: Final = 2**53  # whole numbers up to here are exact in jq's arithmetic
_PLAIN: Final = 1e-4  # jq writes computed fractions from here on without an exponent

_PIPE: Final = re.compile(r"\|(?!=)")
_OPERATORS: Final = [
    re.compile(each)
    for each in (r"//(?!=)", r"or(?![\w:])", r"and(?![\w:])", r"[=!<>]=|[<>]", r"[+-](?!=)", r"\*(?!=)")
]
"""Binary operators, the loosest first. The first one associates to the right, and comparisons not at all."""

_COMPARISONS: Final = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ARITHMETIC: Final = {"+": operator.add, "-": operator.sub, "*": operator.mul}
_RANKS: Final = {NoneType: 0, bool: 1, int: 2, float: 2, str: 3, list: 4, dict: 5}  # jq's order of types
_NUMBERS: Final = 2
_TEXT: Final = 3

_NUMBER: Final = re.compile(r"(?:0|-?[1-9][0-9]{0,14}|-?(?:0|[1-9][0-9]{0,8})\.[0-9]{0,3}[1-9])(?![0-9.eE])")
"""Numbers that Python writes as they stand here. jq keeps the form of literals: `1.50` is written `1.50`."""

_TRY: Final = re.compile(r"\?(?!//)")
_COMMA: Final = re.compile(",")
_COLON: Final = re.compile(":")


class Undecided(Exception):  # noqa: N818 - not an error: jq decides
    """The result is left to jq."""


def compile_plain(value: Any) -> Accessor | None:
    """Return a value of a document as a closure; None when an expression in it is not plain."""
    try:
        return _template(value)
    except (InvalidExpression, RecursionError):
        return None


def _template(value: Any) -> Accessor:
    if isinstance(value, dict):
        return _object({key: _template(item) for key, item in value.items()})
    if isinstance(value, list):
        return _array(list(map(_template, value)))
    return _PlainParser(strip_markers(value), None).parse() if is_expression(value) else constant(value)


@attrs.define(eq=False, repr=False)
class _PlainParser(Parser):
    terms: int = attrs.field(init=False, default=0)
    builds: bool = attrs.field(init=False, default=False)  # whether the current part of a program makes larger data

    @override
    def expression(self) -> Accessor:
        built, self.builds = self.builds, False
        accessor = self.operation()
        while self.token(_PIPE):
            if self.builds:
                raise self.unexpected()
            accessor = _pipe(accessor, self.operation())
        self.builds |= built
        return accessor

    @override
    def embedded(self) -> Accessor:
        accessor = self.expression()
        self.builds = True
        return _pipe(accessor, _to_text)

    @override
    def number(self) -> str | None:
        return self.match(_NUMBER)

    def token(self, pattern: re.Pattern[str]) -> str | None:
        self.match(SPACE)
        return self.match(pattern)

    def operation(self, level: int = 0) -> Accessor:
        if level == len(_OPERATORS):
            return self.term()
        left = self.operation(level + 1)
        while symbol := self.token(_OPERATORS[level]):
            left = _operation(symbol, left, self.operation(level if symbol == "//" else level + 1))
            self.builds |= symbol == "+"
            if symbol in _COMPARISONS:
                break
        return left

    def term(self) -> Accessor:
        self.terms += 1
        if self.terms > MAX_TERMS:
            raise self.unexpected()
        self.match(SPACE)
        accessor = self.primary()
        while True:
            if steps := self.steps():
                accessor = _pipe(accessor, follow(steps))
            elif not self.match(_TRY):  # an error would be no result: left to jq
                return accessor

    def primary(self) -> Accessor:
        if self.at('"'):
            return self.string()
        if self.at("["):
            return _array([item for _, item in self.listed("]", lambda: ("", self.operation()))])
        if self.at("{"):
            members = self.listed("}", self.member)
            if len(members) != len(dict(members)):
                raise self.unexpected()  # jq evaluates members of the same name, too
            return _object(dict(members))
        if function := self.match(_FUNCTION):
            return _call(_FUNCTIONS[function])
        function = self.match(_FUNCTION_OF_TEXT)
        if self.at("("):
            self.position += 1
            self.match(SPACE)
            accessor = _call_of_text(*_FUNCTIONS_OF_TEXT[function], self.key()) if function else self.expression()
            self.match(SPACE)
            self.expect(")")
            return accessor
        return self.path_or_literal()

    def listed(self, close: str, item: Callable[[], tuple[str, Accessor]]) -> list[tuple[str, Accessor]]:
        """Parse items with commas between them, from an opening bracket to the closing one."""
        self.position += 1
        self.match(SPACE)
        items = [] if self.at(close) else [item()]
        while self.token(_COMMA):
            items.append(item())
        self.match(SPACE)
        self.expect(close)
        self.builds = True
        return items

    def member(self) -> tuple[str, Accessor]:
        self.match(SPACE)
        key = self.key() if self.at('"') else self.match(NAME)
        if key is None:
            raise self.unexpected()
        return key, self.operation() if self.token(_COLON) else follow([key])


def _is_true(value: Any) -> bool:
    return value is not None and value is not False


def _pipe(first: Accessor, then: Accessor) -> Accessor:
    return lambda data, variables: then(first(data, variables), variables)


def _array(items: list[Accessor]) -> Accessor:
    return lambda data, variables: [item(data, variables) for item in items]


def _object(members: Mapping[str, Accessor]) -> Accessor:
    pairs = tuple(members.items())
    return lambda data, variables: {key: member(data, variables) for key, member in pairs}


def _operation(symbol: str, left: Accessor, right: Accessor) -> Accessor:
    match symbol:
        case "and":
            return lambda data, variables: _is_true(left(data, variables)) and _is_true(right(data, variables))
        case "or":
            return lambda data, variables: _is_true(left(data, variables)) or _is_true(right(data, variables))
        case "//":

            def alternative(data: Any, variables: Any) -> Any:
                value = left(data, variables)
                return value if _is_true(value) else right(data, variables)

            return alternative
    if symbol in _COMPARISONS:
        return _comparison(_COMPARISONS[symbol], left, right)
    return _arithmetic(_ARITHMETIC[symbol], left, right)


def _comparison(compare: Callable[[Any, Any], bool], left: Accessor, right: Accessor) -> Accessor:
    def comparison(data: Any, variables: Any) -> bool:
        one, other = left(data, variables), right(data, variables)
        return compare(one, other) if type(one) is type(other) is str else compare(*_comparable(one, other))

    return comparison


def _comparable(one: Any, other: Any) -> tuple[Any, Any]:
    """Return what Python compares as jq compares two values; raises Undecided."""
    ranks = rank, other_rank = _RANKS.get(type(one), -1), _RANKS.get(type(other), -1)
    if -1 in ranks:
        raise Undecided
    if rank != other_rank or rank == 0:
        return ranks
    if rank == _NUMBERS:
        if -_EXACT <= one <= _EXACT and -_EXACT <= other <= _EXACT:
            return one, other
    elif type(one) is bool or type(one) is str:
        return one, other
    elif rank > _TEXT and not (one and other):
        return len(one), len(other)
    raise Undecided


def _arithmetic(operate: Callable[[Any, Any], Any], left: Accessor, right: Accessor) -> Accessor:
    def arithmetic(data: Any, variables: Any) -> Any:
        one, other = left(data, variables), right(data, variables)
        rank, other_rank = _RANKS.get(type(one), -1), _RANKS.get(type(other), -1)
        if rank == other_rank == _NUMBERS:
            return _computed(operate, one, other)
        if operate is operator.add:
            if rank == 0 or other_rank == 0:
                return other if rank == 0 else one
            if rank == other_rank >= _TEXT and len(one) + len(other) <= MAX_SIZE:
                return one | other if type(one) is dict else one + other
        raise Undecided

    return arithmetic


def _computed(operate: Callable[[Any, Any], Any], one: float, other: float) -> Any:
    """Return the result of an operation on numbers in the form in which jq writes it; raises Undecided."""
    if -_EXACT <= one <= _EXACT and -_EXACT <= other <= _EXACT:
        result = operate(one, other)
        if type(result) is float:
            if _PLAIN <= abs(result) < _EXACT:
                return int(result) if result.is_integer() else result
        elif -_EXACT <= result <= _EXACT and (result or operate is not operator.mul):  # jq knows -0
            return result
    raise Undecided


def _call(function: Callable[[Any], Any]) -> Accessor:
    return lambda data, _variables: function(data)


def _call_of_text(kind: type[Sized], function: Callable[[Any, str], Any], argument: str) -> Accessor:
    def call(data: Any, _variables: Any) -> Any:
        if type(data) is not kind or len(data) > MAX_SIZE:
            raise Undecided
        return function(data, argument)

    return call


def _length(value: Any) -> int:
    rank = _RANKS.get(type(value), -1)
    if rank == 0 or rank >= _TEXT:
        return len(value) if rank else 0
    raise Undecided


def _to_text(value: Any, _variables: Any) -> str:
    """Return the text of a scalar; jq writes others faster, and supervised: Python takes 0.16 s for 1 MB."""
    if type(value) is str and len(value) <= MAX_TEXT:
        return value
    if _RANKS.get(type(value), _TEXT) >= _TEXT:
        raise Undecided
    return to_text(value)


def _split(text: str, separator: str) -> list[str]:
    return text.split(separator) if text and separator else list(text)


_FUNCTIONS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "length": _length,
    "not": lambda value: not _is_true(value),
    "tostring": lambda value: _to_text(value, None),
}
_FUNCTIONS_OF_TEXT: Final[Mapping[str, tuple[type[Sized], Callable[[Any, str], Any]]]] = {
    "contains": (str, operator.contains),
    "endswith": (str, str.endswith),
    "has": (dict, operator.contains),
    "ltrimstr": (str, str.removeprefix),
    "rtrimstr": (str, str.removesuffix),
    "split": (str, _split),
    "startswith": (str, str.startswith),
}
_FUNCTION: Final = re.compile(rf"(?:{'|'.join(_FUNCTIONS)})(?![\w:(])")
_FUNCTION_OF_TEXT: Final = re.compile(rf"(?:{'|'.join(_FUNCTIONS_OF_TEXT)})(?=\()")
