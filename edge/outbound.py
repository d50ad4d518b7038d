"""What an edge asks of others: small documents over HTTPS, within bounds of size, time and place.

No redirect is followed, no cookie kept, no proxy of the environment used. Addresses are checked when a socket is about
to connect, after DNS.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, Final

import aiohttp
from yarl import URL

import flowhook
from flowhook.addresses import open_socket

MAX_DOCUMENT_BYTES: Final = 256 * 1024
SECONDS: Final = 5.0
"""Within which a document has to be there."""

MAX_CONNECTIONS: Final = 16

_OK: Final = 200
_NOT_THERE: Final = frozenset({400, 403, 404, 410})
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class FetchError(Exception):
    """There is no document to be had now; the text says why and holds nothing that was sent or received."""


class Outbound:
    """The one session of an edge, opened when it is first needed."""

    def __init__(self, *, allow_private_addresses: bool) -> None:
        """Fetch from public addresses alone, unless others are allowed; then also by http from this machine."""
        self._allow_private = allow_private_addresses
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close what is open."""
        if self._session is not None:
            await self._session.close()

    async def fetch(self, url: str, body: bytes = b"") -> bytes | None:
        """Return a document; None where the server says that there is no such thing.

        Args:
            url: https, with its percent-encoding.
            body: JSON to POST; empty: GET.

        Raises:
            FetchError: no answer, not in time, too large, or one that says nothing.
        """
        target = URL(url, encoded=True)
        if target.scheme != "https" and not (self._allow_private and target.host in _LOOPBACK):
            raise FetchError("it is not https")
        headers = {"Content-Type": "application/json"} if body else {}
        try:
            async with (
                asyncio.timeout(SECONDS),
                self._open().request(
                    "POST" if body else "GET", target, data=body or None, headers=headers, allow_redirects=False
                ) as answer,
            ):
                if answer.status in _NOT_THERE:
                    return None
                if answer.status != _OK:
                    raise FetchError(f"the server answers {answer.status}")
                return await _read(answer)
        except TimeoutError:
            raise FetchError(f"no answer within {SECONDS:.0f} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise FetchError(f"no answer ({type(error).__name__})") from None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=MAX_CONNECTIONS, socket_factory=self._open_socket, ssl=ssl.create_default_context()
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                timeout=aiohttp.ClientTimeout(total=None),
                headers={"User-Agent": f"flowhook/{flowhook.__version__}"},
            )
        return self._session

    def _open_socket(self, info: tuple[Any, ...]) -> Any:
        return open_socket(info, allow_private_addresses=self._allow_private)


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    parts, size = [], 0
    async for part in answer.content.iter_any():
        size += len(part)
        if size > MAX_DOCUMENT_BYTES:
            raise FetchError(f"the answer is larger than {MAX_DOCUMENT_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)
