"""Results that a replay takes over apart from the order of its journal.

A replay that starts at a failed call leaves out of the journal what came after it. What was performed there is not to
be performed again when the flow comes there once more, and nobody knows when, or whether, it will. So such results are
in the journal under their keys behind `PREFIX`; once the flow asks for one, it is written down where that was.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from flowhook.model import SNAPSHOT_KEY, JournalEntry

PREFIX: Final = "~"
"""Before the key of a result that is held; keys of other entries begin with a slash, or are that of a snapshot."""


def hold(results: Iterable[JournalEntry]) -> tuple[JournalEntry, ...]:
    """Return results as entries that are held, in order."""
    return tuple(replace(entry, key=PREFIX + entry.key) for entry in results)


def split(journal: Iterable[JournalEntry]) -> tuple[tuple[JournalEntry, ...], dict[str, JournalEntry]]:
    """Return the entries that are in order, and by key the results held that were not asked for since.

    A snapshot has what was held before it.
    """
    ordered: list[JournalEntry] = []
    held: dict[str, JournalEntry] = {}
    for entry in journal:
        if entry.key.startswith(PREFIX):
            key = entry.key.removeprefix(PREFIX)
            held[key] = replace(entry, key=key)
            continue
        if entry.key == SNAPSHOT_KEY:
            held.clear()
        elif entry.error is None:
            held.pop(entry.key, None)
        ordered.append(entry)
    return tuple(ordered), held
