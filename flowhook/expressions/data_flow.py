"""Where the values in a jq program come from: read from its text, without running it.

`read_program` follows paths of the input through pipes, variables, alternatives and the functions that pass on what
they get: in `.body.items | map(.price * 2)`, what is multiplied is `.body.items[].price`. It reports the paths that are
read, and the comparisons and the arithmetic with what stands on either side. Whatever it can't follow is `UNKNOWN`; a
program whose syntax it does not know reports nothing.

Each program is read once, from left to right, in time proportional to its length: a value has at most `_MAX_ATOMS`
origins.

Source: https://jqlang.org/manual/v1.8/.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple

from flowhook.expressions.paths import MAX_PROGRAM_LENGTH, PathStep
from flowhook.expressions.syntax import InvalidExpression, strip_markers


class Kind(Enum):
    """What is known of a value that is no part of the input."""

    NUMBER = "number"
    TEXT = "text"
    OTHER = "other"  # anything


@dataclass(frozen=True, slots=True)
class Read:
    """A part of the input, or of a variable."""

    root: str  # name of the variable; empty: the input
    steps: tuple[PathStep | None, ...] = ()  # keys and indexes; None: each element, or one that is computed

    @property
    def text(self) -> str:
        """The path as jq writes it."""
        text = f"${self.root}" if self.root else ""
        for step in self.steps:
            if isinstance(step, str):
                text += f".{step}" if _NAME.fullmatch(step) else f"{'' if text else '.'}[{json.dumps(step)}]"
            else:
                text += f"{'' if text else '.'}[{'' if step is None else step}]"
        return text or "."


@dataclass(frozen=True, slots=True)
class Made:
    """An object whose members are all known."""

    members: tuple[tuple[str, Value], ...]  # by name, sorted
    size: int  # values in it


Atom = Kind | Read | Made
Value = frozenset[Atom]
"""What a value may be; one of them at a time."""

UNKNOWN: Final[Value] = frozenset({Kind.OTHER})
NUMBER: Final[Value] = frozenset({Kind.NUMBER})
TEXT: Final[Value] = frozenset({Kind.TEXT})
_NOTHING: Final[Value] = frozenset()
INPUT: Final[Value] = frozenset({Read("")})

_MAX_ATOMS: Final = 8
_MAX_STEPS: Final = 32  # of a path: loops of tasks could make it longer and longer
_MAX_MADE: Final = 500  # values in an object


class Operation(NamedTuple):
    """A comparison, or arithmetic; a function of a number has a number on its right."""

    symbol: str
    left: Value
    right: Value

    @property
    def compares(self) -> bool:
        return self.symbol in _COMPARISONS


@dataclass(slots=True)
class Findings:
    """What a program reads and does."""

    reads: list[Read] = field(default_factory=list)  # in order; without those of values with several origins
    operations: list[Operation] = field(default_factory=list)


def union(*values: Value) -> Value:
    found = frozenset[Atom]().union(*values)
    return found if len(found) <= _MAX_ATOMS else UNKNOWN


def made(members: Mapping[str, Value]) -> Value:
    size = 1 + sum(_size(value) for value in members.values())
    return UNKNOWN if size > _MAX_MADE else frozenset({Made(tuple(sorted(members.items(), key=_name)), size)})


def _name(member: tuple[str, Value]) -> str:
    return member[0]


def _size(value: Value) -> int:
    return sum(atom.size if isinstance(atom, Made) else 1 for atom in value)


def read_program(source: str, data: Value, variables: Mapping[str, Value], findings: Findings) -> Value:
    """Return where the results of a program on `data` come from, and add what it does to `findings`.

    The program compiles. It may have `${ }` around it. A variable that is not given
    is a `Read` of its own.
    """
    source = strip_markers(source)
    if len(source) > MAX_PROGRAM_LENGTH:
        return UNKNOWN
    own = Findings()
    reader = _Reader(source, dict(variables), own)
    with suppress(InvalidExpression, RecursionError):
        result = reader.program(data)
        findings.reads += own.reads
        findings.operations += own.operations
        return result
    return UNKNOWN


_SPACE: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FUNCTION: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:::[A-Za-z_][A-Za-z0-9_]*)*")
_DIGITS: Final = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_FORMAT: Final = re.compile(r"@[A-Za-z0-9_]+")
_STRING_PART: Final = re.compile(r'(?:[^"\\]|\\[^(])*')

_ASSIGNMENT: Final = re.compile(r"(?://|[|+\-*/%])?=(?!=)")
_ALTERNATIVE: Final = re.compile(r"//(?!=)")
_COMPARISON: Final = re.compile(r"==|!=|<=|>=|<|>")
_SUM: Final = re.compile(r"[+-](?!=)")
_PRODUCT: Final = re.compile(r"\*(?!=)|/(?![=/])|%(?!=)")
_COMPARISONS: Final = frozenset({"==", "!=", "<", "<=", ">", ">="})

_SAME: Final = frozenset({"select", "sort_by", "unique_by", "values", "strings", "arrays", "objects", "scalars"})
"""Functions whose results are (parts of) their input, in the same form."""

_EACH: Final = frozenset(
    {"map", "map_values", "any", "all", "sort_by", "group_by", "unique_by", "min_by", "max_by", "add"}
)
"""Functions whose argument gets each element of their input."""

_ELEMENT: Final = frozenset({"min_by", "max_by"})  # functions whose result is an element of their input
_OF_NUMBERS: Final = frozenset({"floor", "sqrt", "round", "ceil", "fabs", "abs", "trunc"})
_NUMBERS: Final = _OF_NUMBERS | {"tonumber", "length", "utf8bytelength", "now", "mktime", "numbers"}
_ON_INPUT: Final = frozenset(
    {
        *("select", "test", "match", "capture", "scan", "split", "splits", "startswith", "endswith", "ltrimstr"),
        *("rtrimstr", "contains", "inside", "index", "rindex", "indices", "has", "in", "join", "error", "range"),
        *("flatten", "first", "last", "isempty", "tojson", "strftime", "strptime", "pow", "IN"),
    }
)
"""Functions whose arguments get their input."""

_KEYWORDS: Final = frozenset({"and", "or", "as", "then", "elif", "else", "end", "catch", "import", "include", "def"})


@dataclass(slots=True)
class _Reader:
    source: str
    variables: dict[str, Value]
    findings: Findings
    position: int = 0
    defined: set[str] = field(default_factory=set)  # functions that the program defines

    def program(self, data: Value) -> Value:
        result = self.pipe(data)
        self.space()
        if self.position != len(self.source):
            raise self.unexpected()
        return result

    def unexpected(self) -> InvalidExpression:
        return InvalidExpression(f"unexpected syntax at character {self.position + 1}")

    def space(self) -> None:
        match = _SPACE.match(self.source, self.position)
        self.position = match.end() if match else self.position

    def match(self, pattern: re.Pattern[str]) -> str | None:
        self.space()
        match = pattern.match(self.source, self.position)
        if match is None:
            return None
        self.position = match.end()
        return match[0]

    def accept(self, text: str) -> bool:
        self.space()
        if not self.source.startswith(text, self.position):
            return False
        self.position += len(text)
        return True

    def expect(self, text: str) -> None:
        if not self.accept(text):
            raise self.unexpected()

    def word(self, *words: str) -> bool:
        """Whether a keyword follows, which is then taken."""
        self.space()
        match = _FUNCTION.match(self.source, self.position)
        if match is None or match[0] not in words:
            return False
        self.position = match.end()
        return True

    def pipe(self, data: Value) -> Value:
        if self.word("def"):
            self.definition()
            return self.pipe(data)
        if self.word("label"):
            self.expect("$")
            self.match(_NAME)
            self.expect("|")
            return self.pipe(data)
        result = self.several(data)
        self.space()
        if self.source.startswith("|", self.position) and not self.source.startswith("|=", self.position):
            self.position += 1
            return self.pipe(result)
        return result

    def definition(self) -> None:
        self.defined.add(self.match(_FUNCTION) or "")
        with self.scope():
            if self.accept("("):
                while not self.accept(")"):
                    if self.accept("$"):
                        self.variables[self.match(_NAME) or ""] = UNKNOWN
                    else:
                        self.defined.add(self.match(_NAME) or "")
                    self.accept(";")
            self.expect(":")
            self.pipe(UNKNOWN)
        self.expect(";")

    @contextmanager
    def scope(self) -> Iterator[None]:
        before = dict(self.variables)
        try:
            yield
        finally:
            self.variables = before

    def several(self, data: Value) -> Value:
        result = self.alternative(data)
        while self.accept(","):
            result = union(result, self.alternative(data))
        return result

    def alternative(self, data: Value) -> Value:
        left = self.assignment(data)
        return union(left, self.alternative(data)) if self.match(_ALTERNATIVE) else left

    def assignment(self, data: Value) -> Value:
        reads = len(self.findings.reads)
        left = self.disjunction(data)
        symbol = self.match(_ASSIGNMENT)
        if symbol is None:
            return left
        del self.findings.reads[reads:]  # what is assigned may be new
        right = self.disjunction(left if symbol == "|=" else data)
        if symbol not in ("=", "|=", "//="):
            self.operate(symbol[:-1], left, right)
        return UNKNOWN

    def disjunction(self, data: Value) -> Value:
        left = self.conjunction(data)
        while self.word("or"):
            self.conjunction(data)
            left = UNKNOWN
        return left

    def conjunction(self, data: Value) -> Value:
        left = self.comparison(data)
        while self.word("and"):
            self.comparison(data)
            left = UNKNOWN
        return left

    def comparison(self, data: Value) -> Value:
        left = self.sum(data)
        symbol = self.match(_COMPARISON)
        return left if symbol is None else self.operate(symbol, left, self.sum(data))

    def sum(self, data: Value) -> Value:
        left = self.product(data)
        while symbol := self.match(_SUM):
            left = self.operate(symbol, left, self.product(data))
        return left

    def product(self, data: Value) -> Value:
        left = self.postfix(data)
        while symbol := self.match(_PRODUCT):
            left = self.operate(symbol, left, self.postfix(data))
        return left

    def operate(self, symbol: str, left: Value, right: Value) -> Value:
        self.findings.operations.append(Operation(symbol, left, right))
        if symbol in _COMPARISONS:
            return UNKNOWN
        return NUMBER if left == right == NUMBER else UNKNOWN

    def postfix(self, data: Value) -> Value:
        if self.accept("-"):
            return self.operate("-", NUMBER, self.postfix(data))
        value = self.term(data)
        while True:
            self.space()
            if self.accept("?"):
                if self.source.startswith("//", self.position):
                    raise self.unexpected()  # destructuring alternatives
            elif self.at_step():
                value = self.step(value, data)
            else:
                break
        self.note(value)
        if self.word("as"):
            return self.binding(value, data)
        return value

    def note(self, value: Value) -> None:
        if len(value) == 1:  # of several, one has to be there
            self.findings.reads += [atom for atom in value if isinstance(atom, Read)]

    def binding(self, value: Value, data: Value) -> Value:
        with self.scope():
            self.pattern(value)
            self.expect("|")
            return self.pipe(data)

    def pattern(self, value: Value) -> None:
        if self.accept("$"):
            self.variables[self.match(_NAME) or ""] = value
            return
        depth = 0
        while True:  # parts of the value have names
            if self.match(_OPENING):
                depth += 1
            elif self.match(_CLOSING):
                depth -= 1
                if depth == 0:
                    return
            elif self.accept("$"):
                self.variables[self.match(_NAME) or ""] = UNKNOWN
            elif not self.match(_IN_PATTERN):
                raise self.unexpected()

    def at_step(self) -> bool:
        rest = self.source[self.position : self.position + 2]
        return rest[:1] == "[" or (rest[:1] == "." and (rest[1:] in ('"', "[") or bool(_NAME.match(rest[1:]))))

    def step(self, value: Value, data: Value) -> Value:
        """Take one step of a path."""
        if self.accept("."):
            if self.at_string():
                return self.follow(value, self.string(data))
            if not self.source.startswith("[", self.position):
                return self.follow(value, self.match(_NAME))
        self.expect("[")
        if self.accept("]"):
            return self.follow(value, None)
        if literal := self.match(_LITERAL):
            self.expect("]")
            return self.follow(value, json.loads(literal, strict=False))
        if self.accept(":"):
            self.pipe(data)
            self.expect("]")
            return value
        self.pipe(data)
        if self.accept(":"):  # a slice has the same elements
            if not self.accept("]"):
                self.pipe(data)
                self.expect("]")
            return value
        self.expect("]")
        return self.follow(value, None)

    def follow(self, value: Value, step: PathStep | None) -> Value:
        found: list[Value] = []
        for atom in value:
            match atom:
                case Read(root, steps):
                    further = frozenset({Read(root, (*steps, step))}) if len(steps) < _MAX_STEPS else UNKNOWN
                    found.append(further)
                case Made(members) if isinstance(step, str):
                    found.append(dict(members).get(step, UNKNOWN))
                case _:
                    found.append(UNKNOWN)
        return union(*found)

    def term(self, data: Value) -> Value:
        if self.match(_DIGITS):
            return NUMBER
        if self.accept(".."):
            return UNKNOWN
        if self.at_step() and self.source[self.position] == ".":
            return self.step(data, data)
        if self.accept("."):
            return data
        if self.match(_FORMAT) or self.at_string():
            if self.at_string():
                self.string(data)
            return TEXT
        if self.accept("("):
            with self.scope():
                value = self.pipe(data)
            self.expect(")")
            return value
        if self.accept("{"):
            return self.object(data)
        return self.array_or_name(data)

    def array_or_name(self, data: Value) -> Value:
        if self.accept("["):
            if not self.accept("]"):
                self.pipe(data)
                self.expect("]")
            return UNKNOWN
        if self.accept("$"):
            return self.variable(self.match(_FUNCTION) or "")
        name = self.match(_FUNCTION)
        if name is None or name in _KEYWORDS:
            raise self.unexpected()
        return self.named(name, data)

    def at_string(self) -> bool:
        self.space()
        return self.source.startswith('"', self.position)

    def named(self, name: str, data: Value) -> Value:
        match name:
            case "if":
                return self.condition(data)
            case "try":
                value = self.postfix(data)
                return union(value, self.postfix(UNKNOWN)) if self.word("catch") else value
            case "reduce" | "foreach":
                value = self.term_with_steps(data)
                self.expect_word("as")
                with self.scope():
                    self.pattern(value)
                    self.expect("(")
                    self.pipe(data)
                    while self.accept(";"):
                        self.pipe(UNKNOWN)
                self.expect(")")
                return UNKNOWN
            case "break":
                self.expect("$")
                self.match(_NAME)
                return _NOTHING
            case "true" | "false" | "null":
                return UNKNOWN
        return self.call(name, data)

    def expect_word(self, word: str) -> None:
        if not self.word(word):
            raise self.unexpected()

    def term_with_steps(self, data: Value) -> Value:
        value = self.term(data)
        while self.accept("?") or self.at_step():
            value = self.step(value, data) if self.at_step() else value
        self.note(value)
        return value

    def variable(self, name: str) -> Value:
        return self.variables.get(name, frozenset({Read(name)}))

    def condition(self, data: Value) -> Value:
        found: list[Value] = []
        while True:
            self.pipe(data)
            self.expect_word("then")
            found.append(self.pipe(data))
            if self.word("elif"):
                continue
            found.append(self.pipe(data) if self.word("else") else data)
            self.expect_word("end")
            return union(*found)

    def call(self, name: str, data: Value) -> Value:
        each = self.follow(data, None)
        if name in self.defined:
            self.arguments(UNKNOWN)
            return UNKNOWN
        if name in _EACH:
            reads, operations = len(self.findings.reads), len(self.findings.operations)
            if len(self.arguments(each)) > 1:  # the first one yields what the second one gets
                del self.findings.reads[reads:], self.findings.operations[operations:]
            return data if name in _SAME else each if name in _ELEMENT else UNKNOWN
        arguments = self.arguments(data if name in _ON_INPUT else UNKNOWN)
        if name in _NUMBERS:
            if name in _OF_NUMBERS:
                self.operate(name, data, NUMBER)
            return NUMBER
        if name in ("first", "last"):
            return arguments[0] if arguments else each
        return data if name in _SAME else _NOTHING if name in ("empty", "error") else UNKNOWN

    def arguments(self, data: Value) -> list[Value]:
        """Read the arguments of a function, each of which gets the same input."""
        found: list[Value] = []
        if self.accept("("):
            while True:
                with self.scope():
                    found.append(self.pipe(data))
                if self.accept(")"):
                    break
                self.expect(";")
        return found

    def object(self, data: Value) -> Value:
        members: dict[str, Value] = {}
        computed = False
        while not self.accept("}"):
            key, value = self.key(data)
            if self.accept(":"):
                value = self.member(data)
            computed |= key is None
            members[key or ""] = value
            if not self.accept(","):
                self.expect("}")
                break
        return UNKNOWN if computed else made(members)

    def key(self, data: Value) -> tuple[str | None, Value]:
        """Read the key of a member, with the value that it has if none follows; None: the key is computed."""
        if self.accept("("):
            self.pipe(data)
            self.expect(")")
            return None, UNKNOWN
        if self.accept("$"):
            name = self.match(_FUNCTION) or ""
            return name, self.variable(name)
        quoted = self.at_string()
        key = self.string(data) if quoted else self.match(_NAME)
        if key is None and not quoted:
            raise self.unexpected()
        self.space()
        if key is None or self.source.startswith(":", self.position):
            return key, UNKNOWN
        value = self.follow(data, key)
        self.note(value)
        return key, value

    def member(self, data: Value) -> Value:
        """Read the value of a member: terms with `|` between them, or operators."""
        value = self.alternative(data)
        while self.accept("|"):
            value = self.alternative(value)
        return value

    def string(self, data: Value) -> str | None:
        """Read a string; None: values are inserted into it."""
        self.expect('"')
        start, plain = self.position - 1, True
        while True:
            match = _STRING_PART.match(self.source, self.position)
            self.position = match.end() if match else self.position
            if self.source.startswith('"', self.position):
                self.position += 1
                break
            if not self.source.startswith("\\(", self.position):
                raise self.unexpected()
            self.position += 2
            plain = False
            with self.scope():
                self.pipe(data)
            self.expect(")")
        with suppress(ValueError):
            text: str = json.loads(self.source[start : self.position], strict=False)
            return text if plain else None
        return None


_OPENING: Final = re.compile(r"[\[{(]")
_CLOSING: Final = re.compile(r"[\]})]")
_IN_PATTERN: Final = re.compile(r'[:,.]|[A-Za-z_]\w*|"[^"\\]*"')
_LITERAL: Final = re.compile(r'(?:-?(?:0|[1-9][0-9]{0,8})|"[^"\\]*")(?=\s*\])')
