"""CloudEvents in binary mode: their attributes are header fields, and the body is their data.

They become the object that structured mode would have sent, so that a flow need not know which it was.

Source: CloudEvents 1.0, "HTTP Protocol Binding", section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from flowhook.payloads.content_type import parse_content_type
from flowhook.payloads.percent import percent_decode

BINARY_MODE: Final = "ce-specversion"
"""The field that tells a CloudEvent in binary mode from any other request."""

_PREFIX: Final = "ce-"
_STRUCTURED: Final = ("application/cloudevents+", "application/cloudevents-batch+")


def with_attributes(content_type: str, headers: Sequence[tuple[str, bytes]], data: Any) -> Any:
    """Return the event that a request is, with what its body says; that alone, where it is none, or in another mode.

    Args:
        content_type: of the body, as sent.
        headers: of the request, lower-case names.
        data: what the body says; None when nothing of it was parsed.
    """
    if not any(name == BINARY_MODE for name, _ in headers):
        return data
    if parse_content_type(content_type).essence.startswith(_STRUCTURED):
        return data
    event: dict[str, Any] = {}
    for name, value in headers:
        if name.startswith(_PREFIX):
            event[name.removeprefix(_PREFIX)] = percent_decode(value).decode("utf-8", "replace")
    if content_type:
        event["datacontenttype"] = content_type
    if data is not None:
        event["data"] = data
    return event
