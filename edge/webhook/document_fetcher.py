"""Fetches small documents over HTTPS, with limits on size, time and destination.

No redirect is followed, no cookie is stored, no proxy of the environment is used. Addresses are checked when a socket
is about to connect, after DNS.
"""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import Any, Final

from flowhook.security.address_policy import AddressPolicy

MAX_DOCUMENT_BYTES: Final = 256 * 1024
SECONDS: Final = 5.0  # timeout for fetching a document


class FetchError(Exception):
    """A document can't be fetched now; the text gives the cause and contains nothing that was sent or received."""


class DocumentFetcher:
    """The only HTTP client session of an edge, opened on first use."""

    def __init__(self, *, address_policy: AddressPolicy) -> None:
        """Fetch from the addresses that the policy permits; also over http from this machine, if it is one of them."""
        self._address_policy = address_policy
        self._documents: Any = None
        """`DocumentSession`: its module is imported on first use."""

    async def close(self) -> None:
        """Close the session."""
        if self._documents is not None:
            await self._documents.close()

    async def fetch(self, url: str, body: bytes = b"") -> bytes | None:
        """Return a document; None when the server reports that it does not exist.

        Args:
            url: https URL, percent-encoded.
            body: JSON to POST; empty: GET.

        Raises:
            FetchError: there is no response, or it is late, too large, or has an unexpected status.
        """
        if self._documents is None:
            # it imports aiohttp, 7 MiB and 65 ms, and most edges fetch nothing; in a thread, so that senders don't wait
            module = await asyncio.to_thread(import_module, "edge.webhook.document_session")
            if self._documents is None:  # no concurrent call was faster
                self._documents = module.DocumentSession(address_policy=self._address_policy)
        document: bytes | None = await self._documents.fetch(url, body)
        return document
