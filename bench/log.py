"""Progress of a benchmark, on standard error."""

from __future__ import annotations

import sys


def log(line: str) -> None:
    """Print one line."""
    print(line, file=sys.stderr, flush=True)
