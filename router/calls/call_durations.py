"""Measures the calls that answer one request with one response, by method and status code, for the metrics."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import attrs
import grpc
from typing_extensions import override

from flowhook.process.metric_table import OTHER
from flowhook.process.metrics import Histogram
from router.calls.error_mapping import Context
from router.calls.interception import Handler, Interceptor, with_behavior

# methods with a status code that are measured apart, so that the metrics of a router fit into a report
MAX_MEASURED: Final = 30


@attrs.define(eq=False, repr=False)
class CallDurations(Interceptor):
    """The durations of unary calls, without those of their authorization."""

    durations: dict[tuple[str, str], Histogram] = attrs.field(init=False, factory=dict)  # by method and status code

    @override
    def wrap(self, handler: Handler, details: grpc.HandlerCallDetails) -> Handler:
        if handler.request_streaming or handler.response_streaming:
            return handler
        return with_behavior(handler, self._measured(details.method.removeprefix("/"), handler.unary_unary))

    def _measured(self, method: str, perform: Any) -> Callable[[Any, Context], Awaitable[Any]]:
        async def measured(request: Any, context: Context) -> Any:
            began, code = time.monotonic(), "CANCELLED"
            try:
                response = await perform(request, context)
                code = "OK"
            except Exception:
                code = getattr(context.code(), "name", "UNKNOWN")  # it is a number if none was set
                raise
            finally:
                self._observe((method, code), time.monotonic() - began)
            return response

        return measured

    def _observe(self, key: tuple[str, str], seconds: float) -> None:
        known = self.durations.get(key)
        if known is None:
            key = key if len(self.durations) < MAX_MEASURED else (OTHER, "")
            known = self.durations.setdefault(key, Histogram("rpc_server_call_duration_seconds"))
        known.observe(seconds)
