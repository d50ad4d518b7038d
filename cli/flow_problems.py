"""Prints the problems of flow files: for people as compilers do, `FILE:LINE: KEY: TEXT`, for programs as JSON."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Sequence
from typing import Final

from cli.output import print_json
from flowhook.document import FlowDocument, located_warnings
from flowhook.document.codes import Code
from flowhook.document.named_secrets import secret_paths
from flowhook.document.problems import line_of
from flowhook.document.source import read
from flowhook.errors import Fault

_UNSET: Final = re.compile(r"secret (\S+) is not set")


def print_problems(errors: Sequence[Fault], warnings: Sequence[Fault] = (), *, json: bool) -> None:
    """Print problems: as lines on stderr, or on stdout as JSON, one object each, with code and severity."""
    if not json:
        for text in (*map(str, errors), *map(format_warning, warnings)):
            print(text, file=sys.stderr)
        return
    for severity, faults in (("error", errors), ("warning", warnings)):
        for each in faults:
            print_json({**dataclasses.asdict(each), "severity": severity})


def format_warning(warning: Fault) -> str:
    """Return a warning as one line."""
    where = f"{warning.file}:{warning.line}" if warning.line else warning.file
    return ": ".join(filter(None, (where, "warning", warning.key, warning.cause)))


def unset_secret(warning: Fault) -> str:
    """Return the name of the secret that a warning says is not set; empty: it is about something else."""
    found = _UNSET.match(warning.cause)
    return found[1] if found else ""


def locate_warnings(document: FlowDocument, source: bytes, file: str, texts: Sequence[str]) -> list[Fault]:
    """Return the warnings of a router, with file and line.

    Args:
        document: the flow.
        source: content of its file.
        file: name of the file.
        texts: warnings of the router. Most of them can be derived from the file; others, such as those about secrets
            that are not set, can't.
    """
    known = {f"{each.key}: {each.cause}": each for each in located_warnings(document, source, file=file)}
    return [known[text] if text in known else _located(document, source, file, text) for text in texts]


def _located(document: FlowDocument, source: bytes, file: str, text: str) -> Fault:
    unset = _UNSET.match(text)
    places = list(secret_paths(document.definition, {unset[1]})) if unset else []
    line = line_of(read(source).root, places[0][0]) if places else 0
    return Fault(file, line, "", text, Code.SECRET_NOT_SET if unset else "")
