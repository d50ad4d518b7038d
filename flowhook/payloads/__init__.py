"""What a request's body says: from bytes and their media type to data and attachments.

Lives here: one module per format, `content_encoding` for compressed bodies, and `parsing`, which chooses; `form_data`
takes apart what is never in memory as a whole. Must not live
here: I/O, signatures, anything of one provider.

Invariants: pure functions of bytes that were verified before; whatever was sent, they return or raise `InvalidError`
and nothing else; time and memory are bounded by the limits that stand in each module. A body that is not empty gives
data or an attachment: nothing is accepted and then empty.
"""

from flowhook.payloads.cloud_event import with_attributes
from flowhook.payloads.content_type import ContentType, is_json, parse_content_type
from flowhook.payloads.form_data import StreamedParts
from flowhook.payloads.parsing import Attachment, Content, event_identity, is_left_whole, is_parsed, parse
from flowhook.payloads.selection import Selection, select, selection_of

__all__ = [
    "Attachment",
    "Content",
    "ContentType",
    "Selection",
    "StreamedParts",
    "event_identity",
    "is_json",
    "is_left_whole",
    "is_parsed",
    "parse",
    "parse_content_type",
    "select",
    "selection_of",
    "with_attributes",
]
