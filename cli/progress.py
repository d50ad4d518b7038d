"""Prints progress on stdout, and goes on when nobody reads it any more."""

from __future__ import annotations

import os
import sys


def say(line: str) -> None:
    """Print a line at once; that nobody reads it any more is no reason to stop."""
    try:
        print(line, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
