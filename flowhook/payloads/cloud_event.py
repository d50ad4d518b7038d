"""CloudEvents in binary mode: attributes in header fields, data in the body.

They are converted to the object that structured mode would have sent, so that flows need not distinguish the modes.

Source: CloudEvents 1.0, "HTTP Protocol Binding", section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from flowhook.payloads.content_type import parse_content_type
from flowhook.payloads.percent import percent_decode

BINARY_MODE: Final = "ce-specversion"
"""Header field that identifies a CloudEvent in binary mode."""

_PREFIX: Final = "ce-"
_STRUCTURED: Final = ("application/cloudevents+", "application/cloudevents-batch+")


def to_structured(content_type: str, headers: Sequence[tuple[str, bytes]], data: Any) -> Any:
    """Return a request in binary mode as the object of structured mode; return `data` for any other request.

    Args:
        content_type: media type of the body, as sent.
        headers: header fields of the request, lower-case names.
        data: the parsed body; None when nothing of it was parsed.
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
