"""A cache of published verification keys, fetched before verification; see `flowhook.signatures.types`.

An unverified sender chooses whose key is fetched. So known documents, which were fetched and had keys, are cached
separately from documents that requests have merely named. Made-up names neither evict known documents nor use up the
rate limit at which known documents of a publisher are fetched again. Documents named for the first time have a rate
limit of their own.

A known document is fetched again periodically, so that withdrawn keys expire, and at once for a key ID that it lacks,
because issuers rotate their keys; but at most once per `AGAIN_SECONDS`. If a fetch fails, the cached keys remain valid
for a while, so that an issuer's outage does not become an outage of the edge.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import attrs
from cachetools import LRUCache

from edge.webhook.document_fetcher import DocumentFetcher, FetchError
from edge.webhook.log_limiter import RateLimitedLogger
from flowhook.signatures.types import KeyedVerifier, KeyRequest, RequestView

FRESH_SECONDS: Final = 600.0  # age after which a document is fetched again
KEPT_SECONDS: Final = 24 * 3600.0  # age up to which a document that can't be fetched again stays valid
AGAIN_SECONDS: Final = 10.0  # minimum time between two attempts to fetch the same document
WAIT_SECONDS: Final = 6.0  # maximum time for which a request waits for its key
MAX_DOCUMENTS: Final = 1000  # known documents in the cache
MAX_NAMED: Final = 1000  # unknown documents in the cache, those that were named last
MAX_PUBLISHERS: Final = 1000
FETCHES_PER_MINUTE: Final = 30  # fetches of known documents of one publisher; as many again of unknown ones


_Name = tuple[str, bytes]  # identity of a document: its URL, and the body that is posted there


@attrs.define(eq=False, repr=False)
class _Document:
    """A cached document; times are seconds."""

    keys: Mapping[str, object] = attrs.field(factory=dict)  # by ID; empty until the document is fetched
    fetched_at: float = float("-inf")  # of the last successful fetch
    tried_at: float = float("-inf")  # of the last attempt
    is_awaited: bool = False  # whether a fetch is in progress; a request whose key is cached does not wait for it
    lock: asyncio.Lock = attrs.field(factory=asyncio.Lock)  # held during a fetch


@attrs.define(eq=False, repr=False)
class KeyCache:
    """The key cache; `now` returns the time in seconds."""

    _fetcher: DocumentFetcher
    _logger: RateLimitedLogger
    _now: Callable[[], float]
    _known: LRUCache[_Name, _Document] = attrs.field(init=False, factory=lambda: LRUCache(MAX_DOCUMENTS))
    _named: LRUCache[_Name, _Document] = attrs.field(init=False, factory=lambda: LRUCache(MAX_NAMED))
    _paces: LRUCache[tuple[str, bool], deque[float]] = attrs.field(init=False, factory=lambda: LRUCache(MAX_PUBLISHERS))

    async def with_keys(self, request_view: RequestView, verifiers: Sequence[KeyedVerifier]) -> RequestView:
        """Return a request with the keys that are available; does not suspend when all of them are cached."""
        keys: dict[KeyRequest[object], object] = {}
        for verifier in verifiers:
            wanted = verifier.key_request(request_view)
            if wanted is None:
                continue
            try:
                keys[wanted] = await self._find(wanted)
            except (FetchError, TimeoutError) as error:
                cause = str(error) or "no answer in time"
                self._logger.warning("keys can't be fetched", publisher=wanted.publisher, detail=cause)
        return request_view._replace(keys={**request_view.keys, **keys}) if keys else request_view

    async def _find(self, wanted: KeyRequest[object]) -> object:
        """Return a key, or None when the document has no key of that ID; FetchError, TimeoutError: it is not there."""
        name = (wanted.url, wanted.body)
        document = self._known.get(name) or self._named.get(name) or _Document()
        if self._is_due(document, wanted.key_id):
            async with asyncio.timeout(WAIT_SECONDS), document.lock:
                if self._is_due(document, wanted.key_id):  # no other request has fetched it meanwhile
                    document.is_awaited = True
                    await self._fetch(wanted, document)
        if self._now() - document.fetched_at > KEPT_SECONDS:
            raise FetchError("it could not be fetched lately")
        return document.keys.get(wanted.key_id)

    def _is_due(self, document: _Document, key_id: str) -> bool:
        now = self._now()
        if key_id in document.keys and (now - document.fetched_at < FRESH_SECONDS or document.is_awaited):
            return False
        return now - document.tried_at >= AGAIN_SECONDS

    async def _fetch(self, wanted: KeyRequest[object], document: _Document) -> None:
        name = (wanted.url, wanted.body)
        try:
            self._pace(wanted.publisher, known=name in self._known)
            if name not in self._known:
                self._named[name] = document
            content = await self._fetcher.fetch(wanted.url, wanted.body)
            keys = {} if content is None else wanted.read(content)
        except (FetchError, ValueError) as error:
            cause = error if isinstance(error, FetchError) else FetchError("what is there can't be read")
            if wanted.key_id not in document.keys:
                raise cause from None
            self._logger.warning("keys can't be fetched", publisher=wanted.publisher, detail=str(cause))
            return
        finally:
            document.tried_at, document.is_awaited = self._now(), False
        document.keys, document.fetched_at = keys, self._now()
        if keys:
            self._named.pop(name, None)
            self._known[name] = document
        else:
            self._known.pop(name, None)

    def _pace(self, publisher: str, *, known: bool) -> None:
        times = self._paces.get((publisher, known)) or deque(maxlen=FETCHES_PER_MINUTE)
        self._paces[publisher, known] = times
        now = self._now()
        if len(times) == FETCHES_PER_MINUTE and now - times[0] < 60:  # noqa: PLR2004 - a minute
            raise FetchError("too many documents of this publisher were fetched lately")
        times.append(now)
