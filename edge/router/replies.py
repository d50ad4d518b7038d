"""Holds requests until their flow responds, and serves responses that are fetched later.

A held request is an InvokeFlow call. A call that fails is retried with the same event until the flow's response timeout
expires; the router attaches it to the execution that the event started, so that senders don't notice a restart. After
the timeout the sender gets a URL for the later response. A sender that disconnects ends the call, never the execution.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable
from typing import Final

import attrs

from edge.http import responses
from edge.http.head import Head
from edge.http.responses import Response
from edge.metrics import EdgeMetrics
from edge.router.client import RouterClient
from edge.router.flow_cache import FlowCache
from edge.router.ingest import IngestUnavailableError
from edge.webhook.configured_responses import DEFAULT_FLOW_RESPONSE, FlowResponse
from flowhook.errors import ConflictError, ExhaustedError, FlowhookError, InternalError, NotFoundError, UnavailableError
from flowhook.retrying import CALL
from flowhook.sharing import Principal, SharedLimit
from flowhook.sharing.table import EdgeLimits
from flowhook.v1.envelope_pb2 import Event
from flowhook.v1.ingest_service_pb2 import GetReplyResponse, InvokeFlowResponse

PREFIX: Final = "/replies/"
MAX_WAIT_SECONDS: Final = 300.0  # maximum wait of one InvokeFlow call
BRIEF_SECONDS: Final = 0.05  # wait for a flow whose response timeout has expired, or when the edge is about to stop

REFUSED: Final = frozenset(
    {"BODY_LOST", "STORAGE_FULL", "STORAGE_UNAVAILABLE", "TOTAL_BACKLOG_FULL", "UPLOADS_FULL", "WAITERS_FULL"}
)
"""Reasons of the router that are returned to the sender at once, without a retry."""

# answers at a limit: of one's share, and of all
_FULL: Final = {ExhaustedError: responses.SHARE_HELD, UnavailableError: responses.TOO_MANY_HELD}
_AGAIN: Final = (UnavailableError, ConflictError, InternalError)
_TOKEN: Final = re.compile(r"[A-Za-z0-9_.~-]{1,128}")
_NOT_ALLOWED: Final = responses.method_not_allowed(("GET",))


@attrs.define(eq=False, repr=False)
class SyncReplies:
    """Waits for the responses of flows; fetches of later ones wait up to `router_timeout` seconds for the router."""

    _router: RouterClient
    _flow_cache: FlowCache
    _metrics: EdgeMetrics
    _limits: EdgeLimits
    _router_timeout: float = attrs.field(kw_only=True)
    _now: Callable[[], float] = attrs.field(init=False, factory=lambda: asyncio.get_running_loop().time)
    _calls: set[asyncio.Future[InvokeFlowResponse]] = attrs.field(init=False, factory=set)
    _of_flow: SharedLimit = attrs.field(init=False)
    _of_sender: SharedLimit = attrs.field(init=False)
    _fetches: SharedLimit = attrs.field(init=False)
    _leaving: bool = attrs.field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._of_flow = SharedLimit(self._limits.replies_of_flow)
        self._of_sender = SharedLimit(self._limits.replies_of_sender)
        self._fetches = SharedLimit(self._limits.fetches)

    @property
    def held(self) -> int:
        return self._of_flow.used

    def release(self) -> None:
        """Respond to all held and further requests without waiting, with the URL of the later response."""
        self._leaving = True
        for call in self._calls:
            call.cancel()

    async def hold(
        self, event: Event, response: FlowResponse, sender: Principal, accepted: Callable[[str], None]
    ) -> Response:
        """Store an event, not to be changed afterwards, and wait for its flow's response; raises as `submit` does.

        `accepted` is called with the ID of the execution, before the response is returned.
        """
        with contextlib.ExitStack() as seats:
            try:
                seats.enter_context(self._of_flow.acquire(Principal("flow", event.flow_id)))
                seats.enter_context(self._of_sender.acquire(sender))
            except tuple(_FULL) as error:
                return _FULL[type(error)]
            return await self._hold(event, response, accepted)

    async def _hold(self, event: Event, response: FlowResponse, accepted: Callable[[str], None]) -> Response:
        deadline = self._now() + response.timeout
        pauses, first = CALL.pauses(), True
        while True:
            left = BRIEF_SECONDS if self._leaving else max(BRIEF_SECONDS, deadline - self._now())
            try:
                answered = await self._call(event, min(left, MAX_WAIT_SECONDS))
            except _AGAIN as error:
                if first and error.reason in REFUSED:
                    raise
                if self._now() >= deadline:
                    raise IngestUnavailableError from None
                first = False
                self._metrics.retries += 1
                await asyncio.sleep(next(pauses))
                continue
            if answered is None:
                continue
            accepted(answered.execution_id)
            answer = _answer(answered, response)
            if answer is not None:
                return answer
            if self._leaving or self._now() + BRIEF_SECONDS >= deadline:
                return responses.reply_pending(answered.execution_id, PREFIX + answered.pending.reply_token)

    async def _call(self, event: Event, seconds: float) -> InvokeFlowResponse | None:
        """Wait for a response; None: the call was cancelled because the edge is about to stop."""
        call = asyncio.ensure_future(self._router.invoke(event, seconds))
        self._calls.add(call)
        try:
            return await call
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._leaving and task is not None and not task.cancelling():
                return None
            raise
        finally:
            self._calls.discard(call)
            call.cancel()

    async def fetch(self, head: Head, sender: Principal) -> Response:
        """Return the response to a request for a reply by its URL, which holds the token."""
        if head.method not in ("GET", "HEAD"):
            return _NOT_ALLOWED
        token = head.path[len(PREFIX) :]
        if not _TOKEN.fullmatch(token):
            return responses.REPLY_NOT_FOUND
        try:
            seat = self._fetches.acquire(sender)
        except tuple(_FULL) as error:
            return _FULL[type(error)]
        with seat:
            try:
                answered = await self._router.get_reply(token, self._router_timeout)
                endpoints = await self._flow_cache.find(answered.flow_id)
            except NotFoundError:
                return responses.REPLY_NOT_FOUND
            except FlowhookError:
                return responses.ROUTER_UNAVAILABLE
        response = (endpoints and endpoints.own.flow) or DEFAULT_FLOW_RESPONSE
        return _answer(answered, response) or responses.reply_pending(answered.execution_id, head.path)


def _answer(answered: InvokeFlowResponse | GetReplyResponse, response: FlowResponse) -> Response | None:
    """Return the response to the sender; None: the flow has not responded yet."""
    match answered.WhichOneof("outcome"):
        case "reply" if answered.from_output:
            return response.output(answered.execution_id, answered.reply.body)
        case "reply":
            reply = answered.reply
            return response.reply(reply.status, [(field.name, field.value) for field in reply.headers], reply.body)
        case "error":
            return response.fault(answered.execution_id)
        case _:
            return None
