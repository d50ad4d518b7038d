"""Reports refused requests to the router, for operators: a few per flow, in batches, on a best-effort basis.

What a report shows contains no credential, not even one in the wrong place. Of headers it contains the values that are
known to be harmless, and the lengths of the others; of the query, the names; of a one-time URL, all but the token. Only
if the flow stores refused requests, the request as it was received is enclosed apart, and the router encrypts it.

The cause of a signature mismatch is diagnosed after the sender got its response, by one thread, for a few requests at a
time. The memory of waiting requests is bounded.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from http import HTTPStatus
from typing import Final

import attrs

from edge.http.head import Head
from edge.http.peer import Peer
from edge.http.responses import Response
from edge.metrics import EdgeMetrics
from edge.router.client import RouterClient
from edge.router.flow_cache import FlowCache
from edge.webhook.acceptance import FILTERED, STORED
from edge.webhook.compiled_endpoints import CompiledEndpoint
from edge.webhook.log_limiter import PerFlowLimiter
from edge.webhook.stages import Delivery
from flowhook import limits
from flowhook.errors import FlowhookError
from flowhook.events import ids
from flowhook.model.rejections import RequestOutcome
from flowhook.process import logs
from flowhook.signatures.diagnosis import DIAGNOSED, MAX_OTHERS, NamedVerifiers, diagnose
from flowhook.signatures.request_values import contains_credential, credentials_of
from flowhook.signatures.types import RequestView, Verifier
from flowhook.v1.rejection_service_pb2 import OriginalRequest, Rejection
from flowhook.v1.rejection_service_pb2 import RequestOutcome as RequestOutcomeMessage
from flowhook.wire.convert import headers_to_proto, milliseconds, timestamp
from flowhook.wire.mapping import enum_to_proto

FLUSH_SECONDS: Final = 0.5
MAX_BATCH: Final = 100
MAX_WAITING: Final = 1000  # rejections that may wait to be reported; further ones are only counted
MAX_DIAGNOSES: Final = 20  # requests that may wait for a diagnosis; further ones are reported without one
MAX_DIAGNOSED_BYTES: Final = limits.MAX_BODY_BYTES  # total size of the bodies of these requests
MAX_BODY_BYTES: Final = 64 * 1024
# Size of the head of a request that can be accepted later: serialized, it is within the router's limit.
MAX_HEAD_BYTES: Final = 24 * 1024
MAX_TEXT: Final = 2048
MAX_DETAIL: Final = 1024
MAX_FIELDS: Final = 100
MAX_VALUE_BYTES: Final = 512

HARMLESS: Final = frozenset(
    {
        *("accept", "accept-encoding", "accept-language", "cache-control", "date", "host", "user-agent"),
        *("connection", "content-encoding", "content-length", "content-type", "expect", "transfer-encoding"),
        *("x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"),  # of proxies
        *("ce-specversion", "ce-type", "x-gitlab-event", "x-github-event", "x-shopify-topic"),  # the kind of event
    }
)
"""Headers whose values are reported: no sender puts a credential there."""


_OF_ANYBODY: Final = frozenset({RequestOutcome.REFUSED, RequestOutcome.HANDSHAKE})

log = logs.get_logger(__name__)


Explain = Callable[[Sequence[Verifier], RequestView, float, Sequence[NamedVerifiers], Iterable[NamedVerifiers]], str]
"""Explains why verifiers refuse a request, like `diagnose`. Blocking."""


@attrs.define(eq=False, repr=False)
class RejectionReporter:
    """Collects refused requests. None is reported unless `run` is running.

    It reports to `router`, with a hint by `explain`, every `flush_seconds`.
    """

    _router: RouterClient
    _flow_cache: FlowCache
    _limiter: PerFlowLimiter
    _metrics: EdgeMetrics
    # of what was not refused and not just anybody sends, so that neither hides the other; None: the same
    _other_limiter: PerFlowLimiter | None = attrs.field(default=None, kw_only=True)
    _explain: Explain = attrs.field(default=diagnose, kw_only=True)
    _flush_seconds: float = attrs.field(default=FLUSH_SECONDS, kw_only=True)
    # reports, and the requests to diagnose
    _waiting: deque[tuple[Rejection, Delivery | None]] = attrs.field(init=False, factory=deque)
    _suspects: int = attrs.field(init=False, default=0)
    _suspect_bytes: int = attrs.field(init=False, default=0)
    _due: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)

    def record(
        self, delivery: Delivery, peer: Peer, response: Response, error: FlowhookError | None, now: float
    ) -> None:
        """Record a refused request, or another that became no execution, unless the rate limit of its flow is exceeded.

        `error` is what operators learn of the cause, if that is more than the sender does. `peer` may be a proxy of the
        sender. `now` is Unix time in seconds.
        """
        endpoint, head, outcome = delivery.endpoint, delivery.head, delivery.outcome or _outcome(response)
        limiter = self._limiter if outcome in _OF_ANYBODY else self._other_limiter or self._limiter
        if not limiter.admit(endpoint.flow_id):
            return
        if len(self._waiting) >= MAX_WAITING:
            self._metrics.unreported += 1
            return
        reason = detail = response.reason or outcome.name
        if error is not None:
            reason, detail = error.reason, error.message
        elif delivery.event_id:
            reason, detail = outcome.name, f"the event is {delivery.event_id}"
        body = delivery.request.body
        stores_body = endpoint.stores_rejected_bodies or reason in STORED
        path = head.path.rpartition("/")[0] + "/…" if endpoint.one_time else head.path
        fields = head.query.split("&") if head.query else ()
        names = "&".join(f"{field.partition('=')[0]}=…" if "=" in field else "…" for field in fields)
        rejection = Rejection(
            id=f"rej_{ids.mint(endpoint.slot, now_ms=int(now * 1000)).removeprefix(ids.PREFIX)}",
            flow_id=endpoint.flow_id,
            callback=endpoint.callback,
            time=timestamp(int(now * 1000)),
            status=response.status,
            reason=reason,
            detail=detail[:MAX_DETAIL],
            address=str(delivery.address),
            method=head.method,
            path=_printable(path),
            query=_printable(names),
            headers=headers_to_proto(list(_shown(endpoint, head))),
            body_size=len(body) if body else head.length,
            body=body[:MAX_BODY_BYTES] if stores_body and outcome is RequestOutcome.REFUSED else b"",
            suppressed=limiter.pop_suppressed(endpoint.flow_id),
            acceptability=_acceptability(delivery, outcome, response, stores_body=stores_body),
            outcome=enum_to_proto(outcome, RequestOutcomeMessage),
            execution_id=delivery.execution_id,
        )
        if rejection.acceptability == Rejection.ACCEPTABILITY_ACCEPTABLE:
            rejection.original.CopyFrom(_original(head, peer))
        room = self._suspects < MAX_DIAGNOSES and self._suspect_bytes + len(body) <= MAX_DIAGNOSED_BYTES
        diagnosed = error is not None and error.reason in DIAGNOSED and room
        if diagnosed:
            self._suspects += 1
            self._suspect_bytes += len(body)
        self._waiting.append((rejection, delivery if diagnosed else None))
        self._due.set()

    async def _diagnosed(self, rejection: Rejection, delivery: Delivery | None) -> Rejection:
        """Return the report of a request, with a hint how it would have passed, if it is to be diagnosed."""
        if delivery is not None:
            hint = await self.diagnosis(delivery, milliseconds(rejection.time) / 1000)
            self._suspects -= 1
            self._suspect_bytes -= len(delivery.request.body)
            if hint:
                rejection.diagnosis = hint[:MAX_DETAIL]
                rejection.detail = f"{rejection.detail}; {hint}"[:MAX_DETAIL]
        return rejection

    async def diagnosis(self, delivery: Delivery, now: float) -> str:
        """Return what would have made a request pass at a Unix time in seconds; empty: nothing is found."""
        endpoint, request = delivery.endpoint, delivery.request
        verifiers, others = [*endpoint.early, *endpoint.late], self._others(endpoint)
        try:
            readings = endpoint.secret_variants
            return await asyncio.to_thread(self._explain, verifiers, request, now, others, readings)
        except Exception as error:  # noqa: BLE001 - no thread available, or a defect: reported without a hint
            log.error("a refused request can't be diagnosed", cause=type(error).__name__)  # noqa: TRY400 - no data
            return ""

    def _others(self, endpoint: CompiledEndpoint) -> list[NamedVerifiers]:
        """Return other endpoints whose credentials the sender may have used, those of the same flow first."""
        found: list[NamedVerifiers] = []
        for endpoints in self._flow_cache.known(endpoint.flow_id, MAX_OTHERS):
            for other in endpoints.all()[: MAX_OTHERS - len(found)]:
                if other is not endpoint and other.asks:
                    callback = f"callback {other.callback} of " if other.callback else ""
                    found.append((f"{callback}flow {other.flow_id}", [*other.early, *other.late]))
        return found

    async def run(self) -> None:
        while True:
            await self._due.wait()
            await asyncio.sleep(self._flush_seconds)
            noted = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_BATCH))]
            batch = [await self._diagnosed(*each) for each in noted]
            if not self._waiting:
                self._due.clear()
            try:
                await self._router.report(batch)
            except FlowhookError:
                self._metrics.unreported += len(batch)


def _outcome(response: Response) -> RequestOutcome:
    return RequestOutcome.FILTERED if response.reason == FILTERED else RequestOutcome.REFUSED


def _acceptability(
    delivery: Delivery, outcome: RequestOutcome, response: Response, *, stores_body: bool
) -> Rejection.Acceptability:
    """Return whether a request can be accepted once the flow or a secret is corrected."""
    endpoint, head, body = delivery.endpoint, delivery.head, delivery.request.body
    if outcome is not RequestOutcome.REFUSED:
        return Rejection.ACCEPTABILITY_NOT_REFUSED
    if response.status != HTTPStatus.UNAUTHORIZED and response.reason not in STORED:
        return Rejection.ACCEPTABILITY_NOT_AUTHENTICATION
    if endpoint.one_time:
        return Rejection.ACCEPTABILITY_ONE_TIME_URL
    if not stores_body:
        return Rejection.ACCEPTABILITY_NOT_STORED
    received = len(body) == head.length if head.length >= 0 else bool(body)
    whole = received and len(body) <= MAX_BODY_BYTES and head.size <= MAX_HEAD_BYTES
    return Rejection.ACCEPTABILITY_ACCEPTABLE if whole else Rejection.ACCEPTABILITY_INCOMPLETE


def _original(head: Head, peer: Peer) -> OriginalRequest:
    """Return a request as received, with credentials: the router encrypts it, and returns it to edges only."""
    return OriginalRequest(
        method=head.method,
        target=head.target,
        host=head.host,
        headers=headers_to_proto(head.headers),
        peer=str(peer.address),
        scheme=peer.protocol,
        client_names=peer.client_names,
    )


def _shown(endpoint: CompiledEndpoint, head: Head) -> Iterator[tuple[str, bytes]]:
    """Yield header fields without credentials, those that the URL contained among them."""
    token = [head.path.rpartition("/")[2].encode()] if endpoint.one_time else []
    credentials = token + credentials_of(head.query, endpoint.dropped_query)
    for name, value in head.headers[:MAX_FIELDS]:
        harmless = name in HARMLESS and not contains_credential(value, credentials)
        yield name, value[:MAX_VALUE_BYTES] if harmless else b"[%d bytes]" % len(value)


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()[:MAX_TEXT]
