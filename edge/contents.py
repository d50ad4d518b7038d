"""What the body of an accepted request says, read so that no body holds up anybody else's request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import orjson

from edge.content import EMPTY, Content
from edge.endpoints import Endpoint
from edge.http1 import Head
from edge.parsing_apart import read_body
from flowhook.event_input import webhook_view
from flowhook.model import Event
from flowhook.offload import INLINE_BYTES
from flowhook.offload.offload import Offload
from flowhook.payloads import is_json, is_left_whole, parse, with_attributes
from flowhook.signatures import RequestView

BODYLESS_METHODS: Final = frozenset({"GET", "DELETE"})
"""Requests of these methods are complete without a body, whatever their Content-Type says."""


class Contents:
    """Parses bodies: small ones at once, others, and compressed ones, in a process apart."""

    def __init__(self, offload: Offload) -> None:
        """Parse what is large in the processes of `offload`."""
        self._offload = offload

    def at_once(self, endpoint: Endpoint, head: Head, request: RequestView) -> Content | None:
        """Return what a small body says; None for one that is to be parsed apart (`apart`).

        Args:
            endpoint: that it came to.
            head: of the request, for what it says of the body.
            request: with the body.

        Raises:
            InvalidError: it is not what its Content-Type says (`BODY_INVALID`), or is too large decompressed
                (`BODY_TOO_LARGE`).
        """
        body = request.body
        if endpoint.raw or not (body or head.method not in BODYLESS_METHODS):
            return EMPTY
        if not head.compressed and (len(body) <= INLINE_BYTES or is_left_whole(head.content_type)):
            if request.json is not None and is_json(head.content_type):
                value = request.json.of(body)  # it was read to be verified
                if value is not None:
                    return Content(with_attributes(head.content_type, head.headers, value))
            return Content(parse(head.content_type, body, head.headers, limit=endpoint.max_parsed).body)
        return None

    async def apart(self, endpoint: Endpoint, head: Head, request: RequestView, event: Event) -> Content:
        """Return what a large body says, or one that is compressed; see `at_once`.

        Args:
            endpoint: that it came to.
            head: of the request, for what it says of the body.
            request: with the body.
            event: what is made of the request.

        Raises:
            InvalidError: as `at_once`, or it takes too much to be parsed (`TOO_COSTLY`).
            ExhaustedError: too many large bodies of the flow wait to be parsed (`OVERLOADED`).
        """
        selected, order_key, dedupe = await self._offload.run(
            endpoint.flow_id,
            read_body,
            orjson.dumps([head.content_type, _of_the_body(head.headers), endpoint.max_parsed]),
            endpoint.wanted,
            orjson.dumps(webhook_view(event, None)),
            request.body,
        )
        return Content(orjson.loads(selected), order_key.decode(), dedupe.decode())


def _of_the_body(headers: Sequence[tuple[str, bytes]]) -> list[tuple[str, str]]:
    """Return the headers that `parse` looks at."""
    return [
        (name, value.decode("latin-1"))
        for name, value in headers
        if name == "content-encoding" or name.startswith("ce-")
    ]
