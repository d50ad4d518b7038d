"""Makes the event of a replay whose input was edited."""

from __future__ import annotations

from typing import Final

from flowhook import limits
from flowhook.errors import InvalidError
from flowhook.model import Event
from flowhook.model.replays import ReplayOrigin
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


def edit(event: Event, edited: pb.EditedInput, original_id: str) -> Event:
    """Return an event with another body, which was checked, and without what was said of the original one.

    Nobody signed the new body, and it is not the delivery that the original was: it has no principal and no dedupe key.
    The order key is left to the caller.
    """
    kept = [(name, value) for name, value in event.headers if name not in _OF_BODY]
    content_type = event.content_type
    if edited.HasField("content_type"):
        content_type = edited.content_type
        kept = [(name, value) for name, value in kept if name != CONTENT_TYPE]
        if content_type:
            kept.append((CONTENT_TYPE, content_type.encode()))
    return event._replace(
        principal=None,
        dedupe_key="",
        order_key="",
        content_type=content_type,
        headers=tuple(kept),
        body=edited.body,
        body_blob=None,
        parts=(),
        form=b"",
        replay=ReplayOrigin(edited_from=original_id),
    )
