"""Problems of a flow file: their codes, their places, the errors that validators of models raise."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import Final, NamedTuple, TypeAlias

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from flowhook.errors import Fault, InvalidError


class Code(StrEnum):
    """A kind of problem in a flow file. docs/flow-problems.md describes each; a code is never renamed."""

    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last_values: list[str]) -> str:  # noqa: ARG004 - of enum
        return name

    # the file
    FILE_INVALID = auto()
    YAML_INVALID = auto()
    YAML_UNSUPPORTED = auto()
    MORE_PROBLEMS = auto()
    # keys
    KEY_CONFLICT = auto()
    KEY_DUPLICATE = auto()
    KEY_MISSING = auto()
    KEY_UNKNOWN = auto()
    # values
    VALUE_CHOICE = auto()
    VALUE_FORMAT = auto()
    VALUE_MISSING = auto()
    VALUE_RANGE = auto()
    VALUE_TYPE = auto()
    CRON_INVALID = auto()
    DURATION_INVALID = auto()
    HEADER_INVALID = auto()
    PATTERN_INVALID = auto()
    SCHEMA_INVALID = auto()
    SIZE_INVALID = auto()
    URI_INVALID = auto()
    # names and references
    DIGEST_DIFFERS = auto()
    FLOW_DUPLICATE = auto()
    FUNCTION_DEPTH = auto()
    FUNCTION_NOT_FETCHED = auto()
    FUNCTION_UNKNOWN = auto()
    ITEM_INVALID = auto()
    NAME_DUPLICATE = auto()
    NAME_INVALID = auto()
    REFERENCE_UNKNOWN = auto()
    ERROR_TYPE_UNKNOWN = auto()
    # expressions
    EXPRESSION_INVALID = auto()
    EXPRESSION_NOT_ALLOWED = auto()
    EXPRESSION_REQUIRED = auto()
    # what the parts mean together
    AUTH_INVALID = auto()
    BODY_NOT_PARSED = auto()
    CALLBACK_UNPROTECTED = auto()
    CORRELATION_INVALID = auto()
    EVENT_NOT_AWAITABLE = auto()
    RESPONSE_INVALID = auto()
    SECRET_SHARED = auto()
    SIGNATURE_UNSAFE = auto()
    URL_TAKEN = auto()
    UNSUPPORTED = auto()
    # warnings
    ADDRESS_NOT_ALLOWED = auto()
    ALWAYS_TRUE = auto()
    CALLBACK_NOT_AWAITED = auto()
    ERROR_NOT_RAISED = auto()
    NAME_IS_DIRECTIVE = auto()
    NOT_AN_EXPRESSION = auto()
    PATH_UNKNOWN = auto()
    PROCESS_NEEDS_PERMISSION = auto()
    REPLY_TOO_LATE = auto()
    SECRET_IS_VALUE = auto()
    SECRET_NOT_SET = auto()
    SHELL_INJECTION = auto()
    TEXT_AS_NUMBER = auto()


Path = tuple[str | int, ...]  # keys and indexes from the top of a document

_ALIKE: Final = 0.8
"""Minimum similarity, in [0, 1], at which a word with another first letter is suggested; 1 is identity."""

_PLAIN_KEY: Final = re.compile(r"[^\s.\[\]\"']+")


class Problem(NamedTuple):
    """A problem at a path of the document; a line other than 0 overrides the line of the path.

    `at` is the path, below `path`, at which the mistake begins if that is on another line: a key without its hyphen,
    for example.
    """

    path: Path
    code: Code
    cause: str
    line: int = 0
    at: Path = ()


@dataclass(frozen=True, slots=True)
class Mark:
    """Line numbers of a node and of its members."""

    line: int  # line of its key or, in lists, of the node itself; from 1
    # marks of the members of a collection, by key or index
    members: Mapping[str | int, Mark] = field(default_factory=dict)
    span: tuple[int, int] = (0, 0)  # first character in the text, and that after the last, of a scalar or an alias


def to_fault(problem: Problem, *, file: str, root: Mark) -> Fault:
    """Convert a problem to a fault with its line and its path in dotted form: `do[0].announce.call`."""
    line = problem.line or line_of(root, (*problem.path, *problem.at))
    return Fault(file, line, key_of(problem.path), problem.cause, problem.code)


def mark_of(mark: Mark, path: Path) -> Mark:
    """Return the mark of a node below the one that has `mark`, or of what contains it, if that is missing."""
    member = mark.members.get(path[0]) if path else None
    return mark if member is None else mark_of(member, path[1:])


def line_of(mark: Mark, path: Path) -> int:
    return mark_of(mark, path).line


def key_of(path: Path) -> str:
    """Return a path in dotted form; ambiguous keys are in brackets and quotes."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif not _PLAIN_KEY.fullmatch(step):
            text += f"[{step!r}]"
        else:
            text += f".{step}" if text else step
    return text


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return `, did you mean 'x'?` with the most similar word, or nothing; not for short ones like `when`, `then`."""
    by_spelling = {each.lower(): each for each in known}
    written = word.lower()
    close = difflib.get_close_matches(written, by_spelling, n=3)
    likely = (
        by_spelling[each]
        for each in close
        if each[:1] == written[:1] or difflib.SequenceMatcher(None, written, each).ratio() >= _ALIKE
    )
    return next((f", did you mean {each!r}?" for each in likely), "")


LocatedCause: TypeAlias = tuple[tuple[int | str, ...], Code, str]
"""Location relative to the value under validation, code and cause of an error."""


def validation_error(code: Code, cause: str) -> PydanticCustomError:
    """Return an error that pydantic reports with this code as its type, and with exactly this text."""
    return PydanticCustomError(code, "{cause}", {"cause": cause})


def validation_error_at(*problems: LocatedCause) -> ValidationError:
    details = [InitErrorDetails(type=validation_error(code, why), loc=loc, input=None) for loc, code, why in problems]
    return ValidationError.from_exception_data("flowhook", details)


@contextmanager
def refused_as(code: Code) -> Iterator[None]:
    """Report an InvalidError that is raised inside the `with` block with this code."""
    try:
        yield
    except InvalidError as error:
        raise validation_error(code, error.message) from None
