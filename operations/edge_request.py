"""Sends a signed request to an edge, as a sender does, or writes it as a shell command."""

from __future__ import annotations

import asyncio
import shlex
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from flowhook.client import SignedRequest
from flowhook.errors import UnavailableError
from flowhook.model import Headers
from operations.edge_access import EdgeAccess

if TYPE_CHECKING:
    from aiohttp import StreamReader

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
