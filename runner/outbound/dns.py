"""Resolves host names for outbound connections; `flowhook.security.address_policy` decides which addresses are allowed.

A name server that does not answer blocks a thread until the system's resolver times out. Each lookup therefore runs in
its own thread, at most `MAX_LOOKUPS` at a time. The event loop's default executor has few threads and is shared with
other work.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import os
import socket
import ssl
import threading
import weakref
from collections.abc import Sequence
from typing import Any, Final

import aiohappyeyeballs

from flowhook.security.address_policy import POLICY, AddressPolicy, is_policy_error, open_socket
from runner.interpreter.errors import Kind, fault

MAX_LOOKUPS: Final = 64  # maximum number of concurrent lookups; further ones wait until the deadline of their call
# status of the error for a call to a forbidden address; not a transient status, so the call is not retried
FORBIDDEN: Final = 403
# one entry of the list that `socket.getaddrinfo` returns
Info = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]

_slots: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]] = weakref.WeakKeyDictionary()
# Delay before the next address is tried in parallel (happy eyeballs). Source: RFC 8305, section 5.
HEAD_START_SECONDS: Final = 0.25
# TLS context. Created on import: the environment says where certificates are, and a child clears its environment later.
TLS: Final = ssl.create_default_context()
# file with the trusted CA certificates, for libraries with their own TLS; None: this system has no such file
TRUSTED_ROOTS: Final = ssl.get_default_verify_paths().cafile


async def lookup(host: str, port: int, *, family: socket.AddressFamily = socket.AF_UNSPEC) -> Sequence[Info]:
    """Return the addresses of a host for TCP; the caller sets the deadline.

    Raises:
        OSError: the name can't be resolved (`socket.gaierror`).
        UnicodeError: the host is not a valid name.
    """
    loop = asyncio.get_running_loop()
    slots = _slots.setdefault(loop, asyncio.Semaphore(MAX_LOOKUPS))
    await slots.acquire()
    found: asyncio.Future[Sequence[Info]] = loop.create_future()

    def settle(outcome: Sequence[Info] | OSError | UnicodeError) -> None:
        slots.release()  # the thread is done, even if the caller was cancelled
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
        slots.release()
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from None
    return await found


def numeric_host(address: tuple[Any, ...]) -> str:
    """Return the host of a socket address, with its scope ID if it has one."""
    host, scope = str(address[0]), address[3] if len(address) > 3 else 0  # noqa: PLR2004 - (host, port, flow, scope)
    return f"{host}%{scope}" if scope and "%" not in host else host


def refused_status(problem: BaseException) -> int | None:
    """Return the error status for a connection that failed; None: the default status of the error type."""
    return FORBIDDEN if is_policy_error(problem) else None


def connect_cause(problem: BaseException) -> str:
    """Return why a connection failed, for errors that users see; empty: unknown."""
    if POLICY in str(problem):
        return POLICY
    if isinstance(problem, socket.gaierror | UnicodeError):
        return "the name can't be resolved"
    return f"can't connect ({os.strerror(problem.errno)})" if isinstance(problem, OSError) and problem.errno else ""


async def connect(host: str, port: int, *, address_policy: AddressPolicy) -> socket.socket:
    """Return a socket that is connected to one of the addresses of a host; the caller closes it.

    The policy is applied to each resolved address, so that no name can bypass it. The caller sets the deadline.

    Raises:
        socket.gaierror: the name can't be resolved.
        OSError: no address can be reached, or the policy allows none (`address_policy.POLICY`).
    """
    return await aiohappyeyeballs.start_connection(
        await lookup(host, port),
        happy_eyeballs_delay=HEAD_START_SECONDS,
        socket_factory=functools.partial(open_socket, policy=address_policy),
        loop=asyncio.get_running_loop(),
    )


async def dial(host: str, port: int, *, address_policy: AddressPolicy) -> tuple[str, int]:
    """Return an address of a host at which a server accepts connections, for libraries that open them themselves.

    These would resolve the name again, where the policy can't be applied: they get the address, and the name for TLS
    only. The caller sets the deadline.

    Raises:
        TaskFault: no address can be reached, or the policy allows none (communication).
    """
    try:
        connected = await connect(host, port, address_policy=address_policy)
    except (OSError, UnicodeError) as problem:
        cause = connect_cause(problem) or "can't connect"
        raise fault(Kind.COMMUNICATION, f"{host}:{port}: {cause}", status=refused_status(problem)) from None
    with connected:
        found: tuple[str, int] = connected.getpeername()[:2]
    return found


class NamedTls(ssl.SSLContext):
    """A TLS context for one server by its name, whatever the library that uses it believes the name to be."""

    _name: str

    @classmethod
    def of(cls, name: str) -> NamedTls:
        context = cls(ssl.PROTOCOL_TLS_CLIENT)
        context._name = name
        if TRUSTED_ROOTS:
            context.load_verify_locations(TRUSTED_ROOTS)
        else:
            context.load_default_certs()
        return context

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **options: Any) -> ssl.SSLObject:
        del args
        return super().wrap_bio(incoming, outgoing, **{**options, "server_side": False, "server_hostname": self._name})

    def wrap_socket(self, sock: socket.socket, *args: Any, **options: Any) -> ssl.SSLSocket:
        del args
        return super().wrap_socket(sock, **{**options, "server_side": False, "server_hostname": self._name})
