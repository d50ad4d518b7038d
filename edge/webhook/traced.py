"""The webhook pipeline with spans: of each traced request (SERVER), and of the storage of its event (PRODUCER).

The sender's trace is continued, but whether it is recorded is this edge's decision: else a stranger could have every
request of his recorded. The event is stored with the context of its PRODUCER span, also when nothing is recorded, so
that runners decide the same. Flows that nobody has, health checks and `/replies/` are not traced.

Source: semantic conventions 1.44, "HTTP server span", "Messaging spans".
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import attrs
from typing_extensions import override

from edge.http.request import IncomingRequest
from edge.http.responses import Response
from edge.webhook.acceptance import Refused
from edge.webhook.compiled_endpoints import HOOKS, CompiledEndpoint
from edge.webhook.pipeline import ANSWERS, WebhookHandler
from edge.webhook.stages import Delivery
from flowhook.model import Event
from flowhook.model.rejections import RequestOutcome
from flowhook.tracing import context
from flowhook.tracing.tracer import Span, SpanKind, SpanTracer, Value, method_of, span_name_of

MAX_PORT_DIGITS: Final = 5
GROWTH: Final = 64  # bytes that a `traceparent` adds to the head of a request that has none


@attrs.define(eq=False, repr=False)
class RequestTrace:
    """The spans of a traced request."""

    server: Span
    producer: Span
    stored: bool = False  # whether `producer` has begun


@attrs.define(eq=False, repr=False)
class TracedWebhookHandler(WebhookHandler):
    """Handles webhooks as its base class does, and traces them."""

    _tracer: SpanTracer = attrs.field(kw_only=True)
    _trusts_senders: bool = attrs.field(kw_only=True)

    @override
    async def _accept(self, delivery: Delivery, request: IncomingRequest) -> Response:
        trace = self._begin(delivery)
        if trace is None:
            return await super()._accept(delivery, request)
        answer: Response | None = None
        problem = ""
        try:
            answer = await super()._accept(delivery, request)
        except Exception as error:
            answer = error.response if isinstance(error, Refused) else ANSWERS.get(type(error))
            problem = type(error).__name__
            raise
        finally:
            self._end(trace, delivery, answer, problem)
        return answer

    def _begin(self, delivery: Delivery) -> RequestTrace | None:
        """Let the event be stored with a context of this edge; return the spans of the request if it is recorded."""
        head, endpoint = delivery.head, delivery.endpoint
        sender = context.parse(head.traceparent) if head.traceparent else None
        head.size += GROWTH
        trusted = sender is not None and sender.sampled and self._trusts_senders
        if not (trusted or self._tracer.draw()):
            head.traceparent = context.unsampled("" if sender is None else sender.trace_id)
            return None
        route = _route(endpoint)
        server = self._tracer.start(span_name_of(head.method, route), SpanKind.SERVER, sender)
        producer = self._tracer.start(f"send {endpoint.flow_id}", SpanKind.PRODUCER, server.context)
        head.traceparent = producer.context.traceparent
        server.attributes.update(_of_request(delivery, route))
        trace = delivery.trace = RequestTrace(server, producer)
        return trace

    def _end(self, trace: RequestTrace, delivery: Delivery, answer: Response | None, problem: str) -> None:
        found = trace.server.attributes
        error = problem
        if answer is not None:
            found["http.response.status_code"] = answer.status
            error = str(answer.status) if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR else ""
            if answer.reason:
                found["flowhook.rejection.reason"] = answer.reason
        if delivery.outcome is RequestOutcome.DUPLICATE:
            found["flowhook.duplicate"] = True
        if trace.stored:
            self._tracer.end(trace.producer, error or ("" if answer is None else answer.reason))
        self._tracer.end(trace.server, error)

    @override
    def _begin_storing(self, delivery: Delivery, event: Event) -> None:
        trace: RequestTrace | None = delivery.trace
        if trace is None:
            return
        size = len(event.body) if event.body_blob is None else event.body_blob.size
        trace.stored = True
        trace.producer.restart()
        trace.producer.attributes = {
            "messaging.system": "flowhook",
            "messaging.operation.name": "send",
            "messaging.operation.type": "send",
            "messaging.destination.name": event.flow_id,
            "messaging.message.id": event.id,
            "messaging.message.body.size": size,
        }
        trace.server.attributes |= {"flowhook.event.id": event.id, "http.request.body.size": size}
        if delivery.endpoint.asks:
            trace.server.attributes["flowhook.auth.scheme"] = delivery.verified[1].scheme


def _route(endpoint: CompiledEndpoint) -> str:
    if not endpoint.callback:
        return f"{HOOKS}{{flow}}"
    return f"{HOOKS}{{flow}}/{{callback}}/{{token}}" if endpoint.one_time else f"{HOOKS}{{flow}}/{{callback}}"


def _of_request(delivery: Delivery, route: str) -> dict[str, Value]:
    """Return what a span says of a request: no query and no token of a one-time URL, and no header but User-Agent."""
    head, endpoint, url = delivery.head, delivery.endpoint, delivery.request.url
    scheme, _, rest = url.partition("://")
    authority = rest.partition("/")[0]
    host, _, port = authority.rpartition(":") if authority[-1:].isdigit() else (authority, "", "")
    host = host or authority  # without a port, an address of IPv4 ends with a digit, too
    found: dict[str, Value] = {
        "http.request.method": method_of(head.method),
        "http.route": route,
        "url.scheme": scheme,
        "url.path": f"{head.path.rpartition('/')[0]}/REDACTED" if endpoint.one_time else head.path,
        "server.address": host,
        "client.address": str(delivery.address),
        "flowhook.flow": endpoint.flow_id,
    }
    if port.isdigit() and len(port) <= MAX_PORT_DIGITS:
        found["server.port"] = int(port)
    if endpoint.callback:
        found["flowhook.callback"] = endpoint.callback
    agent = next((value for name, value in head.headers if name == "user-agent"), None)
    if agent is not None:
        found["user_agent.original"] = agent.decode("latin-1")
    return found
