"""What the body of an accepted request says, read so that no body holds up anybody else's request."""

from __future__ import annotations

from typing import Any, Final

import orjson

from edge.endpoints import Endpoint
from edge.http1 import Head
from flowhook.offload import INLINE_BYTES
from flowhook.offload.offload import Offload
from flowhook.payloads import encoded_headers, is_json, is_left_whole, parse, parse_selected, with_attributes
from flowhook.signatures import RequestView

BODYLESS_METHODS: Final = frozenset({"GET", "DELETE"})
"""Requests of these methods are complete without a body, whatever their Content-Type says."""


class Contents:
    """Parses bodies: small ones at once, others, and compressed ones, in a process apart."""

    def __init__(self, offload: Offload) -> None:
        """Parse what is large in the processes of `offload`."""
        self._offload = offload

    async def of(self, endpoint: Endpoint, head: Head, request: RequestView) -> Any:
        """Return what a body says, attachments aside; of a large one, what the endpoint looks at.

        Raises:
            InvalidError: it is not what its Content-Type says (`BODY_INVALID`), is too large decompressed
                (`BODY_TOO_LARGE`), or takes too much to be parsed (`TOO_COSTLY`).
            ExhaustedError: too many large bodies of the flow wait to be parsed (`OVERLOADED`).
        """
        body = request.body
        if endpoint.raw or not (body or head.method not in BODYLESS_METHODS):
            return None
        if request.json is not None and not head.compressed and is_json(head.content_type):
            value = request.json.of(body)  # it was read to be verified
            if value is not None:
                return with_attributes(head.content_type, head.headers, value)
        if not head.compressed and (len(body) <= INLINE_BYTES or is_left_whole(head.content_type)):
            return parse(head.content_type, body, head.headers, limit=endpoint.max_parsed).body
        (selected,) = await self._offload.run(
            endpoint.flow_id,
            parse_selected,
            head.content_type.encode(),
            encoded_headers(head.headers),
            b"%d" % endpoint.max_parsed,
            endpoint.selection,
            body,
        )
        return orjson.loads(selected)
