"""Runs functions on bytes: `python -I -m flowhook.offload.process FD SECONDS BYTES`.

A request names a function as `module:name`, and has its arguments as parts; the answer has what the function yields.
It holds nothing and has one thread, so that it may be killed at any moment, and the kernel does so when one call takes
more than SECONDS of CPU time. A call that needs more than BYTES of memory fails, and so do those that raise.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from importlib import import_module
from typing import Final

from flowhook.errors import InvalidError
from flowhook.offload import frames
from flowhook.offload.isolation import isolate

CALL: Final = b"c"
"""Request: `module:name`, arguments."""
RESULT: Final = b"r"
"""Response: what the function yields."""
INVALID: Final = b"i"
"""Response: reason and message of the `InvalidError` that it raised."""
TOO_LARGE: Final = b"m"
"""Response: it needs more memory than it may have."""
FAILURE: Final = b"f"
"""Response: name of the exception that it raised."""


def main() -> None:
    """Do what is asked for until the other end is gone."""
    seconds = float(sys.argv[2])
    link = isolate(int(sys.argv[1]), int(sys.argv[3]))
    with contextlib.suppress(OSError, EOFError):
        frames.send(link, frames.READY)
        while True:
            _, (name, *parts) = frames.receive(link)
            # SIGPROF ends a process that does not ask for it; measured is its CPU time
            signal.setitimer(signal.ITIMER_PROF, seconds)
            kind, result = _call(name.decode(), parts)
            signal.setitimer(signal.ITIMER_PROF, 0)
            frames.send(link, kind, *result)


def _call(name: str, parts: list[bytes]) -> tuple[bytes, list[bytes]]:
    module, _, function = name.partition(":")
    try:
        return RESULT, list(getattr(import_module(module), function)(*parts))
    except InvalidError as error:
        return INVALID, [error.reason.encode(), error.message.encode("utf-8", "replace")]
    except (MemoryError, SystemError):  # the latter from libraries in C that take no care of the former
        return TOO_LARGE, []
    except Exception as error:  # noqa: BLE001 - the process goes on; whoever asked is told
        return FAILURE, [type(error).__name__.encode()]


if __name__ == "__main__":
    main()
