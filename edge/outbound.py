"""What an edge asks of others: small documents over HTTPS, within bounds of size, time and place.

No redirect is followed, no cookie kept, no proxy of the environment used. Addresses are checked when a socket is about
to connect, after DNS.
"""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from edge.documents import Documents

MAX_DOCUMENT_BYTES: Final = 256 * 1024
SECONDS: Final = 5.0
"""Within which a document has to be there."""


class FetchError(Exception):
    """There is no document to be had now; the text says why and holds nothing that was sent or received."""


class Outbound:
    """The one session of an edge, opened when it is first needed."""

    def __init__(self, *, allow_private_addresses: bool) -> None:
        """Fetch from public addresses alone, unless others are allowed; then also by http from this machine."""
        self._allow_private = allow_private_addresses
        self._documents: Documents | None = None

    async def close(self) -> None:
        """Close what is open."""
        if self._documents is not None:
            await self._documents.close()

    async def fetch(self, url: str, body: bytes = b"") -> bytes | None:
        """Return a document; None where the server says that there is no such thing.

        Args:
            url: https, with its percent-encoding.
            body: JSON to POST; empty: GET.

        Raises:
            FetchError: no answer, not in time, too large, or one that says nothing.
        """
        if self._documents is None:
            # with aiohttp, 7 MiB and 65 ms: most edges fetch nothing; in a thread, so that senders don't wait for it
            module = await asyncio.to_thread(import_module, "edge.documents")
            if self._documents is None:  # nobody was quicker
                self._documents = module.Documents(allow_private_addresses=self._allow_private)
        return await self._documents.fetch(url, body)
