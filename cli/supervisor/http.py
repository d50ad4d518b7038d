"""The one HTTP question a supervisor asks: what does this path answer?"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import ssl

TIMEOUT: Final = 60.0
"""Seconds for an answer. A process that has little of the machine takes long, and its answer is worth waiting for; one
that is gone closes the connection. It is there for an answer that never comes."""

MAX_BYTES: Final = 65536
"""Of an answer that are read."""


async def ask(method: str, address: str, path: str, *, tls: bool = False, proxied: bool = False) -> tuple[int, bytes]:
    """Return status and body that `address` (`host:port`) answers; status 0 when it does not, within `TIMEOUT`.

    Args:
        method: of the request.
        address: of a process of this cluster; nothing that is secret goes there.
        path: of the request.
        tls: whether to speak TLS; whose certificate it is is not asked.
        proxied: whether connections begin with a header of the PROXY protocol; this one's says that it is nobody's.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    try:
        async with asyncio.timeout(TIMEOUT):
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                if proxied:
                    writer.write(b"PROXY UNKNOWN\r\n")
                if tls:
                    await writer.start_tls(_any_certificate())
                writer.write(f"{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
                await writer.drain()
                answer = b""
                while len(answer) < MAX_BYTES and (part := await reader.read(MAX_BYTES)):
                    answer += part
            finally:
                writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body
    except (OSError, TimeoutError, IndexError, ValueError):
        return 0, b""


def _any_certificate() -> ssl.SSLContext:
    """Return a context that believes every certificate.

    The supervisor asks a process that it started itself, on this machine, whether it serves; it sends nothing that
    somebody else could use. The certificate names the host that senders use, so that it would not be right for this
    address, and one that has expired is no reason to say that nothing is served.
    """
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
