"""Names and addresses towards the world: which ones may be connected to, and how names are looked up.

The policy is applied to the address a socket is about to connect to, after DNS, so that neither a name, nor a literal,
nor an odd notation gets around it.

A name server that does not answer holds a thread for as long as the system's resolver is patient. So each lookup has a
thread of its own, of which there are many; those of the event loop are few, and others' as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import socket
import threading
import weakref
from collections.abc import Sequence
from typing import Any, Final

MAX_LOOKUPS: Final = 64
"""Names that are looked up at a time; further ones wait, for as long as their calls may."""

POLICY: Final = "the address is not allowed (private, loopback, link-local or reserved)"

_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_NAT64_LOCAL: Final = ipaddress.ip_network("64:ff9b:1::/48")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Info = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]
"""What `socket.getaddrinfo` returns a list of."""

_places: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]] = weakref.WeakKeyDictionary()


def open_socket(info: tuple[Any, ...], *, allow_private_addresses: bool) -> socket.socket:
    """Return a socket that is about to connect to an address, given as `getaddrinfo` does.

    Raises:
        OSError: the policy does not allow the address (`POLICY`), or there are no more sockets.
    """
    family, kind, protocol, _, address = info
    if not allow_private_addresses and not is_public(ipaddress.ip_address(address[0].partition("%")[0])):
        raise OSError(errno.EACCES, POLICY)
    return socket.socket(family, kind, protocol)


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public Internet, looking into those that embed another one.

    Source: IANA special-purpose address registries, as in Python's `ipaddress`; RFC 6052 (NAT64), RFC 3056 (6to4).
    """
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and (address in _NAT64 or int(address) >> 32 == 0):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address in _NAT64_LOCAL or address.teredo is not None or address.is_site_local:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


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
