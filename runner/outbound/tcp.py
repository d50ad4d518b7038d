"""Opens outbound TCP connections for protocols other than HTTP, under the same address policy (see `dns`)."""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from typing import Final

import aiohappyeyeballs

from flowhook.security.address_policy import AddressPolicy, open_socket
from runner.outbound.dns import lookup

HEAD_START_SECONDS: Final = 0.25
"""Delay before the next address is tried in parallel (happy eyeballs). Source: RFC 8305, section 5."""

TLS: Final = ssl.create_default_context()
"""TLS context.

Created on import: the environment says where certificates are, and a child clears its environment later.
"""
TRUSTED_ROOTS: Final = ssl.get_default_verify_paths().cafile
"""File with the trusted CA certificates, for libraries with their own TLS; None: this system has no such file."""


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
