"""Parses bodies and flow documents for the router; large bodies and all documents in separate processes.

Events from edges need no parsing: edges have parsed them, and evaluated the keys. Events from internal services,
emitted events and requests to callbacks are parsed here: inline up to `INLINE_BYTES`, else in a separate process, so
that the event loop is not blocked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import astuple
from typing import Final, NamedTuple

import orjson

from flowhook import limits
from flowhook.document.catalogs import read_flow
from flowhook.document.diagnostics.lint import located_warnings
from flowhook.document.diagnostics.problems import Code, line_of
from flowhook.document.loader import FlowDocument, load_definition, parse
from flowhook.document.named_secrets import names_of, secret_paths
from flowhook.errors import Fault, InvalidError, InvalidFlowError
from flowhook.events import cloud_events
from flowhook.events.keys import EventKeys, KeyExpressions
from flowhook.events.workflow_input import admission_view, webhook_view
from flowhook.model import Event
from flowhook.payloads.field_types import with_types
from flowhook.payloads.parsing import parse as parse_body
from flowhook.process import logs
from flowhook.sandbox import INLINE_BYTES
from flowhook.sandbox.offload import Offload
from flowhook.sandbox.worker import TooCostlyError
from flowhook.security.address_policy import AddressPolicy
from flowhook.tracing.context import log_fields, trace_id_of
from flowhook.wire import convert
from router.scheduling.matching import EventContent, FilterShape

DOCUMENT_SECONDS: Final = 5.0
# memory for checking one flow file, bytes; a runner that compiles its programs has no more for each
DOCUMENT_MEMORY: Final = 192 * limits.MIB
log = logs.get_logger(__name__)


class ParsedDocument(NamedTuple):
    """A flow document, the warnings about it by line, and for each secret the line that names it first."""

    document: FlowDocument
    warnings: tuple[Fault, ...]
    secret_lines: Mapping[str, int]


class InputParser:
    """Parses bodies and documents, in processes that are started when needed. Close it with `aclose`.

    Raises:
        InvalidError: a body takes too much time or memory to parse (`TOO_COSTLY`).
        ExhaustedError: too many bodies of the flow, or documents, wait to be parsed (`OVERLOADED`).
    """

    def __init__(self, offload: Offload | None = None) -> None:
        self._offload = offload or Offload("reading bodies")
        self._documents = Offload("checking flows", seconds=DOCUMENT_SECONDS, memory=DOCUMENT_MEMORY)

    async def aclose(self) -> None:
        await self._offload.aclose()
        await self._documents.aclose()

    async def keys(self, expressions: KeyExpressions, event: Event) -> EventKeys:
        """Return the keys of an event; none, with a warning, when its body takes too much to parse."""
        if _is_small(event):
            return _keys_of(event, expressions)
        arguments = _pack_expressions(expressions), convert.event_to_bytes(event)
        try:
            return EventKeys.unpack(await self._offload.run(event.flow_id, read_keys, *arguments))
        except TooCostlyError as error:
            log.warning(
                "event too costly to parse; it runs without order key, search attributes and keys of shaping",
                **log_fields(event.id, event.flow_id, trace_id_of(event.traceparent)),
                reason=error.reason,
            )
            return EventKeys()

    async def check(self, event: Event, expressions: KeyExpressions) -> EventKeys:
        """Check that a body matches its Content-Type, as edges do, and return the event's keys.

        Raises:
            InvalidError: the body does not match (`BODY_INVALID`), or is too large decompressed (`BODY_TOO_LARGE`).
        """
        if _is_small(event):
            return _checked(event, expressions)
        arguments = _pack_expressions(expressions), convert.event_to_bytes(event)
        return EventKeys.unpack(await self._offload.run(event.flow_id, read_checked, *arguments))

    async def check_json(self, flow_id: str, text: bytes, what: str) -> None:
        """Check that a text is JSON; `what` names it in the error (`BODY_INVALID`)."""
        if len(text) <= INLINE_BYTES:
            _parse_json(text, what)
        else:
            await self._offload.run(flow_id, read_json, what.encode(), text)

    async def callback_event(self, event: Event, *, raw: bool) -> bytes:
        """Return the CloudEvent of a request to a callback; for errors see `cloud_events.from_callback`."""
        if _is_small(event):
            return cloud_events.from_callback(event, raw=raw)
        serialized = convert.event_to_bytes(event)
        (payload,) = await self._offload.run(event.flow_id, read_callback_event, b"raw" if raw else b"", serialized)
        return payload

    async def content(self, flow_id: str, payload: bytes, shapes: Sequence[FilterShape]) -> EventContent:
        """Return an event's content; for a large one the values at the shapes are extracted in a separate process.

        `payload` is an object in JSON; filters look for values at the shapes, without `ANYTHING`.
        """
        content = EventContent(payload)
        if shapes and len(payload) > INLINE_BYTES:
            values = await self._offload.run(flow_id, read_values, orjson.dumps([*map(tuple, shapes)]), payload)
            content.learn({shape: value or None for shape, value in zip(shapes, values, strict=True)})
        return content

    async def document(
        self,
        source: bytes,
        *,
        file: str,
        functions: Collection[str] | None,
        address_policy: AddressPolicy = AddressPolicy.PUBLIC,
    ) -> ParsedDocument:
        """Parse, check and lint a flow file in a separate process; see `flowhook.document.loader.parse`.

        Its programs are compiled, which makes jq compute their constants, however large they are.

        Raises:
            InvalidFlowError: the file is invalid.
        """
        known = orjson.dumps(None if functions is None else sorted(functions))
        try:
            kind, result, *rest = await self._documents.run(
                "", read_document, file.encode(), known, address_policy.value.encode(), source
            )
        except TooCostlyError as error:
            cause = f"the flow can't be checked: {error.message}; an expression may compute a large constant"
            raise InvalidFlowError([Fault(file, 0, "", cause, Code.FILE_INVALID)]) from None
        if kind == _FAULTS:
            raise InvalidFlowError([Fault(*each) for each in orjson.loads(result)])
        warnings, lines = map(orjson.loads, rest)
        return ParsedDocument(load_definition(result), tuple(Fault(*each) for each in warnings), lines)


def _is_small(event: Event) -> bool:
    if len(event.body) + len(event.form) > INLINE_BYTES:
        return False
    return not any(name == "content-encoding" for name, _ in event.headers)


def _checked(event: Event, expressions: KeyExpressions) -> EventKeys:
    content = parse_body(event.content_type, event.body, event.headers, limit=limits.MAX_BODY_BYTES)
    if expressions.webhook and expressions.fields:
        with_types(webhook_view(event, content.body), expressions.fields, strict=True)
    if not expressions:
        return EventKeys()
    if expressions.webhook:
        return expressions.of_view(webhook_view(event, content.body))
    return _keys_of(event, expressions)


def _keys_of(event: Event, expressions: KeyExpressions) -> EventKeys:
    return expressions.of_view(admission_view(event, webhook=expressions.webhook, raw=expressions.raw))


def _pack_expressions(expressions: KeyExpressions) -> bytes:
    keys = (expressions.order_by, expressions.search, expressions.shaping)
    return orjson.dumps([*keys, expressions.webhook, expressions.raw, expressions.fields])


def _parse_json(text: bytes, what: str) -> None:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InvalidError(f"{what} is not JSON: {error.msg}, at {where}", reason="BODY_INVALID") from None


# --- in the separate process ------------------------------------------------------------------------------------------

_DEFINITION = b"definition"
_FAULTS = b"faults"


def read_keys(expressions: bytes, event: bytes) -> Iterator[bytes]:
    """Yield the order key of a serialized event, its search attributes as JSON, and its keys of shaping, if any."""
    yield from _keys_of(convert.event_from_bytes(event), _unpack_expressions(expressions)).pack()


def read_checked(expressions: bytes, event: bytes) -> Iterator[bytes]:
    """Check the body of a serialized event against its Content-Type; yield what `read_keys` does."""
    yield from _checked(convert.event_from_bytes(event), _unpack_expressions(expressions)).pack()


def read_json(what: bytes, text: bytes) -> Iterator[bytes]:
    """Check that a text is JSON; yield nothing."""
    _parse_json(text, what.decode())
    yield from ()


def read_callback_event(raw: bytes, event: bytes) -> Iterator[bytes]:
    yield cloud_events.from_callback(convert.event_from_bytes(event), raw=bool(raw))


def read_values(shapes: bytes, payload: bytes) -> Iterator[bytes]:
    """Yield an event's values for each shape; empty where the event can't pass a filter of that shape."""
    content = EventContent(payload)
    for attributes, paths in orjson.loads(shapes):
        yield content.values(FilterShape(tuple(attributes), tuple(paths))) or b""


def read_document(file: bytes, functions: bytes, reachable: bytes, source: bytes) -> Iterator[bytes]:
    """Yield the definition of a flow file, its warnings and the lines of its secrets; or its faults.

    What comes first is which of the two follows.
    """
    try:
        document = parse(source, file=file.decode(), functions=orjson.loads(functions))
    except InvalidFlowError as error:
        yield _FAULTS
        yield orjson.dumps([astuple(each) for each in error.faults])
    else:
        yield _DEFINITION
        yield orjson.dumps(document.definition)
        warnings = located_warnings(document, source, file="", policy=AddressPolicy(reachable.decode()))
        yield orjson.dumps([astuple(each) for each in warnings])
        root, lines = read_flow(source).root, dict[str, int]()
        for path, name in secret_paths(document.definition, names_of(document)):
            lines.setdefault(name, line_of(root, path))
        yield orjson.dumps(lines)


def _unpack_expressions(packed: bytes) -> KeyExpressions:
    order_by, search, shaping, webhook, raw, fields = orjson.loads(packed)
    return KeyExpressions(order_by, search, shaping=shaping, webhook=webhook, raw=raw, fields=fields)
