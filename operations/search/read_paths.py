"""Finds out which parts of its input a jq program reads, where that can be seen from its text.

Most of the time of a condition goes into jq's reading of its input, of which the condition needs little. A program is
understood if all that precedes the first `|`, in each pair of parentheses, consists of paths, literals and operators:
`.body.order == 1 and (.body.items | length) > 3`. What follows a `|` sees only the values before it, so that it may be
anything that binds no variable. Of other programs it is not known what they read.

Source: https://jqlang.org/manual/v1.8/
"""

from __future__ import annotations

import re
from typing import Final

_TOKEN: Final = re.compile(
    r"""\s+
    |(?P<path>\.(?:[A-Za-z_]\w*|"[^"\\]*")(?:\.(?:[A-Za-z_]\w*|"[^"\\]*")|\.?\["[^"\\]*"\]|\?(?!//))*)
    |(?P<text>"[^"\\]*")
    |(?P<number>[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?(?![\w.]))
    |(?P<word>[A-Za-z_]\w*)
    |(?P<open>[(\[{])
    |(?P<close>[)\]}])
    |(?P<pipe>\|(?!=))
    |(?P<operator>==|!=|<=|>=|<|>|//(?!=)|[-+*/%,](?!=)|\?(?!//))
    |(?P<other>[.;:])
    """,
    re.VERBOSE | re.ASCII,
)
_STEP: Final = re.compile(r'\.([A-Za-z_]\w*)|"([^"\\]*)"', re.ASCII)
_LITERALS: Final = frozenset({"and", "or", "true", "false", "null"})
_BINDING: Final = frozenset({"as", "def", "foreach", "import", "include", "label", "reduce"})


def read_paths(program: str) -> list[tuple[str, ...]] | None:
    """Return paths below which a program reads its input, each of member names; None: it may read anything.

    The values at these paths, and the types of those on the way, determine the program's results and errors. The
    program compiles, and is without `${ }`.
    """
    paths: list[tuple[str, ...]] = []
    piped = [False]  # of each open bracket, the outermost first: whether a `|` precedes
    position = 0
    while position < len(program):
        token = _TOKEN.match(program, position)
        if token is None:
            return None
        position = token.end()
        kind, text = token.lastgroup, token[0]
        if kind == "open":
            if text == "{" and not piped[-1]:
                return None  # `{name}` reads a member
            piped.append(piped[-1])
        elif kind == "close":
            piped.pop()
            if not piped:
                return None
        elif kind == "pipe":
            piped[-1] = True
        elif text in _BINDING or not (piped[-1] or _is_plain(kind, text)):
            return None
        elif kind == "path" and not piped[-1]:
            paths.append(tuple(name or quoted for name, quoted in _STEP.findall(text)))
    return paths


def _is_plain(kind: str | None, text: str) -> bool:
    """Whether a token reads nothing of the input, or is a path."""
    return kind in (None, "path", "text", "number", "operator") or (kind == "word" and text in _LITERALS)
