"""Prints the problems of flow files: for people as compilers do, `FILE:LINE: KEY: TEXT`, for programs as JSON."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Sequence
from typing import Final

from cli.output import print_json
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


def format_warning(fault: Fault) -> str:
    """Return a warning as one line."""
    where = f"{fault.file}:{fault.line}" if fault.line else fault.file
    return ": ".join(filter(None, (where, "warning", fault.key, fault.cause)))


def unset_secret(fault: Fault) -> str:
    """Return the name of the secret that a warning says is not set; empty: it is about something else."""
    found = _UNSET.match(fault.cause)
    return found[1] if found else ""
