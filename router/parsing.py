"""Parses bodies and flow documents for the router; large bodies and all documents in separate processes.

Events from edges need no parsing: edges have parsed them, and evaluated the order key. Events from internal services,
emitted events and requests to callbacks are parsed here: inline up to `INLINE_BYTES`, else in a separate process, so
that the event loop is not blocked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import astuple
from typing import Final

import orjson

from flowhook import cloud_events, limits, logs
from flowhook.document import FlowDocument, load_definition, parse
from flowhook.document.codes import Code
from flowhook.errors import Fault, InvalidFlowError
from flowhook.model import Event
from flowhook.offload import INLINE_BYTES
from flowhook.offload.offload import Offload
from flowhook.offload.worker import TooCostlyError
from flowhook.order_key import OrderKey
from flowhook.payloads import parse as parse_body
from flowhook.v1 import envelope_pb2
from flowhook.wire import convert
from flowhook.workflow_input import webhook_view
from router.scheduling.matching import EventContent, FilterShape

DOCUMENT_SECONDS: Final = 5.0
DOCUMENT_MEMORY: Final = 192 * limits.MIB
"""Memory for checking one flow file, bytes; a runner that compiles its programs has no more for each."""

log = logs.get_logger(__name__)


class InputParser:
    """Parses bodies and documents."""

    def __init__(self, offload: Offload | None = None) -> None:
        """Create the parser, with processes for bodies, which are started when needed. Close it with `aclose`."""
        self._offload = offload or Offload("reading bodies")
        self._documents = Offload("checking flows", seconds=DOCUMENT_SECONDS, memory=DOCUMENT_MEMORY)

    async def aclose(self) -> None:
        """Stop the processes."""
        await self._offload.aclose()
        await self._documents.aclose()

    async def order_key(self, order_key: OrderKey, event: Event) -> str:
        """Return the order key of an event; empty, with a warning, when its body takes too much to parse.

        Raises:
            ExhaustedError: too many bodies of the flow wait to be parsed (`OVERLOADED`).
        """
        if _is_small(event):
            return order_key.of_event(event)
        serialized = convert.event_to_proto(event).SerializeToString()
        try:
            (key,) = await self._offload.run(event.flow_id, read_order_key, _packed(order_key), serialized)
        except TooCostlyError as error:
            log.warning(
                "event too costly to parse; it runs without an order key",
                flow=event.flow_id,
                event_id=event.id,
                reason=error.reason,
            )
            return ""
        return key.decode()

    async def check(self, event: Event, order_key: OrderKey | None) -> str:
        """Check that a body matches its Content-Type, as edges do, and return the order key, if `order_key` is given.

        Raises:
            InvalidError: the body does not match (`BODY_INVALID`), is too large decompressed (`BODY_TOO_LARGE`), or
                takes too much time or memory to parse (`TOO_COSTLY`).
            ExhaustedError: too many bodies of the flow wait to be parsed (`OVERLOADED`).
        """
        if _is_small(event):
            return _checked(event, order_key)
        packed = b"" if order_key is None else _packed(order_key)
        serialized = convert.event_to_proto(event).SerializeToString()
        (key,) = await self._offload.run(event.flow_id, read_checked, packed, serialized)
        return key.decode()

    async def callback_event(self, event: Event, *, raw: bool) -> bytes:
        """Return the CloudEvent of a request to a callback; see `cloud_events.from_callback`.

        Raises:
            InvalidError: it is too large (`CALLBACK_TOO_LARGE`), or takes too much to parse (`TOO_COSTLY`).
            ExhaustedError: too many bodies of the flow wait to be parsed (`OVERLOADED`).
        """
        if _is_small(event):
            return cloud_events.from_callback(event, raw=raw)
        serialized = convert.event_to_proto(event).SerializeToString()
        (payload,) = await self._offload.run(event.flow_id, read_callback_event, b"raw" if raw else b"", serialized)
        return payload

    async def content(self, flow_id: str, payload: bytes, shapes: Sequence[FilterShape]) -> EventContent:
        """Return an event's content; for a large one the values at the shapes are extracted in a separate process.

        Args:
            flow_id: the flow that the event is for.
            payload: JSON of CloudEvents 1.0; an object.
            shapes: where filters look for values; without `ANYTHING`.

        Raises:
            InvalidError: it takes too much to parse (`TOO_COSTLY`).
            ExhaustedError: too many bodies of the flow wait to be parsed (`OVERLOADED`).
        """
        content = EventContent(payload)
        if shapes and len(payload) > INLINE_BYTES:
            values = await self._offload.run(flow_id, read_values, orjson.dumps([*map(tuple, shapes)]), payload)
            content.learn({shape: value or None for shape, value in zip(shapes, values, strict=True)})
        return content

    async def document(self, source: bytes, *, file: str, functions: Collection[str] | None) -> FlowDocument:
        """Parse and check a flow file in a separate process; see `flowhook.document.parse`.

        Its programs are compiled, which makes jq compute their constants, however large they are.

        Raises:
            InvalidFlowError: the file is invalid.
            ExhaustedError: too many documents wait to be parsed (`OVERLOADED`).
        """
        known = orjson.dumps(None if functions is None else sorted(functions))
        try:
            kind, result = await self._documents.run("", read_document, file.encode(), known, source)
        except TooCostlyError as error:
            cause = f"the flow can't be checked: {error.message}; an expression may compute a large constant"
            raise InvalidFlowError([Fault(file, 0, "", cause, Code.FILE_INVALID)]) from None
        if kind == _FAULTS:
            raise InvalidFlowError([Fault(*each) for each in orjson.loads(result)])
        return load_definition(result)


def _is_small(event: Event) -> bool:
    if len(event.body) + len(event.form) > INLINE_BYTES:
        return False
    return not any(name == "content-encoding" for name, _ in event.headers)


def _checked(event: Event, order_key: OrderKey | None) -> str:
    content = parse_body(event.content_type, event.body, event.headers, limit=limits.MAX_BODY_BYTES)
    if order_key is None:
        return ""
    return order_key.of_view(webhook_view(event, content.body)) if order_key.webhook else order_key.of_event(event)


def _packed(order_key: OrderKey) -> bytes:
    return orjson.dumps([order_key.expression, order_key.webhook, order_key.raw])


# --- in the separate process ------------------------------------------------------------------------------------------

_DEFINITION = b"definition"
_FAULTS = b"faults"


def read_order_key(order_key: bytes, event: bytes) -> Iterator[bytes]:
    """Yield the order key of a serialized event."""
    yield _unpacked(order_key).of_event(_event(event)).encode()


def read_checked(order_key: bytes, event: bytes) -> Iterator[bytes]:
    """Check the body of a serialized event against its Content-Type; yield the order key, empty without `order_key`."""
    yield _checked(_event(event), _unpacked(order_key) if order_key else None).encode()


def read_callback_event(raw: bytes, event: bytes) -> Iterator[bytes]:
    """Yield the CloudEvent of a serialized event."""
    yield cloud_events.from_callback(_event(event), raw=bool(raw))


def read_values(shapes: bytes, payload: bytes) -> Iterator[bytes]:
    """Yield an event's values for each shape; empty where the event can't pass a filter of that shape."""
    content = EventContent(payload)
    for attributes, paths in orjson.loads(shapes):
        yield content.values(FilterShape(tuple(attributes), tuple(paths))) or b""


def read_document(file: bytes, functions: bytes, source: bytes) -> Iterator[bytes]:
    """Yield the definition of a flow file, or its faults, preceded by which of the two it is."""
    try:
        document = parse(source, file=file.decode(), functions=orjson.loads(functions))
    except InvalidFlowError as error:
        yield _FAULTS
        yield orjson.dumps([astuple(each) for each in error.faults])
    else:
        yield _DEFINITION
        yield orjson.dumps(document.definition)


def _unpacked(order_key: bytes) -> OrderKey:
    expression, webhook, raw = orjson.loads(order_key)
    return OrderKey(expression, webhook=webhook, raw=raw)


def _event(serialized: bytes) -> Event:
    return convert.event_from_proto(envelope_pb2.Event.FromString(serialized))
