"""Bodies that are meant to be dear to whoever reads them: one module a family, each with a generator.

`bodies` yields them all. Nothing here knows pytest; `python -m support.hostile.measured` reads bodies and tells their
cost.
"""

from __future__ import annotations

from support.hostile import (
    compressed_bodies,
    form_bodies,
    json_bodies,
    multipart_bodies,
    text_bodies,
    xml_bodies,
)
from support.hostile.body import Body

FAMILIES = {
    "compressed": compressed_bodies.bodies,
    "events": json_bodies.cloud_events,
    "forms": form_bodies.bodies,
    "json": json_bodies.bodies,
    "lines": json_bodies.lines,
    "multipart": multipart_bodies.bodies,
    "properties": text_bodies.properties,
    "text": text_bodies.bodies,
    "xml": xml_bodies.bodies,
}
"""Generators by name; each takes `max_bytes`, the bytes that a body may have on the wire."""


def bodies(max_bytes, families=tuple(FAMILIES)):
    """Yield hostile bodies of at most `max_bytes` each, most of them about as large as that."""
    for family in families:
        yield from FAMILIES[family](max_bytes)


__all__ = ["FAMILIES", "Body", "bodies"]
