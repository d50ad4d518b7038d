"""A Ctrl-C while a process still imports its code ends the process at once, without a traceback.

As an exception it would print a traceback, and be lost where Python ignores exceptions, such as in callbacks of weak
references, which imports have many of.
"""

from __future__ import annotations

import signal


def end_at_once() -> None:
    """Let a Ctrl-C end this process, unless it is ignored."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def raise_again() -> None:
    """Let a Ctrl-C raise KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
