"""A minimal HTTP client, with which the supervisor probes a path of a process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import ssl

# seconds to wait for a response. A process that gets little CPU time responds late, and its response is worth waiting
# for; one that has died closes the connection. The timeout covers a response that never arrives.
TIMEOUT: Final = 60.0
MAX_BYTES: Final = 65536  # bytes of a response that are read


async def probe(
    method: str, address: str, path: str, *, tls: bool = False, proxied: bool = False, timeout_seconds: float = TIMEOUT
) -> tuple[int, bytes]:
    """Send a request to a process of this cluster (`host:port`); return status and body, or status 0 if absent in time.

    Nothing secret is sent. `tls`: the certificate is not verified. `proxied`: begin with a PROXY protocol header, which
    names no sender (`UNKNOWN`).
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    try:
        async with asyncio.timeout(timeout_seconds):
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
    """Return a context that accepts every certificate.

    The supervisor probes a process that it started itself, on this machine, and sends nothing that others could use.
    The certificate is for the host that senders use, so it would not match this address; and a process with an expired
    certificate does serve.
    """
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
