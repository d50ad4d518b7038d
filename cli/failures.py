"""Converts an exception that ends a command to one line on stderr and an exit code."""

from __future__ import annotations

import os
import sys
from typing import Final

from flowhook.errors import FlowhookError, InvalidFlowError

EXIT_REFUSED: Final = 1
EXIT_INTERRUPTED: Final = 130


def report(error: Exception) -> int:
    """Print an exception as one line on stderr and return the exit code; with `FLOWHOOK_DEBUG`, re-raise defects."""
    if isinstance(error, InvalidFlowError):
        print(error.message, file=sys.stderr)  # each line begins with FILE:LINE:, which editors and CI parse
    elif isinstance(error, FlowhookError):
        print(f"flowhook: {error.message}", file=sys.stderr)
    else:
        if os.environ.get("FLOWHOOK_DEBUG"):
            raise error
        print(
            f"flowhook: internal error: {type(error).__name__}: {error} (FLOWHOOK_DEBUG=1 shows where)", file=sys.stderr
        )
    return EXIT_REFUSED


def report_end(error: Exception) -> int:
    """Report the end of `flowhook up`: as `report` does, or in the log if FLOWHOOK_LOG_FORMAT is `json`."""
    from flowhook.process import logs

    if not isinstance(error, FlowhookError) or os.environ.get("FLOWHOOK_LOG_FORMAT") != "json":
        return report(error)
    logs.report_end(error.message, reason=error.reason, process="up")
    return EXIT_REFUSED
