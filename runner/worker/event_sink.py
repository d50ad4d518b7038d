"""Sends CloudEvents to a sink outside the cluster, over HTTP in structured mode.

Source: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md, section 3.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from runner.components.base import Context
from runner.interpreter.errors import Kind, fault
from runner.interpreter.json_codec import encode

CONTENT_TYPE: Final = "application/cloudevents+json; charset=utf-8"

_OK: Final = range(200, 300)


async def send(event: Mapping[str, Any], sink: str | None, context: Context) -> None:
    """Send an event to `sink`, or to the sink of the settings if it is None; without either nothing is sent.

    Raises:
        TaskFault: the sink is not a URL (configuration), did not answer, or not with 2xx (communication).
    """
    url = sink or context.settings.event_sink
    if not url:
        return
    response = await context.http.request("POST", url, headers={"Content-Type": CONTENT_TYPE}, body=encode(event))
    if response.status not in _OK:
        raise fault(
            Kind.COMMUNICATION,
            f"the event sink {response.url} answered {response.status}",
            status=response.status if response.status in range(300, 600) else None,
            retry_after_ms=response.retry_after_ms,
        )
