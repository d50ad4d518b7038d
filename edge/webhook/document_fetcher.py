"""Fetches small documents over HTTPS, with limits on size, time and destination.

No redirect is followed, no cookie is stored, no proxy of the environment is used. Addresses are checked when a socket
is about to connect, after DNS.
"""

from __future__ import annotations

import asyncio
import ssl
from importlib import import_module
from typing import TYPE_CHECKING, Final

import attrs

import flowhook
from flowhook.security.address_policy import AddressPolicy, open_socket

if TYPE_CHECKING:
    import aiohttp

MAX_DOCUMENT_BYTES: Final = 256 * 1024
SECONDS: Final = 5.0  # timeout for fetching a document
MAX_CONNECTIONS: Final = 16
_OK: Final = 200
_NOT_THERE: Final = frozenset({400, 403, 404, 410})
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class FetchError(Exception):
    """A document can't be fetched now; the text gives the cause and contains nothing that was sent or received."""


@attrs.define(eq=False, repr=False)
class DocumentFetcher:
    """An edge's only HTTP client session, opened on first use; to permitted addresses, http only to this machine."""

    _address_policy: AddressPolicy
    _session: aiohttp.ClientSession | None = attrs.field(init=False, default=None)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def fetch(self, url: str, body: bytes = b"") -> bytes | None:
        """Return a document; None when the server reports that it does not exist.

        Args:
            url: https URL, percent-encoded.
            body: JSON to POST; empty: GET.

        Raises:
            FetchError: there is no response, or it is late, too large, or has an unexpected status.
        """
        if self._session is None:
            # 7 MiB and 65 ms, and most edges fetch nothing; in a thread, so that senders don't wait
            await asyncio.to_thread(import_module, "aiohttp")
        aiohttp = import_module("aiohttp")
        target = import_module("yarl").URL(url, encoded=True)
        if target.scheme != "https" and (self._address_policy is AddressPolicy.PUBLIC or target.host not in _LOOPBACK):
            raise FetchError("it is not https")
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=MAX_CONNECTIONS,
                socket_factory=lambda info: open_socket(info, self._address_policy),
                ssl=ssl.create_default_context(),
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                timeout=aiohttp.ClientTimeout(total=None),
                headers={"User-Agent": f"flowhook/{flowhook.__version__}"},
            )
        headers = {"Content-Type": "application/json"} if body else {}
        try:
            async with (
                asyncio.timeout(SECONDS),
                self._session.request(
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


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    parts, size = [], 0
    async for part in answer.content.iter_any():
        size += len(part)
        if size > MAX_DOCUMENT_BYTES:
            raise FetchError(f"the answer is larger than {MAX_DOCUMENT_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)
