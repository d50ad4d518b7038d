"""Program of a sandbox: `python -I -m flowhook.sandbox.process FD SECONDS BYTES [MODULE]` runs functions on bytes.

A request names a function as `module:name` and has its arguments as parts; the response has the CPU time that the call
took, and the values that the function yields. The process is stateless and has one thread, so it can be killed at any
moment. The kernel kills it when one call takes more than SECONDS of CPU time. A call fails if it needs more than BYTES
of memory, or raises. MODULE is imported in advance, so that its imports do not count against the first call.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import struct
import sys
import time
from importlib import import_module
from typing import Final

from flowhook import limits
from flowhook.errors import InvalidError
from flowhook.process.kernel import die_with_parent
from flowhook.sandbox import frames

NICENESS: Final = 5  # nice value: long computations yield to the processes that many clients wait for
FILE_BYTES: Final = 8 * limits.MIB  # size of a file that it may write
CALL: Final = b"c"  # request: `module:name`, arguments
RESULT: Final = b"r"  # response: CPU time, the values that the function yields
INVALID: Final = b"i"  # response: CPU time, reason and message of the `InvalidError` that it raised
TOO_LARGE: Final = b"m"  # response: CPU time; the call needs more memory than allowed
FAILURE: Final = b"f"  # response: CPU time, name of the exception that it raised
CPU_NS: Final = struct.Struct(">Q")  # CPU time of a call, in ns


def main() -> None:
    """Serve requests until the parent closes the connection."""
    seconds = float(sys.argv[2])
    link = isolate(int(sys.argv[1]), int(sys.argv[3]))
    for module in sys.argv[4:]:
        import_module(module)
    with contextlib.suppress(OSError, EOFError):
        link.sendall(frames.encode(frames.READY))
        while True:
            _, (name, *parts) = frames.receive(link)
            began = time.process_time_ns()
            # ITIMER_PROF measures CPU time; SIGPROF kills a process without a handler for it
            signal.setitimer(signal.ITIMER_PROF, seconds)
            kind, result = _call(name.decode(), parts)
            signal.setitimer(signal.ITIMER_PROF, 0)
            link.sendall(frames.encode(kind, CPU_NS.pack(time.process_time_ns() - began), *result))


def isolate(descriptor: int, memory: int) -> socket.socket:
    """Isolate this process from everything but the socket to its parent (`descriptor`), and return the socket.

    It ignores signals, has no environment and no other descriptors, and ends with its parent from now on. Its data has
    at most `memory` bytes (RLIMIT_DATA), where the system enforces that.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.environ.clear()
    die_with_parent()
    with contextlib.suppress(OSError, ValueError):
        os.nice(NICENESS)
    for kind, limit in ((resource.RLIMIT_DATA, memory), (resource.RLIMIT_FSIZE, FILE_BYTES), (resource.RLIMIT_CORE, 0)):
        with contextlib.suppress(OSError, ValueError):  # not every system supports each of them
            resource.setrlimit(kind, (limit, limit))
    # defence in depth: the parent passes none of these on
    os.closerange(3, descriptor)
    os.closerange(descriptor + 1, os.sysconf("SC_OPEN_MAX"))
    link = socket.socket(fileno=descriptor)
    link.set_inheritable(False)
    return link


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
