"""Gives an unsigned request a new delivery ID, by which receivers recognise repeated deliveries."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from typing import Final, NamedTuple

from flowhook.document import FlowDocument
from flowhook.document.models.credentials import AuthKind
from flowhook.errors import InvalidError
from flowhook.expressions import strip_markers
from flowhook.json import verbatim
from flowhook.signatures.build import delivery_id_locations

Headers = Sequence[tuple[str, str]]

_KEY: Final = re.compile(
    r"\.(?P<part>headers|query|body)(?:\.(?P<path>\w+(?:\.\w+)*)|\[\"(?P<name>[^\"\\]+)\"\])", re.ASCII
)


class _Place(NamedTuple):
    """The location of a delivery ID: a `header`, or a `field` of a JSON body (names joined by dots)."""

    kind: str
    name: str


def renew_delivery_id(
    document: FlowDocument, kind: AuthKind | None, headers: Headers, body: bytes
) -> tuple[list[tuple[str, str]], bytes]:
    """Return the headers and body of an unsigned request with a new delivery ID; unchanged if deliveries have no ID.

    Raises:
        InvalidError: the ID is in a location that can't be changed (`DELIVERY_ID_FIXED`).
    """
    present = {name.lower() for name, _ in headers}
    places = _places(document, kind, headers)
    renewed, new_id = list(headers), str(uuid.uuid4())
    chosen = [each for each in places if each.kind == "field" or each.name.lower() in present] or places[:1]
    for place in chosen:
        if place.kind == "header":
            renewed = [(name, value) for name, value in renewed if name.lower() != place.name.lower()]
            renewed.append((place.name, new_id))
        else:
            body = _with_field(body, place.name, new_id)
    return renewed, body


def _places(document: FlowDocument, kind: AuthKind | None, headers: Headers) -> list[_Place]:
    key = None if document.webhook is None else document.webhook.dedupe.key
    if key == "none":
        return []
    if key is not None:
        return [_place_in(key)]
    found = [_Place(place.kind, place.name) for place in delivery_id_locations(kind)]
    if not found:  # CloudEvents have IDs of their own
        lower = {name.lower(): value for name, value in headers}
        if "ce-id" in lower:
            return [_Place("header", "ce-id")]
        if lower.get("content-type", "").startswith("application/cloudevents+json"):
            return [_Place("field", "id")]
    return found


def _place_in(key: str) -> _Place:
    match = _KEY.fullmatch(strip_markers(key).strip())
    if match is None or match["part"] == "query":
        raise InvalidError(
            f"the key of this flow's deliveries is {key}: give another one yourself", reason="DELIVERY_ID_FIXED"
        )
    return _Place("header" if match["part"] == "headers" else "field", match["path"] or match["name"])


def _with_field(body: bytes, path: str, value: str) -> bytes:
    try:
        content = verbatim.loads(body)
    except ValueError:
        content = None
    *around, last = path.split(".")
    inner = content
    for name in around:
        inner = inner.get(name) if isinstance(inner, dict) else None
    if not isinstance(inner, dict):
        raise InvalidError(
            f"the delivery's ID is `{path}` of the body, which does not have it", reason="DELIVERY_ID_FIXED"
        )
    inner[last] = value
    try:
        return verbatim.dumps(content)
    except ValueError:
        raise InvalidError("the body is too deeply nested to change its ID", reason="DELIVERY_ID_FIXED") from None
