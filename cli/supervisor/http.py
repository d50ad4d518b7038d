"""The one HTTP question a supervisor asks: which status does this path have?"""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

TIMEOUT: Final = 2.0


async def status_of(method: str, address: str, path: str, *, tls: bool = False, proxied: bool = False) -> int:
    """Return the HTTP status of a request to `address` (`host:port`), or 0 when there is no answer within 2 s.

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
                line = await reader.readline()
            finally:
                writer.close()
        return int(line.split()[1])
    except (OSError, TimeoutError, IndexError, ValueError):
        return 0


def _any_certificate() -> ssl.SSLContext:
    """Return a context that believes every certificate.

    The supervisor asks a process that it started itself, on this machine, whether it serves; it sends nothing that
    somebody else could use. The certificate names the host that senders use, so that it would not be right for this
    address, and one that has expired is no reason to say that nothing is served.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
