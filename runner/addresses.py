"""Names towards the world, and how they are looked up; which addresses may be reached says `flowhook.addresses`.

A name server that does not answer holds a thread for as long as the system's resolver is patient. So each lookup has a
thread of its own, of which there are many; those of the event loop are few, and others' as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import threading
import weakref
from collections.abc import Sequence
from typing import Any, Final

from flowhook.addresses import is_refusal

MAX_LOOKUPS: Final = 64
"""Names that are looked up at a time; further ones wait, for as long as their calls may."""

FORBIDDEN: Final = 403
"""Status of the error of a call to an address that is not allowed: no transient one, so that it is not tried again."""

Info = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]
"""What `socket.getaddrinfo` returns a list of."""

_places: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]] = weakref.WeakKeyDictionary()


async def lookup(host: str, port: int, *, family: socket.AddressFamily = socket.AF_UNSPEC) -> Sequence[Info]:
    """Return the addresses of a host for TCP; the caller sets the deadline.

    Raises:
        OSError: the name can't be resolved (`socket.gaierror`).
        UnicodeError: it is no name.
    """
    loop = asyncio.get_running_loop()
    places = _places.setdefault(loop, asyncio.Semaphore(MAX_LOOKUPS))
    await places.acquire()
    found: asyncio.Future[Sequence[Info]] = loop.create_future()

    def settle(outcome: Sequence[Info] | OSError | UnicodeError) -> None:
        places.release()  # now that the thread is done, whether or not anybody waits any more
        if found.done():
            return
        if isinstance(outcome, OSError | UnicodeError):
            found.set_exception(outcome)
        else:
            found.set_result(outcome)

    def run() -> None:
        outcome: Sequence[Info] | OSError | UnicodeError
        try:
            outcome = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        except (OSError, UnicodeError) as problem:
            outcome = problem
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, outcome)

    try:
        threading.Thread(target=run, name="lookup", daemon=True).start()
    except RuntimeError:
        places.release()
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from None
    return await found


def numeric_host(address: tuple[Any, ...]) -> str:
    """Return the host of a socket's address, with its scope where it has one."""
    host, scope = str(address[0]), address[3] if len(address) > 3 else 0  # noqa: PLR2004 - (host, port, flow, scope)
    return f"{host}%{scope}" if scope and "%" not in host else host


def refused_status(problem: BaseException) -> int | None:
    """Return the status of the error for a connection that could not be made; None: the type's own."""
    return FORBIDDEN if is_refusal(problem) else None
