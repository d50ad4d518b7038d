"""Computes the order key, the search attributes and the keys of shaping of an event when it is accepted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from flowhook.events.keys import Attributes, OrderKey, SearchAttributes
from flowhook.events.shaping import ShapingExpressions, ShapingKeys
from flowhook.events.workflow_input import admission_view
from flowhook.model import Event


class EventKeys(NamedTuple):
    """The keys of an event (`flowhook.events.keys`, `flowhook.events.shaping`)."""

    order_key: str = ""
    attributes: Attributes = ()
    shaping: ShapingKeys | None = None  # None: its flow has no keys of shaping


class KeyExpressions:
    """The `order_by`, the `search` and the `shaping` of a flow (see `shaping_expressions`), compiled.

    `raw`: its `webhook` leaves bodies unparsed: `.body` is null then, as in the workflow's input.
    """

    __slots__ = ("_attributes", "_order_key", "_shaping", "order_by", "raw", "search", "shaping", "webhook")

    def __init__(
        self,
        order_by: str | None = None,
        search: Mapping[str, str] = {},
        *,
        shaping: Mapping[str, str] = {},
        webhook: bool = True,
        raw: bool = False,
    ) -> None:
        self.order_by = order_by
        self.search = search
        self.shaping = shaping
        self.webhook = webhook
        self.raw = raw
        self._order_key = None if order_by is None else OrderKey(order_by)
        self._attributes = SearchAttributes(search)
        self._shaping = ShapingExpressions(shaping) if shaping else None

    def __bool__(self) -> bool:
        """Whether there is anything to compute."""
        return self.order_by is not None or bool(self.search or self.shaping)

    def of_view(self, view: object) -> EventKeys:
        order_key = "" if self._order_key is None else self._order_key.of_view(view)
        shaping = None if self._shaping is None else self._shaping.of_view(view)
        return EventKeys(order_key, self._attributes.of_view(view), shaping)

    def of_event(self, event: Event) -> EventKeys:
        """Return the keys of an event. Blocking: it parses the body."""
        return self.of_view(admission_view(event, webhook=self.webhook, raw=self.raw))
