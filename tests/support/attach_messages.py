"""Parts of Attach messages as protobuf, for tests that play one of the two halves by hand."""

from __future__ import annotations

from flowhook.attach.codec import decode_subscriptions, entry_from_proto, fill_entry
from flowhook.v1 import runner_service_pb2 as pb

__all__ = ["decode_subscriptions", "entry_from_proto", "entry_message"]


def entry_message(entry):
    """Return a journal entry as a message."""
    message = pb.JournalEntry()
    fill_entry(message, entry)
    return message
