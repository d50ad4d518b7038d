"""Parses YAML and JSON into plain JSON types, with the line of every node.

YAML 1.2 with its core schema, so that `on` and `2024-01-01` are strings. JSON is valid YAML and is parsed as such.
Dangerous and ambiguous features of YAML are refused: tags, duplicate keys, keys that are not strings, aliases that
multiply the size of a document, numbers that JSON can't represent.

The tree is built from ruamel's events rather than by its constructor: events have line numbers, and no unexpected
objects are constructed.

A parser reports where it stopped and what it expected. The author's mistake is often on another line, and one of a
few kinds: a missing quote or bracket, a missing hyphen or space, a string that needs quotes.

Source: https://yaml.org/spec/1.2.2/, section 10.3 "Core Schema".
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import orjson
from ruamel.yaml import YAML
from ruamel.yaml import events as yaml
from ruamel.yaml.error import MarkedYAMLError, StreamMark, YAMLError
from ruamel.yaml.reader import ReaderError

from flowhook import limits
from flowhook.document.diagnostics.problems import Code, Mark, Path, Problem

_INDENTED: Final = "this line is not indented like the lines it belongs to"

_BY_PROBLEM: Final = {
    "expected <block end>, but found '<block mapping start>'": _INDENTED,
    "expected <block end>, but found '<block sequence start>'": _INDENTED,
    "expected <block end>, but found '-'": "a list item where a key is expected",
    "expected <block end>, but found '?'": "an item of a list begins with `- `; its content is indented further",
    "found character '\\t' that cannot start any token": "indent with spaces, not with tabs",
    "sequence entries are not allowed here": "a list begins on a line of its own; put a text with '- ' in quotes",
}
_WHERE_IT_BEGAN: Final = {
    "could not find expected ':'": "this line is neither `key: value` (with a space after the colon) nor `- item`",
    "found unexpected end of stream": "the closing quote is missing",
}
_CANNOT_START: Final = re.compile(
    r"found character '(.)' that cannot start any token|expected the node content, .*'(.)'"
)
_ESCAPE: Final = re.compile(r"found unknown escape character '(.+)'")
_FLOW: Final = re.compile(r"expected ',' or '[\]}]', but got '(.*)'")


def explain(error: MarkedYAMLError, text: str) -> tuple[str, int]:
    """Return the cause of an error and its line (from 1; 0 if it is not known)."""
    problem = str(error.problem)
    here = error.problem_mark or error.context_mark
    opened = error.context_mark or here
    if problem in _WHERE_IT_BEGAN:
        return _WHERE_IT_BEGAN[problem], _line_of(opened)
    if flow := _FLOW.fullmatch(problem):
        return _flow(flow[1], opened, here)
    cause = " ".join(filter(None, [error.context, problem]))
    if problem in _BY_PROBLEM:
        cause = _BY_PROBLEM[problem]
    elif problem == "mapping values are not allowed here":
        quotes = here is None or ": " in _before(here, text)
        misplaced = "this line is indented too far, or the one before lacks the ':' and the space after its key"
        cause = f"a ':' is not allowed here: {'put the text in quotes' if quotes else misplaced}"
    elif problem == "expected <block end>, but found '<scalar>'":
        cause = _unexpected_text(here, text)
    elif "'<stream end>'" in problem:
        cause = "a closing bracket is missing at the end of the file"
    elif escape := _ESCAPE.fullmatch(problem):
        cause = f"in double quotes \\{escape[1]} is written \\\\{escape[1]}; in single quotes, leave it as it is"
    elif start := _CANNOT_START.fullmatch(problem):
        cause = f"put text that starts with {start[1] or start[2]!r} in quotes"
    return cause, _line_of(here)


def _unexpected_text(mark: StreamMark | None, text: str) -> str:
    if mark is not None and re.search("[\"']", _before(mark, text)):
        return """the quoted string ends before this: within "…" a quote is written \\", within '…' it is written ''"""
    return "unexpected text: is it indented like the lines that it continues?"


def _flow(found: str, opened: StreamMark | None, here: StreamMark | None) -> tuple[str, int]:
    if found == "<stream end>":
        return "the bracket that is opened here is never closed", _line_of(opened)
    if found in ("{", "["):
        return "within { } and [ ], put expressions in quotes", _line_of(here)
    if _line_of(opened) == _line_of(here):
        return "a comma is missing here, or a closing bracket", _line_of(here)
    return f"a comma is missing here, or the bracket that closes the one on line {_line_of(opened)}", _line_of(here)


def _before(mark: StreamMark, text: str) -> str:
    return text.splitlines()[mark.line][: mark.column] if mark.line < len(text.splitlines()) else ""


def _line_of(mark: StreamMark | None) -> int:
    return mark.line + 1 if mark else 0


MAX_DEPTH: Final = 64  # maximum depth of nested collections

_TOO_DEEP: Final = f"nested more than {MAX_DEPTH} levels deep"

MAX_ALIASED: Final = limits.MAX_DOCUMENT_BYTES  # characters and nodes that aliases may add to a document

_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,400}|0o[0-7]{1,400}|0x[0-9a-fA-F]{1,400}")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NO_JSON_NUMBER: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_NO_MERGE: Final = "YAML 1.2 has no merge keys: write the keys out, or put '<<' in quotes"


class Source(NamedTuple):
    """A parsed document: `data` in plain JSON types, None if nothing could be parsed."""

    data: Any
    root: Mark
    problems: list[Problem]


class _StopReadingError(Exception):
    """A problem after which parsing can't continue."""

    def __init__(self, code: Code, cause: str, where: yaml.Event | int, path: Path = ()) -> None:
        super().__init__(cause)
        self.problem = Problem(path, code, cause, where if isinstance(where, int) else _line(where))


def read(source: bytes) -> Source:
    """Parse one YAML or JSON document. Never raises: errors are in `problems`."""
    if len(source) > limits.MAX_DOCUMENT_BYTES:
        return _nothing(f"a flow file has at most {limits.MAX_DOCUMENT_BYTES // limits.KIB} KiB")
    try:
        text = source.decode()
    except UnicodeDecodeError as error:
        return _nothing("the file is not valid UTF-8", source.count(b"\n", 0, error.start) + 1)
    reader = _Reader(_events(_without_tabs(source, text)))
    try:
        data, mark = reader.document()
    except _StopReadingError as stop:
        return Source(None, Mark(0), [*reader.problems, stop.problem])
    return Source(data, mark, reader.problems)


def _nothing(cause: str, line: int = 0) -> Source:
    return Source(None, Mark(line), [Problem((), Code.FILE_INVALID, cause, line)])


def _without_tabs(source: bytes, text: str) -> str:
    # YAML indents with spaces only. In JSON a tab can be nothing but insignificant whitespace.
    if "\t" in text and text.lstrip().startswith("{"):
        try:
            orjson.loads(source)
        except orjson.JSONDecodeError:
            return text
        return text.replace("\t", " ")
    return text


def _events(text: str) -> Iterator[yaml.Event]:
    try:
        yield from YAML(typ="safe", pure=True).parse(text)
    except MarkedYAMLError as error:
        problem, line = explain(error, text)
        raise _StopReadingError(Code.YAML_INVALID, f"invalid YAML: {problem}", line) from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1 if isinstance(error.position, int) else 0
        raise _StopReadingError(Code.YAML_INVALID, "invalid YAML: a character that is not allowed", line) from None
    except (YAMLError, ValueError, OverflowError):  # the latter two for escapes such as "\UFFFFFFFF"
        raise _StopReadingError(Code.YAML_INVALID, "invalid YAML", 0) from None


@dataclass(slots=True)
class _Node:
    """A node under construction: its value, its lines, the size an alias to it adds, and its depth."""

    value: Any
    mark: Mark
    weight: int = 1
    height: int = 0


@dataclass(slots=True)
class _Reader:
    events: Iterator[yaml.Event]
    problems: list[Problem] = field(default_factory=list)
    anchors: dict[str, _Node | None] = field(default_factory=dict)  # None while its node is being read
    aliased: int = 0

    def document(self) -> tuple[Any, Mark]:
        next(self.events)  # the start of the stream
        start = next(self.events)
        if isinstance(start, yaml.StreamEndEvent):
            raise _StopReadingError(Code.FILE_INVALID, "the file is empty", 0)
        if isinstance(start, yaml.DocumentStartEvent) and start.version not in (None, (1, 2)):
            self.report((), "only YAML 1.2 is supported", start)
        node = self.node(next(self.events), (), 0)
        end = next(self.events)
        following = next(self.events) if isinstance(end, yaml.DocumentEndEvent) else end
        if not isinstance(following, yaml.StreamEndEvent):
            cause = "a second document begins here, and a flow file has only one"
            raise _StopReadingError(Code.FILE_INVALID, cause, following)
        return node.value, node.mark

    def report(self, path: Path, cause: str, event: yaml.Event, code: Code = Code.YAML_UNSUPPORTED) -> None:
        self.problems.append(Problem(path, code, cause, _line(event)))

    def node(self, event: yaml.Event, path: Path, depth: int) -> _Node:
        if depth > MAX_DEPTH:
            raise _StopReadingError(Code.FILE_INVALID, _TOO_DEEP, event, path[:8])
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event, path, depth)
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            self.anchors[event.anchor] = None
        if getattr(event, "tag", None) is not None:
            self.report(path, "tags such as !!str are not allowed", event)
        if isinstance(event, yaml.MappingStartEvent):
            node = self.mapping(event, path, depth)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self.sequence(event, path, depth)
        else:
            node = self.scalar(event, path)
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            self.anchors[event.anchor] = node
        return node

    def mapping(self, event: yaml.Event, path: Path, depth: int) -> _Node:
        value: dict[str, Any] = {}
        members: dict[str | int, Mark] = {}
        node = _Node(value, Mark(_line(event), members))
        while not isinstance(key_event := next(self.events), yaml.MappingEndEvent):
            key = self.key(key_event, path, depth)
            if key == "<<" and isinstance(key_event, yaml.ScalarEvent) and key_event.style is None:
                self.report((*path, key), _NO_MERGE, key_event)
            value_event = next(self.events)
            member = self.node(value_event, (*path, key), depth + 1)
            if key in value:
                cause = f"the key {key!r} is defined twice, first on line {members[key].line}"
                self.report((*path, key), cause, key_event, Code.KEY_DUPLICATE)
                continue
            value[key] = member.value
            members[key] = Mark(_line(key_event), member.mark.members, _span(value_event))
            node.weight += member.weight + len(key)
            node.height = max(node.height, member.height + 1)
        return node

    def key(self, event: yaml.Event, path: Path, depth: int) -> str:
        node = self.node(event, path, depth + 1)
        if isinstance(node.value, str):
            return node.value
        if isinstance(event, yaml.ScalarEvent):
            written = str(event.value)
            self.report(path, f"a key is a string: put {written!r} in quotes", event)
            return written
        raise _StopReadingError(Code.YAML_UNSUPPORTED, "a key is a string, not a collection", event, path)

    def sequence(self, event: yaml.Event, path: Path, depth: int) -> _Node:
        value: list[Any] = []
        members: dict[str | int, Mark] = {}
        node = _Node(value, Mark(_line(event), members))
        while not isinstance(item_event := next(self.events), yaml.SequenceEndEvent):
            member = self.node(item_event, (*path, len(value)), depth + 1)
            members[len(value)] = Mark(_line(item_event), member.mark.members, _span(item_event))
            value.append(member.value)
            node.weight += member.weight
            node.height = max(node.height, member.height + 1)
        return node

    def alias(self, event: yaml.AliasEvent, path: Path, depth: int) -> _Node:
        node = self.anchors.get(event.anchor)
        if node is None:
            inside = event.anchor in self.anchors
            cause = "refers to a node that contains it" if inside else "is not defined before this"
            raise _StopReadingError(Code.YAML_INVALID, f"alias *{event.anchor} {cause}", event, path)
        self.aliased += node.weight
        if self.aliased > MAX_ALIASED:
            raise _StopReadingError(Code.FILE_INVALID, "aliases make the document too large", event, path)
        if depth + node.height > MAX_DEPTH:
            raise _StopReadingError(Code.FILE_INVALID, _TOO_DEEP, event, path)
        return node

    def scalar(self, event: yaml.Event, path: Path) -> _Node:
        text = str(getattr(event, "value", ""))
        try:
            value = _plain(text) if getattr(event, "style", None) is None else _text(text)
        except ValueError as error:
            self.report(path, str(error), event)
            value = None
        return _Node(value, Mark(_line(event)), weight=1 + len(text))


def _line(event: yaml.Event) -> int:
    return int(event.start_mark.line) + 1


def _span(event: yaml.Event) -> tuple[int, int]:
    return int(event.start_mark.index), int(event.end_mark.index)


def _text(text: str) -> str:
    """Return a quoted string with surrogate pairs joined: JSON escapes characters beyond the BMP as two halves."""
    if text.isascii():
        return text
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise ValueError("incomplete surrogate pair: \\ud800 to \\udfff are valid only in pairs") from None


def _plain(text: str) -> str | int | float | bool | None:
    """Return the value of an unquoted scalar in the core schema; raises ValueError for a number JSON can't hold."""
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _INTEGER.fullmatch(text):
        number = int(text, 0 if text.startswith(("0o", "0x")) else 10)
        if not -(2**63) <= number < 2**64:
            raise ValueError("an integer has at most 64 bits; put it in quotes to make it a string")
        return number
    if _FLOAT.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    if _FLOAT.fullmatch(text) or _NO_JSON_NUMBER.fullmatch(text):
        raise ValueError(f"{text[:40]} is not a number that JSON can represent; put it in quotes to make it a string")
    return text
