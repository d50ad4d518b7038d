r"""The subset of jq that runs outside the runner: paths, interpolations of paths into strings, and literals.

Expressions of the subset have the same meaning as in jq, and always end, in time proportional to their length. So they
may run in the router and the edge; the runner extends the subset (`flowhook.expressions.plain_programs`). There is one
difference: integers beyond 2^53 stay exact, while the jq binding rounds them in its results.

    expression := path | string | literal
    path       := ("." | "$" name) step*            the first step of "." may lack its dot: `.a`, `.["a"]`
    step       := "." name | "." string | "[" string "]" | "[" integer "]" | ".[" … "]"
    string     := '"' (character | escape | "\(" (path | literal) ")")* '"'      as a step: without interpolation
    literal    := number | true | false | null

Source: https://jqlang.org/manual/v1.8/, "Basic filters", "Types and Values".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

import attrs

from flowhook.expressions.syntax import ExpressionTypeError, InvalidExpression

MAX_PROGRAM_LENGTH: Final = 8192  # characters of one expression, here and in `jq_check`

_NO_VARIABLES: Final[Mapping[str, Any]] = MappingProxyType({})

SPACE: Final = re.compile(r"[ \t\r\n]*")
NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NUMBER: Final = re.compile(r"(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,15})?(?![0-9.eE])")
_INDEX: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,8})(?![0-9.eE])")
_LITERAL: Final = re.compile(r"(true|false|null)(?![A-Za-z0-9_:(])")
_STRING_PART: Final = re.compile(r'(?:[^"\\]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*')
_LONE_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")

_FORBIDDEN_VARIABLES: Final = frozenset({"ENV", "__loc__", "__prog_args"})

PathStep = str | int


Accessor = Callable[..., Any]
"""A compiled expression: takes data and, where it needs them, variables; returns the value, parts of data uncopied.

A missing key, an index out of range and anything below null is None, as in jq. Raises ExpressionTypeError if the path
meets data of the wrong type, or the variable does not exist.
"""


def compile_accessor(source: str, *, variables: Collection[str] | None = None) -> Accessor:
    """Compile an expression of the grammar above, without `${ }`; `variables` are names that it may use, None: any.

    Raises InvalidExpression: it is not of this grammar, whether or not it is valid in jq.
    """
    return Parser(source, variables).parse()


def paths_in(source: str) -> list[tuple[PathStep, ...]]:
    """Return the paths from `.` in an expression that `compile_accessor` accepts, without those from variables."""
    parser = Parser(source, None)
    parser.parse()
    return parser.paths


@attrs.define(eq=False, repr=False)
class Parser:
    """Parses one program of the grammar above, by methods that a larger grammar may override."""

    source: str
    variables: Collection[str] | None
    paths: list[tuple[PathStep, ...]] = attrs.field(init=False, factory=list)
    position: int = attrs.field(init=False, default=0)

    def parse(self) -> Accessor:
        if len(self.source) > MAX_PROGRAM_LENGTH:
            raise InvalidExpression(f"an expression has at most {MAX_PROGRAM_LENGTH} characters")
        self.match(SPACE)
        accessor = self.expression()
        self.match(SPACE)
        if self.position != len(self.source):
            raise self.unexpected()
        return accessor

    def expression(self) -> Accessor:
        return self.string() if self.at('"') else self.path_or_literal()

    def embedded(self) -> Accessor:
        r"""Parse what stands in `\( )` of a string."""
        return self.path_or_literal()

    def number(self) -> str | None:
        return self.match(_NUMBER)

    def at(self, text: str) -> bool:
        return self.source.startswith(text, self.position)

    def match(self, pattern: re.Pattern[str]) -> str | None:
        match = pattern.match(self.source, self.position)
        if match is None:
            return None
        self.position = match.end()
        return match[0]

    def expect(self, text: str) -> None:
        if not self.at(text):
            raise self.unexpected()
        self.position += len(text)

    def unexpected(self) -> InvalidExpression:
        rest = self.source[self.position : self.position + 20]
        where = f"found {rest!r} at character {self.position + 1}" if rest else "it ends too early"
        return InvalidExpression(f'expected a path such as .body.a["x"][0], or a string such as "\\(.body.a)": {where}')

    def path_or_literal(self) -> Accessor:
        """Parse a variable with its path, a path, or a literal; raises InvalidExpression for anything else."""
        if self.at("$"):
            self.position += 1
            name = self.match(NAME)
            if name is None or name in _FORBIDDEN_VARIABLES or self.at("::"):
                raise self.unexpected()
            if self.variables is not None and name not in self.variables:
                known = ", ".join(f"${known}" for known in sorted(self.variables)) or "none"
                raise InvalidExpression(f"unknown variable ${name}; available: {known}")
            return _variable(name, self.steps())
        if self.at("."):
            steps = self.first_step() + self.steps()
            self.paths.append(tuple(steps))
            return follow(steps)
        if literal := self.match(_LITERAL) or self.number():
            return constant(json.loads(literal))
        raise self.unexpected()

    def first_step(self) -> list[PathStep]:
        if (name := self.dotted()) is not None:
            return [name]
        self.expect(".")
        if self.at("."):
            raise self.unexpected()  # `..` is the recursive descent
        return []

    def steps(self) -> list[PathStep]:
        steps: list[PathStep] = []
        while True:
            if self.at(".["):
                self.position += 1
            if self.at("["):
                steps.append(self.bracket())
            elif (name := self.dotted()) is not None:
                steps.append(name)
            else:
                return steps

    def dotted(self) -> str | None:
        if not self.at("."):
            return None
        if self.at('."'):
            self.position += 1
            return self.key()
        match = NAME.match(self.source, self.position + 1)
        if match is None:
            return None
        self.position = match.end()
        return match[0]

    def bracket(self) -> PathStep:
        self.expect("[")
        self.match(SPACE)
        index = self.match(_INDEX)
        step: PathStep = self.key() if index is None else int(index)
        self.match(SPACE)
        self.expect("]")
        return step

    def key(self) -> str:
        parts = self.string_parts()
        if len(parts) != 1 or not isinstance(parts[0], str):
            raise InvalidExpression("a key inside a path is a plain string, without \\( )")
        return parts[0]

    def string(self) -> Accessor:
        return _interpolation(self.string_parts())

    def string_parts(self) -> list[str | Accessor]:
        """Return text and interpolated expressions alternately, beginning and ending with text."""
        self.expect('"')
        parts: list[str | Accessor] = [self.text()]
        while self.at("\\("):
            self.position += 2
            self.match(SPACE)
            parts.append(self.embedded())
            self.match(SPACE)
            self.expect(")")
            parts.append(self.text())
        self.expect('"')
        return parts

    def text(self) -> str:
        raw = self.match(_STRING_PART)
        text: str = json.loads(f'"{raw}"', strict=False)
        if "\0" in self.source or _LONE_SURROGATE.search(text):
            raise InvalidExpression("a string contains an invalid character")
        return text


def constant(value: Any) -> Accessor:
    def access(_data: Any, _variables: Mapping[str, Any] = _NO_VARIABLES) -> Any:
        return value

    return access


def follow(steps: list[PathStep]) -> Accessor:
    path = tuple(steps)

    def access(data: Any, _variables: Mapping[str, Any] = _NO_VARIABLES) -> Any:
        for step in path:
            # Common cases first: an object, or null, below which everything is null.
            if type(step) is str and type(data) is dict:
                data = data.get(step)
            elif data is not None:
                data = _index(data, step)
        return data

    return access


def _variable(name: str, steps: list[PathStep]) -> Accessor:
    access = follow(steps)

    def access_variable(_data: Any, variables: Mapping[str, Any] = _NO_VARIABLES) -> Any:
        if name not in variables:
            raise ExpressionTypeError(f"there is no variable ${name}")
        return access(variables[name])

    return access_variable


def _interpolation(parts: list[str | Accessor]) -> Accessor:
    if len(parts) == 1:
        return constant(parts[0])
    texts = [part for part in parts if isinstance(part, str)]
    accessors: list[Accessor] = [part for part in parts if not isinstance(part, str)]

    def interpolate(data: Any, variables: Mapping[str, Any] = _NO_VARIABLES) -> Any:
        result = texts[0]
        for accessor, text in zip(accessors, texts[1:], strict=True):
            value = accessor(data, variables)
            result += (value if isinstance(value, str) else to_text(value)) + text
        return result

    return interpolate


def _index(data: Any, step: PathStep) -> Any:
    if isinstance(step, str):
        if isinstance(data, dict):
            return data.get(step)
        raise ExpressionTypeError(f"Cannot index {_type_name(data)} with {json.dumps(step, ensure_ascii=False)}")
    if isinstance(data, list):
        return data[step] if -len(data) <= step < len(data) else None
    raise ExpressionTypeError(f"Cannot index {_type_name(data)} with number")


def _type_name(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "string"
    if isinstance(value, int | float):
        return "number"
    return "array" if isinstance(value, list) else "object"


def to_text(value: Any) -> str:
    """Return a JSON value as jq's `tostring` writes it; raises ExpressionTypeError."""
    if type(value) is str or type(value) is int:
        return str(value)
    try:
        return to_json(value)
    except RecursionError:
        raise ExpressionTypeError("data is nested too deeply to be written into a text") from None


def to_json(value: Any) -> str:
    """Return a JSON value as jq's `tojson` writes it."""
    if isinstance(value, float):
        return str(Decimal(repr(value)))
    if isinstance(value, dict):
        return "{" + ",".join(f"{to_json(key)}:{to_json(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(to_json, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
