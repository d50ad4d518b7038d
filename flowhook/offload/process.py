"""Program of a worker process: `python -I -m flowhook.offload.process FD SECONDS BYTES` runs functions on bytes.

A request names a function as `module:name` and has its arguments as parts; the response has the values that the
function yields. The process is stateless and has one thread, so it can be killed at any moment. The kernel kills it
when one call takes more than SECONDS of CPU time. A call fails if it needs more than BYTES of memory, or raises.
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
"""Response: the values that the function yields."""
INVALID: Final = b"i"
"""Response: reason and message of the `InvalidError` that it raised."""
TOO_LARGE: Final = b"m"
"""Response: the call needs more memory than allowed."""
FAILURE: Final = b"f"
"""Response: name of the exception that it raised."""


def main() -> None:
    """Serve requests until the parent closes the connection."""
    seconds = float(sys.argv[2])
    link = isolate(int(sys.argv[1]), int(sys.argv[3]))
    with contextlib.suppress(OSError, EOFError):
        frames.send(link, frames.READY)
        while True:
            _, (name, *parts) = frames.receive(link)
            # ITIMER_PROF measures CPU time; SIGPROF kills a process without a handler for it
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
    except (MemoryError, SystemError):  # C libraries that don't handle a MemoryError cause a SystemError
        return TOO_LARGE, []
    except Exception as error:  # noqa: BLE001 - the process continues; the caller receives the error
        return FAILURE, [type(error).__name__.encode()]


if __name__ == "__main__":
    main()
