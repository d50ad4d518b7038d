"""The parsed content of a request body, as far as the edge needs it."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from flowhook.events.search_attributes import Attributes


class ParsedContent(NamedTuple):
    """The parsed content of a body.

    Attributes:
        body: parsed value without attachments; for a large body, only the parts that the endpoint uses.
        order_key: order key of a large body; None: to be evaluated from `body`.
        dedupe: text of the dedupe key of a large body; None: to be evaluated from `body`.
        attributes: search attributes of a large body; None: to be evaluated from `body`.
    """

    body: Any
    order_key: str | None = None
    dedupe: str | None = None
    attributes: Attributes | None = None


EMPTY: Final = ParsedContent(None)
