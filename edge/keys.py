"""Public keys that stand elsewhere, fetched before verification asks for them; see `flowhook.signatures.fetched`.

Whose key is fetched is up to a sender who has proved nothing. So what is known, because it was there and had keys, is
kept apart from what is merely named: made-up names neither take its place nor use up the pace at which documents of its
publisher are fetched again. What is named for the first time is fetched at a bounded pace of its own.

One that is known is fetched again now and then, so that keys that are withdrawn die, and at once for a key ID that it
doesn't have, for issuers rotate theirs; but not more often than every `AGAIN_SECONDS`. Where nobody answers, what is
known stays good for a while: an issuer's outage isn't ours.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

from edge.outbound import FetchError, Outbound
from edge.refusals import LimitedLog
from flowhook.signatures import KeyedVerifier, KeyRequest, RequestView

FRESH_SECONDS: Final = 600.0
"""After which a document is fetched again."""

KEPT_SECONDS: Final = 24 * 3600.0
"""For which a document is good that can't be fetched again."""

AGAIN_SECONDS: Final = 10.0
"""Between two attempts to fetch the same document."""

WAIT_SECONDS: Final = 6.0
"""For which a request waits for its key."""

MAX_DOCUMENTS: Final = 1000
"""That are known."""

MAX_NAMED: Final = 1000
"""Documents that were named lately and aren't known: those named last."""

MAX_PUBLISHERS: Final = 1000
FETCHES_PER_MINUTE: Final = 30
"""Of the documents of one publisher that are known, and as many of those that are not."""


_Name = tuple[str, bytes]
"""Of a document: its URL, and what is posted there."""

K = TypeVar("K")
V = TypeVar("V")


class _Document:
    """A document as far as it is known.

    Attributes:
        keys: by ID; empty until it was fetched.
        fetched_at: when that was.
        tried_at: when that was attempted last.
        is_awaited: whether it is being fetched: who finds its key here doesn't wait for that.
        lock: held meanwhile.
    """

    __slots__ = ("fetched_at", "is_awaited", "keys", "lock", "tried_at")

    def __init__(self) -> None:
        self.keys: Mapping[str, object] = {}
        self.fetched_at = self.tried_at = float("-inf")
        self.is_awaited = False
        self.lock = asyncio.Lock()


class Keys:
    """The cache."""

    def __init__(self, outbound: Outbound, log: LimitedLog, now: Callable[[], float]) -> None:
        """Fetch by `outbound`; `now` tells the time in seconds."""
        self._outbound = outbound
        self._log = log
        self._now = now
        self._known: OrderedDict[_Name, _Document] = OrderedDict()
        self._named: OrderedDict[_Name, _Document] = OrderedDict()
        self._paces: OrderedDict[tuple[str, bool], deque[float]] = OrderedDict()

    async def add(self, seen: RequestView, verifiers: Sequence[KeyedVerifier]) -> RequestView:
        """Return a request with the keys that verifiers want for it, as far as they can be had.

        Does not suspend when they are known.
        """
        keys: dict[KeyRequest[object], object] = {}
        for verifier in verifiers:
            wanted = verifier.wanted(seen)
            if wanted is None:
                continue
            try:
                keys[wanted] = await self._find(wanted)
            except (FetchError, TimeoutError) as error:
                cause = str(error) or "no answer in time"
                self._log.warning("keys can't be fetched", publisher=wanted.publisher, detail=cause)
        return seen._replace(keys={**seen.keys, **keys}) if keys else seen

    async def _find(self, wanted: KeyRequest[object]) -> object:
        """Return a key, or None where there is none of its ID.

        Raises:
            FetchError: nobody can say.
            TimeoutError: nobody could in time.
        """
        name = (wanted.url, wanted.body)
        document = self._known.get(name)
        if document is None:
            document = self._named.get(name) or _Document()
        else:
            self._known.move_to_end(name)
        if self._is_due(document, wanted.key_id):
            async with asyncio.timeout(WAIT_SECONDS), document.lock:
                if self._is_due(document, wanted.key_id):  # nobody has fetched it meanwhile
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
                _put(self._named, name, document, MAX_NAMED)
            content = await self._outbound.fetch(wanted.url, wanted.body)
            keys = {} if content is None else wanted.read(content)
        except (FetchError, ValueError) as error:
            cause = error if isinstance(error, FetchError) else FetchError("what is there can't be read")
            if wanted.key_id not in document.keys:
                raise cause from None
            self._log.warning("keys can't be fetched", publisher=wanted.publisher, detail=str(cause))
            return
        finally:
            document.tried_at, document.is_awaited = self._now(), False
        document.keys, document.fetched_at = keys, self._now()
        if keys:
            self._named.pop(name, None)
            _put(self._known, name, document, MAX_DOCUMENTS)
        else:
            self._known.pop(name, None)

    def _pace(self, publisher: str, *, known: bool) -> None:
        times = self._paces.get((publisher, known)) or deque(maxlen=FETCHES_PER_MINUTE)
        _put(self._paces, (publisher, known), times, MAX_PUBLISHERS)
        now = self._now()
        if len(times) == FETCHES_PER_MINUTE and now - times[0] < 60:  # noqa: PLR2004 - a minute
            raise FetchError("too many documents of this publisher were fetched lately")
        times.append(now)


def _put(table: OrderedDict[K, V], key: K, value: V, most: int) -> None:
    """Put an entry last, and drop the first of too many."""
    table[key] = value
    table.move_to_end(key)
    if len(table) > most:
        table.popitem(last=False)
