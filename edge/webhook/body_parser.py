"""Parses the bodies of accepted requests so that no body delays other requests."""

from __future__ import annotations

import attrs
import orjson

from edge.http.head import Head
from edge.webhook.body_offload import parse_large_body
from edge.webhook.compiled_endpoints import EMPTY, CompiledEndpoint, ParsedContent
from flowhook.document.models.webhook import BODYLESS_METHODS
from flowhook.events.workflow_input import webhook_view
from flowhook.model import Event
from flowhook.payloads import is_json, is_opaque, parse, to_structured
from flowhook.sandbox import INLINE_BYTES
from flowhook.sandbox.offload import Offload
from flowhook.signatures import RequestView


@attrs.define(eq=False, repr=False)
class BodyParser:
    """Parses bodies: small ones inline, large and compressed ones in the processes of `offload`."""

    _offload: Offload

    def at_once(self, endpoint: CompiledEndpoint, head: Head, request: RequestView) -> ParsedContent | None:
        """Parse a small body inline; return None for one that must be parsed in a separate process (`apart`).

        Raises:
            InvalidError: the body does not match its Content-Type (`BODY_INVALID`), or is too large once decompressed
                (`BODY_TOO_LARGE`).
        """
        body = request.body
        if endpoint.raw or not (body or head.method not in BODYLESS_METHODS):
            return EMPTY
        if not head.compressed and (len(body) <= INLINE_BYTES or is_opaque(head.content_type)):
            if request.json is not None and is_json(head.content_type):
                value = request.json.of(body)  # verification has parsed it already
                if value is not None:
                    return ParsedContent(to_structured(head.content_type, head.headers, value))
            return ParsedContent(parse(head.content_type, body, head.headers, limit=endpoint.max_parsed).body)
        return None

    async def apart(self, endpoint: CompiledEndpoint, head: Head, request: RequestView, event: Event) -> ParsedContent:
        """Parse a large or compressed body in a separate process; see `at_once`.

        Raises:
            InvalidError: as for `at_once`, or parsing exceeds its resource limits (`TOO_COSTLY`).
            ExhaustedError: too many large bodies of the flow are queued for parsing (`OVERLOADED`).
        """
        headers = [
            (name, value.decode("latin-1"))
            for name, value in head.headers
            if name == "content-encoding" or name.startswith("ce-")
        ]
        selected, order_key, dedupe, attributes = await self._offload.run(
            endpoint.flow_id,
            parse_large_body,
            orjson.dumps([head.content_type, headers, endpoint.max_parsed]),
            endpoint.wanted,
            orjson.dumps(webhook_view(event, None)),
            request.body,
        )
        return ParsedContent(
            orjson.loads(selected),
            order_key.decode(),
            dedupe.decode(),
            tuple((name, value) for name, value in orjson.loads(attributes)),
        )
