"""What it costs to read hostile bodies: CPU time and memory of each, in a process of its own.

`python -m support.hostile.measured FAMILY BYTES SECONDS` prints two lines of JSON for each body of a family: one before
it is read, so that one that ends the process is known by its name, and one with its cost.

The CPU time is the least of a few attempts where it is more than `SECONDS`: who shares the core slows it down too. It
is in proportion to what this machine takes for the same loop, at that moment, as the one it was measured on.
"""

from __future__ import annotations

import ctypes
import gc
import json
import resource
import sys
import time
from pathlib import Path

from support.cpu import slowness
from support.hostile import bodies

from flowhook.errors import InvalidError
from flowhook.payloads.parsing import parse

DECODED_BYTES = 16 * 1024 * 1024
"""What a body may have when it is decompressed."""

ATTEMPTS = 8

MOST_SECONDS = 60
"""CPU time that the bodies of one family get; then the process is killed."""

_STATUS = Path("/proc/self/status")
_MAPS = Path("/proc/self/clear_refs")


def memory(field):
    """Return a field of this process's status in bytes: `VmRSS`, or `VmHWM`, the peak since `forget_peak`."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def forget_peak():
    """Give back what memory there is to give back, and begin anew to look for the peak of what is taken."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    _MAPS.write_text("5")


def read(body):
    """Return seconds of CPU, and what came of it."""
    began = time.thread_time()
    try:
        content = parse(body.content_type, body.content, body.headers, limit=DECODED_BYTES)
        outcome = "an attachment" if content.body is None else "data"
        del content
    except InvalidError as error:
        outcome = f"{error.reason}: {error.message}"
    return time.thread_time() - began, outcome


def measure(body, most_seconds=0.0):
    """Return seconds of CPU, bytes of memory beside those of the body, and what came of it."""
    forget_peak()
    before = memory("VmRSS")
    seconds, outcome = read(body)
    peak = memory("VmHWM") - before
    for _ in range(ATTEMPTS - 1):
        if seconds <= most_seconds:
            break
        slower = slowness()
        seconds = min(seconds, read(body)[0] / slower)
    return seconds, peak, outcome


def _tell(*values):
    sys.stdout.write(f"{json.dumps(values)}\n")
    sys.stdout.flush()


def main(family, max_bytes, most_seconds):
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_SECONDS, MOST_SECONDS))
    parse("application/xml", b"<a/>", (), limit=100)  # what is imported at the first use
    parse("text/x-java-properties", b"a=\\b", (), limit=100)
    for body in bodies(max_bytes, [family]):
        _tell(body.name)
        _tell(body.name, len(body.content), body.is_compressed, *measure(body, most_seconds))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
