"""The trace context of a call: passed on in its requests, which have spans if the execution is recorded.

Without spans the sender's context is passed on as it is, as by a proxy. With them each request is a child of the span
of its task. What the flow says itself counts: its own `traceparent` is sent instead, and an empty one means that none
is sent.

Source: https://www.w3.org/TR/trace-context/; semantic conventions 1.44, "HTTP client span".
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Final

import attrs

from flowhook.tracing.context import TRACEPARENT, TRACESTATE, TraceContext
from flowhook.tracing.tracer import Span, SpanKind, SpanTracer, Value, method_of, span_name_of
from runner.interpreter.errors import Kind, TaskFault
from runner.outbound.destinations import DestinationDown
from runner.outbound.http_response import HttpRequest

_BAD_REQUEST: Final = 400
_KINDS: Final = frozenset(Kind)


@attrs.define(eq=False, repr=False)
class Exchange:
    """A request in progress."""

    headers: dict[str, str]  # to be sent with it: `traceparent`, and `tracestate` if there is one; or nothing
    context: TraceContext | None = None  # of its span, or that which is passed on
    _span: Span | None = None

    def set(self, name: str, value: Value) -> None:
        """Set an attribute of its span."""
        if self._span is not None:
            self._span.attributes[name] = value


@attrs.define(eq=False, repr=False)
class CallTrace:
    """Where one call of a component stands in a trace."""

    context: TraceContext  # of what its requests are children of: the task, or the sender's span
    state: str = ""  # the sender's `tracestate`
    _tracer: SpanTracer | None = None  # None: requests have no spans
    _passes: bool = True  # whether the context is passed on
    _earlier: int = 0  # requests that earlier tries of the call made, in this attempt
    _sent: int = attrs.field(init=False, default=0)

    @contextmanager
    def exchange(self, name: str, kind: SpanKind, attributes: dict[str, Value]) -> Iterator[Exchange]:
        """Trace a request; an exception ends its span with an error."""
        if self._tracer is None:
            yield Exchange(self._headers(self.context), self.context)
            return
        span, error, is_sent = self._tracer.start(name, kind, self.context, attributes=attributes), "", True
        try:
            yield Exchange(self._headers(span.context), span.context, span)
            status = attributes.get("http.response.status_code", 0)
            error = str(status) if isinstance(status, int) and status >= _BAD_REQUEST else ""
        except DestinationDown:
            is_sent = False
            raise
        except TaskFault as problem:
            error = error_type(problem.error.type)
            raise
        except Exception as problem:
            error = str(attributes.get("rpc.status_code", type(problem).__name__))
            raise
        finally:
            if is_sent:
                self._tracer.end(span, error)

    @contextmanager
    def http(self, request: HttpRequest) -> Iterator[Exchange]:
        """Trace an HTTP request, and add the context to its header fields."""
        fields = request.headers
        attributes: dict[str, Value] = {}
        if self._tracer is not None:
            attributes = {
                "http.request.method": method_of(request.method),
                "url.full": request.shown_url(),
                "server.address": request.url.host or "",
                "server.port": request.url.port or 0,
            }
            if self._earlier + self._sent:
                attributes["http.request.resend_count"] = self._earlier + self._sent
            self._sent += 1
        with self.exchange(span_name_of(request.method), SpanKind.CLIENT, attributes) as exchange:
            own = fields.get(TRACEPARENT)
            if own is None:
                for name, value in exchange.headers.items():
                    fields.setdefault(name, value)
            elif not own:
                del fields[TRACEPARENT]
            yield exchange

    def _headers(self, context: TraceContext) -> dict[str, str]:
        if not self._passes:
            return {}
        given = {TRACEPARENT: context.traceparent}
        return {**given, TRACESTATE: self.state} if self.state else given


CURRENT: Final = ContextVar[CallTrace | None]("call_trace", default=None)
"""The trace of the call that is made in this task; None: it has none."""

NOT_TRACED: Final = nullcontext(Exchange({}))
"""A context for a request that has no trace."""


def traced(name: str, kind: SpanKind, attributes: dict[str, Value]) -> AbstractContextManager[Exchange]:
    """Return a context for a request of the current call that is not HTTP, which sends `Exchange.headers` with it."""
    trace = CURRENT.get()
    return NOT_TRACED if trace is None else trace.exchange(name, kind, attributes)


def error_type(type_: str) -> str:
    """Return the class of an error by its type, a URI: `communication`; `_OTHER`: the type is a flow's own."""
    name = type_.rpartition("/")[2]
    return name if name in _KINDS else "_OTHER"
