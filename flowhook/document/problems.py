"""What is wrong with a flow file, before it is known which line it stands on."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from flowhook.errors import Fault

Path = tuple[str | int, ...]
"""Keys and indexes from the top of a document."""

_ALIKE: Final = 0.8
"""How much two words have in common that are taken for the same though they begin differently; 1 is everything."""

_PLAIN_KEY: Final = re.compile(r"[^\s.\[\]\"']+")


class Problem(NamedTuple):
    """Something wrong at a path of the document; a line other than 0 overrules the path's own.

    `at` is where the mistake begins below the path, when that is on another line: the key without a hyphen, say.
    """

    path: Path
    cause: str
    line: int = 0
    at: Path = ()


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a node stands in its file.

    Attributes:
        line: of its key or, in lists, of itself; from 1.
        members: marks of what a collection holds, by key or index.
    """

    line: int
    members: Mapping[str | int, Mark] = field(default_factory=dict)


def to_fault(problem: Problem, *, file: str, root: Mark) -> Fault:
    """Return a problem with its line and with its path written as authors know it: `do[0].announce.call`."""
    return Fault(file, problem.line or line_of(root, (*problem.path, *problem.at)), key_of(problem.path), problem.cause)


def line_of(root: Mark, path: Path) -> int:
    """Return the line of a path, or of the part of it that there is."""
    mark = root
    for step in path:
        member = mark.members.get(step)
        if member is None:
            break
        mark = member
    return mark.line


def key_of(path: Path) -> str:
    """Return a path in dotted form; keys that would be ambiguous stand in brackets and quotes."""
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
    """Return `, did you mean 'x'?` with the known word that is most like `word`, or nothing.

    Words of a few letters that begin differently are hardly ever typing errors of one another (`when` and `then`).
    """
    by_spelling = {each.lower(): each for each in known}
    written = word.lower()
    close = difflib.get_close_matches(written, by_spelling, n=3)
    likely = (
        by_spelling[each]
        for each in close
        if each[:1] == written[:1] or difflib.SequenceMatcher(None, written, each).ratio() >= _ALIKE
    )
    return next((f", did you mean {each!r}?" for each in likely), "")
