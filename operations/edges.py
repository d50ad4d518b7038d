"""Requests of operators to edges: their URL and trusted certificates, sending one, and one as a shell command."""

from __future__ import annotations

import asyncio
import re
import shlex
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

from flowhook.client import ProcessInfo, SignedRequest
from flowhook.errors import UnavailableError
from flowhook.model import Headers
from flowhook.process import tls_context
from operations import health

if TYPE_CHECKING:
    from aiohttp import StreamReader

    from flowhook.client import AsyncClient

LOOPBACK: Final = "127.0.0.1"
_WILDCARDS: Final = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound

# scheme, host and port: an edge's token allows to report anything, and people paste the URL into shells
_URL: Final = re.compile(r"https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


def reported_url(processes: Sequence[ProcessInfo], own_host: str) -> str:
    """Return the URL that an edge reports, one that is ready before others; pure.

    An edge that listens on all addresses is called by the name of its machine, or by the loopback address on
    `own_host`, which is the name of this machine.
    """
    edges = [process for process in processes if process.role == "edge" and process.url]
    for edge in sorted(edges, key=lambda process: (not health.is_ready(process), process.name)):
        url = _reachable(edge, own_host)
        if _URL.fullmatch(url):
            return url
    return ""


def _reachable(edge: ProcessInfo, own_host: str) -> str:
    try:
        parts = urlsplit(edge.url)
        if parts.hostname in _WILDCARDS:
            return f"{parts.scheme}://{LOOPBACK if edge.host == own_host else edge.host}:{parts.port or ''}".rstrip(":")
    except ValueError:
        return ""
    return edge.url


@dataclass(frozen=True, slots=True)
class EdgeAccess:
    """How edges are reached."""

    public_url: str = ""  # `FLOWHOOK_PUBLIC_URL`: scheme and host that senders use; empty: those that an edge reports
    ca_file: Path | None = None  # PEM certificates of authorities; None: those of the system
    # PEM certificate of the edges of this machine's cluster; comes before `ca_file` where there is no `public_url`,
    # which may be that of a proxy
    cert_file: Path | None = None

    async def url(self, client: AsyncClient) -> str:
        """Return scheme, host and port that senders use, without a slash at the end; empty if nobody knows them.

        Raises:
            UnavailableError: the router did not answer.
        """
        return self.public_url or reported_url(await client.cluster.processes(metrics=False), socket.gethostname())

    def context(self) -> ssl.SSLContext:
        """Return an SSL context. Blocking.

        Raises:
            InvalidError: a file can't be read, or contains no certificate (`TLS_FILE_UNREADABLE`).
        """
        if self.cert_file is not None and not self.public_url:
            return tls_context.context_for_certificate(self.cert_file)
        return tls_context.context_for_authorities(self.ca_file)


# seconds until the response must have been received: a flow may hold a request for 30 s, unless it says otherwise
TIMEOUT: Final = 40.0
CONNECT_TIMEOUT: Final = 5.0

MAX_RESPONSE: Final = 64 * 1024  # bytes of a response that are read
_AUTOMATIC: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")  # headers that aiohttp would add
_unreachable: Final = partial(UnavailableError, reason="EDGE_UNREACHABLE")


@dataclass(frozen=True, slots=True)
class EdgeResponse:
    """A response. `cut`: there was more of the body than `MAX_RESPONSE` bytes."""

    status: int
    reason: str
    headers: Headers
    body: bytes
    cut: bool


async def send_to_edge(request: SignedRequest, edges: EdgeAccess) -> EdgeResponse:
    """Send a request and return the response. Redirects are not followed, and nothing is sent a second time.

    Raises:
        UnavailableError: no edge answered in time, or its certificate is not trusted (`EDGE_UNREACHABLE`).
        InvalidError: see `EdgeAccess.context`.
    """
    import aiohttp  # noqa: PLC0415 - takes 100 ms and 15 MiB, for the first test event only
    import yarl  # noqa: PLC0415 - see above

    url = yarl.URL(request.url, encoded=True)
    trusted = await asyncio.to_thread(edges.context) if url.scheme == "https" else True
    headers = [(name, value.decode("utf-8", "replace")) for name, value in request.headers]
    timeout = aiohttp.ClientTimeout(total=TIMEOUT, sock_connect=CONNECT_TIMEOUT)
    origin = url.origin()
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, auto_decompress=False, skip_auto_headers=_AUTOMATIC) as session,
            session.request(
                request.method, url, headers=headers, data=request.body or None, ssl=trusted, allow_redirects=False
            ) as response,
        ):
            body = await _read(response.content)
            cut = len(body) > MAX_RESPONSE
            fields = tuple((name.decode("latin-1").lower(), value) for name, value in response.raw_headers)
            return EdgeResponse(response.status, response.reason or "", fields, body[:MAX_RESPONSE], cut)
    except aiohttp.ClientConnectorCertificateError as error:
        raise _unreachable(
            f"{origin} shows a certificate that is not trusted: {error.certificate_error}; "
            "FLOWHOOK_EDGE_CA_FILE of the admin process names those that are"
        ) from None
    except TimeoutError:
        raise _unreachable(f"{origin} did not answer in time; the event may have been accepted") from None
    except (aiohttp.ClientError, OSError) as error:
        cause = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise _unreachable(
            f"no answer from {origin}: {cause}. Is it the URL of an edge that this machine reaches? "
            "FLOWHOOK_PUBLIC_URL of the admin process sets a different one"
        ) from None


async def _read(content: StreamReader) -> bytes:
    body = bytearray()
    while len(body) <= MAX_RESPONSE and (chunk := await content.read(MAX_RESPONSE)):
        body += chunk
    return bytes(body)


PLACEHOLDER: Final = "$SECRET"

# bytes of a body that the command contains; a longer one is read from the file `body`, as most shells' limit is 128
# KiB for an argument
MAX_ARGUMENT: Final = 64 * 1024


def curl_line(request: SignedRequest) -> str:
    """Return a shell command that sends a request; the shell evaluates nothing of the request.

    `$SECRET` stands for a secret that the sender itself sends.

    Source: https://curl.se/docs/manpage.html; POSIX, 2.2 "Quoting".
    """
    arguments = ["curl", "--include", "--globoff", "--request", shlex.quote(request.method)]
    url = shlex.quote(request.url)
    for name, value in request.headers:
        text = value.decode("utf-8", "replace")
        arguments += ["--header", shlex.quote(f"{name}: {text}" if text else f"{name};")]
    match request.credential:
        case ("header", name):
            arguments += ["--header", f'{shlex.quote(f"{name}: ")}"{PLACEHOLDER}"']
        case ("basic", name):
            arguments += ["--user", f'{shlex.quote(f"{name}:")}"{PLACEHOLDER}"']
        case ("query", name):
            encoded, joint = quote(name, safe=""), "&" if "?" in request.url else "?"
            url = f'{shlex.quote(f"{request.url}{joint}{encoded}=")}"{PLACEHOLDER}"'
    if request.body:
        arguments += _data(request.body)
        if not any(name.lower() == "content-type" for name, _ in request.headers):
            arguments += ["--header", "content-type:"]  # else curl says that it is a form
    return " ".join([*arguments, url])


def _data(body: bytes) -> list[str]:
    """Return the option with the body; a body that is no argument is read from a file."""
    text = body.decode("utf-8", "replace")
    if len(body) > MAX_ARGUMENT or "\x00" in text or text.encode() != body:
        return ["--data-binary", "@body"]
    return ["--data-raw", shlex.quote(text)]
