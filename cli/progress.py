"""Prints progress on stdout, and ignores that its reader has gone."""

from __future__ import annotations

import os
import sys


def print_progress(line: str) -> None:
    """Print a line and flush it; if stdout is closed, discard this and all further lines."""
    try:
        print(line, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
