"""Makes the event of a replay whose input was edited."""

from __future__ import annotations

from typing import Final

from flowhook import limits
from flowhook.errors import InvalidError
from flowhook.v1 import envelope_pb2
from flowhook.v1 import execution_service_pb2 as pb

MAX_EDITED_BYTES: Final = 1 * limits.MIB
"""Size of an edited body."""

MAX_CONTENT_TYPE: Final = 256
"""Characters of its media type."""

CONTENT_TYPE: Final = "content-type"
_OF_BODY: Final = frozenset(
    {"content-encoding", "content-length", "content-md5", "content-digest", "repr-digest", "digest"}
)
"""Header fields that describe the bytes of the original body."""


def check_edited(edited: pb.EditedInput) -> None:
    """Check what can be checked without the event that is edited.

    Raises:
        InvalidError: the body is too large (`BODY_TOO_LARGE`), or the media type is none (`CONTENT_TYPE_INVALID`).
    """
    if len(edited.body) > MAX_EDITED_BYTES:
        raise InvalidError(f"an edited body must have at most {MAX_EDITED_BYTES} bytes", reason="BODY_TOO_LARGE")
    media_type = edited.content_type
    if len(media_type) > MAX_CONTENT_TYPE or not media_type.isascii() or not media_type.isprintable():
        raise InvalidError(
            f"the content type must have at most {MAX_CONTENT_TYPE} printable ASCII characters",
            reason="CONTENT_TYPE_INVALID",
        )


def edit(event: envelope_pb2.Event, edited: pb.EditedInput, original_id: str) -> None:
    """Replace the body of an event by one that was checked, and drop what was said of the original one.

    Nobody signed the new body, and it is not the delivery that the original was: `principal` and `dedupe_key` are
    cleared. The order key is left to the caller.
    """
    for field in ("body_blob", "parts", "form", "order_key", "flow_revision", "dedupe_key", "principal"):
        event.ClearField(field)
    event.body = edited.body
    kept = [header for header in event.headers if header.name not in _OF_BODY]
    if edited.HasField("content_type"):
        media_type = edited.content_type
        event.content_type = media_type
        kept = [header for header in kept if header.name != CONTENT_TYPE]
        if media_type:
            kept.append(envelope_pb2.Header(name=CONTENT_TYPE, value=media_type.encode()))
    event.ClearField("headers")
    event.headers.extend(kept)
    event.replay.edited_from = original_id
