"""Ports that nobody takes by chance while what listens on them is down."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

_LOWEST, _HIGHEST = 20_000, 32_000  # below what Linux gives to outgoing connections and to port 0: 32,768 and more


def free_port() -> int:
    """Return a port of the loopback address on which nobody listens, and which the system does not give out itself."""
    while True:
        port = random.randint(_LOWEST, _HIGHEST)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
