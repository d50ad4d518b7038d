"""Form fields and attachments of multipart bodies, also of bodies that are streamed.

Source: RFC 7578, sections 4.2 to 4.5.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import orjson

from flowhook import limits
from flowhook.errors import InvalidError
from flowhook.json.bounded import check_value_count
from flowhook.model import Part
from flowhook.payloads.content_type import decode_charset, is_json, parse_content_type
from flowhook.payloads.forms import nest_fields
from flowhook.payloads.multipart import MultipartScanner, PartData, PartEnded, PartStarted

FORM_DATA: Final = "multipart/form-data"

NO_FIELD: Final = (None, 0)

_PART_BYTES: Final = 96
"""Size of a part's metadata without its texts."""


def may_be_field(part: PartStarted) -> bool:
    """Whether a part of a form is a field, provided that its content is valid for its media type."""
    if part.filename is not None or not part.field:
        return False
    essence = parse_content_type(part.type).essence
    return not essence or essence.startswith("text/") or is_json(part.type)


def field_value(part: PartStarted, content: bytes, most: int = limits.MAX_VALUES) -> tuple[tuple[Any] | None, int]:
    """Return the value of a field, and an upper bound on the number of JSON values in it.

    `NO_FIELD` if the part is a file, is not valid for its media type, or has more than `most` values.
    """
    if not may_be_field(part):
        return NO_FIELD
    try:
        if is_json(part.type):
            values = check_value_count(content, most)
            return (orjson.loads(content),), values
        return (decode_charset(content, parse_content_type(part.type).charset),), 1
    except (InvalidError, orjson.JSONDecodeError):
        return NO_FIELD


def attachment_name(part: PartStarted) -> str:
    """Return the name of the attachment that a part becomes."""
    return part.filename or part.field or "part"


class MultipartSplitter:
    """Incremental splitter of a multipart body. Holds little more than one chunk of it, and the fields.

    Fields beyond `limits.MAX_FORM_BYTES` become attachments.
    """

    def __init__(self, content_type: str) -> None:
        """Create a splitter for a body of a media type.

        Raises:
            InvalidError: the media type has no valid boundary (`BODY_INVALID`).
        """
        kind = parse_content_type(content_type)
        self._scanner = MultipartScanner(kind.parameters.get("boundary", ""))
        self._is_form = kind.essence == FORM_DATA
        self._fields: list[tuple[str, Any]] = []
        self._form_left = limits.MAX_FORM_BYTES
        self._parts: list[Part] = []
        self._parts_left = limits.MAX_PARTS_BYTES
        self._part = PartStarted(0, "", "", None)
        self._hash = hashlib.sha256()
        self._held: bytearray | None = None

    def feed(self, data: bytes) -> None:
        """Process the next bytes of the body.

        Raises:
            InvalidError: they are not valid multipart, or the metadata of the parts is too large (`BODY_INVALID`).
        """
        for event in self._scanner.feed(data):
            match event:
                case PartStarted():
                    self._begin(event)
                case PartData(data=content):
                    self._hash.update(content)
                    if self._held is not None:
                        self._held += content
                        if len(self._held) > self._form_left:
                            self._held = None
                case PartEnded(offset=end):
                    self._end(end)

    def end(self) -> tuple[bytes, tuple[Part, ...]]:
        """Finish the body; return its fields as a JSON object (empty if it is not a form), and its attachments.

        Raises:
            InvalidError: the last boundary is missing (`BODY_INVALID`).
        """
        self._scanner.end()
        return orjson.dumps(nest_fields(self._fields)) if self._is_form else b"", tuple(self._parts)

    def _begin(self, part: PartStarted) -> None:
        self._part = part
        self._hash = hashlib.sha256()
        self._held = bytearray() if self._is_form and may_be_field(part) else None

    def _end(self, offset: int) -> None:
        part = self._part
        value, _ = NO_FIELD if self._held is None else field_value(part, bytes(self._held))
        size = None if value is None else _json_size(part.field, value[0])
        if value is not None and size is not None and size <= self._form_left:
            self._form_left -= size
            self._fields.append((part.field, value[0]))
            return
        name = attachment_name(part)
        self._parts_left -= _PART_BYTES + sum(len(text.encode()) for text in (part.type, name, part.field))
        if self._parts_left < 0:
            raise InvalidError("the body is not multipart: its parts' headers are too long", reason="BODY_INVALID")
        self._parts.append(Part(part.offset, offset - part.offset, part.type, name, part.field, self._hash.digest()))


def _json_size(field: str, value: Any) -> int | None:
    """Return an upper bound on the size of a field in the JSON object; None: it is nested too deeply to be encoded."""
    try:
        return len(orjson.dumps(nest_fields([(field, value)]))) + len('"[]":[],')
    except orjson.JSONEncodeError:
        return None
