"""Tells the router of refused requests, for operators to look at: a few of each flow, in batches, as well as it goes.

What is told holds no credential, not even one that came in the wrong place: of headers only those are shown that are
known to be harmless, of the others how long they are; of the query the names; of a one-time URL all but its token.

Why a signature does not match is found out when its sender has had the answer, by one thread, and of a few requests at
a time: what of them is kept meanwhile has a bound.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from edge.answers import Answer
from edge.directory import Directory
from edge.endpoints import Endpoint
from edge.http1 import Head
from edge.metrics import Counts
from edge.proxies import Address
from edge.refusals import Allowances
from edge.router import Router
from flowhook import ids, limits, logs
from flowhook.errors import FlowhookError
from flowhook.signatures import RequestView, SignatureError, credentials_of, repeats
from flowhook.signatures.diagnosis import MAX_OTHERS, Named, diagnose
from flowhook.v1.rejection_service_pb2 import Rejection
from flowhook.wire.convert import headers_to_proto, timestamp

FLUSH_SECONDS: Final = 0.5
MAX_BATCH: Final = 100
MAX_WAITING: Final = 1000
"""Rejections that wait to be told; beyond it they are only counted."""

MAX_DIAGNOSES: Final = 20
"""Requests that wait to be diagnosed; further ones are told without."""

MAX_DIAGNOSED_BYTES: Final = limits.MAX_BODY_BYTES
"""Of their bodies in all."""

MAX_BODY_BYTES: Final = 64 * 1024
MAX_TEXT: Final = 2048
MAX_DETAIL: Final = 1024
MAX_FIELDS: Final = 100
MAX_VALUE_BYTES: Final = 512

HARMLESS: Final = frozenset(
    {
        "accept",
        "accept-encoding",
        "accept-language",
        "cache-control",
        "ce-specversion",
        "ce-type",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "date",
        "expect",
        "host",
        "transfer-encoding",
        "user-agent",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-gitlab-event",
        "x-github-event",
        "x-shopify-topic",
    }
)
"""Headers whose values are shown: no sender puts a credential there."""


log = logs.get_logger(__name__)


class _Noted(NamedTuple):
    """A refused request: what is told of it and, where it is to be diagnosed, as what it came where."""

    rejection: Rejection
    endpoint: Endpoint
    seen: RequestView | None


class Rejections:
    """Collects refused requests; `run` must be running for any of them to be told."""

    def __init__(self, router: Router, directory: Directory, allowances: Allowances, counts: Counts) -> None:
        self._router = router
        self._directory = directory
        self._allowances = allowances
        self._counts = counts
        self._waiting: deque[_Noted] = deque()
        self._suspects = 0
        self._suspect_bytes = 0
        self._due = asyncio.Event()

    def note(
        self,
        endpoint: Endpoint,
        head: Head,
        address: Address,
        answer: Answer,
        *,
        error: SignatureError | None = None,
        seen: RequestView | None = None,
        now: float,
    ) -> None:
        """Take a refused request down, unless there were too many of this flow lately.

        Args:
            endpoint: that it was for.
            head: of the request.
            address: of the sender.
            answer: that the sender gets.
            error: why it is not authenticated, when that is the reason.
            seen: the request as it was verified, when it was.
            now: Unix time in seconds.
        """
        if not self._allowances.take(endpoint.flow_id):
            return
        if len(self._waiting) >= MAX_WAITING:
            self._counts.unreported += 1
            return
        detail = answer.reason if error is None else error.detail
        body = b"" if seen is None else seen.body
        path = head.path.rpartition("/")[0] + "/…" if endpoint.one_time else head.path
        rejection = Rejection(
            id=f"rej_{ids.mint(endpoint.slot, now_ms=int(now * 1000)).removeprefix(ids.PREFIX)}",
            flow_id=endpoint.flow_id,
            callback=endpoint.callback,
            time=timestamp(int(now * 1000)),
            status=answer.status,
            reason=answer.reason if error is None else error.reason,
            detail=detail[:MAX_DETAIL],
            address=str(address),
            method=head.method,
            path=_printable(path),
            query=_printable(_names_of(head.query)),
            headers=headers_to_proto(_shown(head.headers, _credentials(endpoint, head))),
            body_size=len(body) if body else head.length,
            body=body[:MAX_BODY_BYTES] if endpoint.keeps_rejected else b"",
            suppressed=self._allowances.kept_back(endpoint.flow_id),
        )
        mismatch = error is not None and error.reason == "SIGNATURE_MISMATCH"
        suspect = seen if mismatch and self._may_be_diagnosed(body) else None
        self._waiting.append(_Noted(rejection, endpoint, suspect))
        self._due.set()

    def _may_be_diagnosed(self, body: bytes) -> bool:
        """Whether there is room for one more request that waits for it; if so, it is taken."""
        if self._suspects >= MAX_DIAGNOSES or self._suspect_bytes + len(body) > MAX_DIAGNOSED_BYTES:
            return False
        self._suspects += 1
        self._suspect_bytes += len(body)
        return True

    async def _diagnosed(self, noted: _Noted) -> Rejection:
        """Return what is told of a request, with what would have made it pass, if that was to be found out."""
        rejection, endpoint, seen = noted
        if seen is not None:
            try:
                verifiers, others = [*endpoint.early, *endpoint.late], self._others(endpoint)
                now = rejection.time.seconds + rejection.time.nanos / 1e9
                hint = await asyncio.to_thread(diagnose, verifiers, seen, now, others)
            except Exception as error:  # noqa: BLE001 - no thread to be had, or a defect: it is told without, then
                log.error("a refused request can't be diagnosed", cause=type(error).__name__)  # noqa: TRY400 - no data
                hint = ""
            finally:
                self._suspects -= 1
                self._suspect_bytes -= len(seen.body)
            if hint:
                rejection.detail = f"{rejection.detail}; {hint}"[:MAX_DETAIL]
        return rejection

    def _others(self, endpoint: Endpoint) -> list[Named]:
        """Return other URLs whose credentials the sender may have used, those of the same flow first."""
        found: list[Named] = []
        for endpoints in self._directory.known(endpoint.flow_id, MAX_OTHERS):
            for other in endpoints.all()[: MAX_OTHERS - len(found)]:
                if other is not endpoint and other.asks:
                    callback = f"callback {other.callback} of " if other.callback else ""
                    found.append((f"{callback}flow {other.flow_id}", [*other.early, *other.late]))
        return found

    async def run(self) -> None:
        """Tell what was taken down, until cancelled."""
        while True:
            await self._due.wait()
            await asyncio.sleep(FLUSH_SECONDS)
            noted = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_BATCH))]
            batch = [await self._diagnosed(each) for each in noted]
            if not self._waiting:
                self._due.clear()
            try:
                await self._router.report(batch)
            except FlowhookError:
                self._counts.unreported += len(batch)


def _credentials(endpoint: Endpoint, head: Head) -> list[bytes]:
    """Return what was sent as a credential in the URL."""
    token = [head.path.rpartition("/")[2].encode()] if endpoint.one_time else []
    return token + credentials_of(head.query, endpoint.dropped_query)


def _shown(headers: Sequence[tuple[str, bytes]], credentials: Sequence[bytes]) -> list[tuple[str, bytes]]:
    return [
        (
            name,
            value[:MAX_VALUE_BYTES]
            if name in HARMLESS and not repeats(value, credentials)
            else b"[%d bytes]" % len(value),
        )
        for name, value in headers[:MAX_FIELDS]
    ]


def _names_of(query: str) -> str:
    """Return a query string without its values, percent-encoding kept."""
    return (
        "&".join(f"{field.partition('=')[0]}=…" if "=" in field else "…" for field in query.split("&")) if query else ""
    )


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()[:MAX_TEXT]
