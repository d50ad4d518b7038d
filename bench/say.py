"""What a person who waits gets to read meanwhile."""

from __future__ import annotations

import sys


def say(line: str) -> None:
    """Print a line of progress."""
    print(line, file=sys.stderr, flush=True)
