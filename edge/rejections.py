"""Tells the router of refused requests, for operators to look at: a few of each flow, in batches, as well as it goes.

What is told holds no credential: the values of headers and query parameters that carry one are left out, and the
token of a one-time URL.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from edge.answers import Answer
from edge.directory import Directory
from edge.endpoints import HOP_BY_HOP, Endpoint
from edge.http1 import Head
from edge.metrics import Counts
from edge.proxies import Address
from edge.refusals import Allowances
from edge.router import Router
from flowhook import ids
from flowhook.errors import FlowhookError
from flowhook.signatures import RequestView, SignatureError, strip_query
from flowhook.signatures.diagnosis import MAX_OTHERS, Named, diagnose
from flowhook.v1.rejection_service_pb2 import Rejection
from flowhook.wire.convert import headers_to_proto, timestamp

FLUSH_SECONDS: Final = 0.5
MAX_BATCH: Final = 100
MAX_WAITING: Final = 1000
"""Rejections that wait to be told; beyond it they are only counted."""

MAX_BODY_BYTES: Final = 64 * 1024
MAX_TEXT: Final = 2048
MAX_DETAIL: Final = 1024
MAX_FIELDS: Final = 100
MAX_VALUE_BYTES: Final = 512

REDACTED: Final = b"[redacted]"


class Rejections:
    """Collects refused requests; `run` must be running for any of them to be told."""

    def __init__(self, router: Router, directory: Directory, allowances: Allowances, counts: Counts) -> None:
        self._router = router
        self._directory = directory
        self._allowances = allowances
        self._counts = counts
        self._waiting: deque[Rejection] = deque()
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
        if error is not None and seen is not None and error.reason == "SIGNATURE_MISMATCH":
            hint = diagnose([*endpoint.early, *endpoint.late], seen, now, self._others(endpoint))
            detail = f"{detail}; {hint}" if hint else detail
        body = b"" if seen is None else seen.body
        path = head.path.rpartition("/")[0] + "/…" if endpoint.one_time else head.path
        self._waiting.append(
            Rejection(
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
                query=_printable(strip_query(head.query, endpoint.dropped_query)),
                headers=headers_to_proto(_shown(head.headers, endpoint)),
                body_size=len(body) if body else head.length,
                body=body[:MAX_BODY_BYTES] if endpoint.keeps_rejected else b"",
                suppressed=self._allowances.kept_back(endpoint.flow_id),
            )
        )
        self._due.set()

    def _others(self, endpoint: Endpoint) -> list[Named]:
        """Return other URLs whose credentials the sender may have used, those of the same flow first."""
        found: list[Named] = []
        for endpoints in self._directory.known(endpoint.flow_id, MAX_OTHERS):
            for other in endpoints.all():
                if other is not endpoint and other.asks:
                    callback = f"callback {other.callback} of " if other.callback else ""
                    found.append((f"{callback}flow {other.flow_id}", [*other.early, *other.late]))
        return found

    async def run(self) -> None:
        """Tell what was taken down, until cancelled."""
        while True:
            await self._due.wait()
            await asyncio.sleep(FLUSH_SECONDS)
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_BATCH))]
            if not self._waiting:
                self._due.clear()
            try:
                await self._router.report(batch)
            except FlowhookError:
                self._counts.unreported += len(batch)


def _shown(headers: Sequence[tuple[str, bytes]], endpoint: Endpoint) -> list[tuple[str, bytes]]:
    hidden: Any = endpoint.dropped_headers - HOP_BY_HOP
    return [(name, REDACTED if name in hidden else value[:MAX_VALUE_BYTES]) for name, value in headers[:MAX_FIELDS]]


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()[:MAX_TEXT]
