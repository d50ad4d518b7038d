"""Work of every kind, for the processes that work is offloaded to."""

from __future__ import annotations

import os
import signal

from flowhook.errors import InvalidError

MIB = 1024 * 1024


def reverse(*parts):
    """Yield the parts the other way round."""
    for part in reversed(parts):
        yield part[::-1]


def process_id():
    """Yield the number of the process."""
    yield str(os.getpid()).encode()


def environment():
    """Yield the names of what there is in the environment."""
    yield from map(str.encode, os.environ)


def refuse(text):
    """Say no."""
    raise InvalidError(text.decode(), reason="BODY_INVALID")


def fail():
    """Have a defect."""
    raise ZeroDivisionError


def hang():
    """Never end, and take no memory: a fast machine would reach that limit first."""
    for _ in iter(int, 1):
        pass
    return []


def devour():
    """Take all the memory there is."""
    retained = []
    while True:
        retained.append(bytearray(16 * MIB))


def crash():
    """Die as a library in C dies."""
    os.kill(os.getpid(), signal.SIGSEGV)
    yield b""


def be_killed():
    """Die of somebody else's hand."""
    os.kill(os.getpid(), signal.SIGKILL)
    yield b""


def fail_in(process):
    """Find no memory in one process, and yield the number of any other one."""
    if str(os.getpid()).encode() == process:
        raise MemoryError
    yield from process_id()


def stop():
    """Stand still until somebody continues it."""
    os.kill(os.getpid(), signal.SIGSTOP)
    yield b""
