"""Fetches documents over HTTPS with aiohttp; `document_fetcher` imports this module on first use."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, Final

import aiohttp
from yarl import URL

import flowhook
from edge.webhook.document_fetcher import MAX_DOCUMENT_BYTES, SECONDS, FetchError
from flowhook.security.address_policy import AddressPolicy, open_socket

MAX_CONNECTIONS: Final = 16

_OK: Final = 200
_NOT_THERE: Final = frozenset({400, 403, 404, 410})
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class DocumentSession:
    """An HTTP client session. The caller must close it."""

    def __init__(self, *, address_policy: AddressPolicy) -> None:
        """See `DocumentFetcher`. Needs a running event loop."""
        self._address_policy = address_policy
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

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def fetch(self, url: str, body: bytes = b"") -> bytes | None:
        """See `DocumentFetcher.fetch`."""
        target = URL(url, encoded=True)
        if target.scheme != "https" and (self._address_policy is AddressPolicy.PUBLIC or target.host not in _LOOPBACK):
            raise FetchError("it is not https")
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

    def _open_socket(self, info: tuple[Any, ...]) -> Any:
        return open_socket(info, self._address_policy)


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    parts, size = [], 0
    async for part in answer.content.iter_any():
        size += len(part)
        if size > MAX_DOCUMENT_BYTES:
            raise FetchError(f"the answer is larger than {MAX_DOCUMENT_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)
