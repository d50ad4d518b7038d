"""Converts journal entries, which both sides send."""

from __future__ import annotations

from flowhook.model import JournalEntry
from flowhook.v1 import runner_service_pb2 as pb
from flowhook.wire import convert


def fill_entry(message: pb.JournalEntry, entry: JournalEntry) -> None:
    """Set the fields of a message to those of a journal entry."""
    message.key = entry.key
    if entry.error is None:
        message.output = entry.output or b""
    else:
        message.error.CopyFrom(convert.error_to_proto(entry.error))


def entry_from_proto(message: pb.JournalEntry) -> JournalEntry:
    """Return the journal entry that a message holds."""
    if message.WhichOneof("result") == "error":
        return JournalEntry(message.key, None, convert.error_from_proto(message.error))
    return JournalEntry(message.key, message.output)
