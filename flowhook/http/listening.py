"""Sockets that accept connections, and go on doing so when the process has run out of file descriptors.

Event loops call the acceptor as long as a connection waits. Without a free descriptor it can't be accepted, so the
call fails at once and is repeated at once: that takes all CPU time, and each failure logs a traceback.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final

from flowhook.errors import UnavailableError
from flowhook.process import logs

BACKLOG: Final = 1024  # connections that the kernel queues until they are accepted
# time for which nothing is accepted after a failure: connections wait in the kernel's queue
PAUSE_SECONDS: Final = 0.25
LOG_SECONDS: Final = 60.0  # minimum time between two lines in the log about failures
# errors of accept(2) that last until others give something back
EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def peer_address(peer: str) -> IPv4Address | IPv6Address:
    """Parse a peer's address as sockets report it; IPv4-mapped addresses become IPv4, scope IDs are dropped."""
    address = ip_address(peer.partition("%")[0])
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


log = logs.get_logger(__name__)


class ListeningSocket(socket.socket):
    """A listening socket; it pauses when there is no descriptor for a connection."""

    # stops the event loop from reporting connections of this socket; the acceptor sets it
    stop: Callable[[], None] | None = None
    go_on: Callable[[], None] | None = None  # has it report them again
    _failures = 0
    _logged = -LOG_SECONDS

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection; `BlockingIOError` if none waits, or it can't be accepted now."""
        try:
            return super().accept()
        except OSError as error:
            if error.errno not in EXHAUSTED:
                raise
            self._pause(error)
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from None

    def _pause(self, error: OSError) -> None:
        self._failures += 1
        if self.stop is not None:
            self.stop()
            asyncio.get_running_loop().call_later(PAUSE_SECONDS, self._resume)
        now = time.monotonic()
        if now - self._logged >= LOG_SECONDS:
            log.warning("no connection can be accepted", cause=error.strerror, failures=self._failures)
            self._logged, self._failures = now, 0

    def _resume(self) -> None:
        if self.go_on is not None and self.fileno() != -1:  # it is open
            self.go_on()


def listen(host: str, port: int, *, reuse_port: bool = False) -> list[ListeningSocket]:
    """Return listening sockets for all addresses of `host` (empty: of this machine), with the same port. Blocking.

    Port 0 lets the system choose; `reuse_port`: several processes may share it.
    """
    sockets: list[ListeningSocket] = []
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, address in dict.fromkeys((each[0], each[4]) for each in found):
            if port == 0 and sockets:
                address = (address[0], sockets[0].getsockname()[1], *address[2:])  # noqa: PLW2901 - one port for all
            made = socket.create_server(address, family=family, backlog=BACKLOG, reuse_port=reuse_port)
            sockets.append(ListeningSocket(fileno=made.detach()))
            sockets[-1].setblocking(False)
    except OSError as error:
        for each in sockets:
            each.close()
        # Python appends the attempted operation to its own text; errors of name resolution have negative numbers
        cause = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise UnavailableError(f"can't listen on {host}:{port}: {cause}", reason="PORT_UNAVAILABLE") from None
    return sockets
