"""Held results: journal entries that a replay reuses whenever the flow reaches their task, independent of order.

A replay that starts at a failed call drops the journal after that call. Effects that were performed there must not be
performed again when the flow reaches their tasks once more; when that is, or whether it happens at all, is unknown. So
their results stay in the journal under their keys with `PREFIX` in front. When the flow asks for one, it is journaled
again, at that position.

A replay with a given output of a task holds that output in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from flowhook.model.executions import SNAPSHOT_KEY, JournalEntry

PREFIX: Final = "~"  # prefix of the key of a held result; other keys begin with a slash, or are `SNAPSHOT_KEY`

ONLY_THESE: Final = ""
"""Key of a held entry that is no result: results that the snapshot before it holds are not used any more."""

GIVEN_OUTPUT: Final = ":output"  # ends the key of a held output; see `given_output_key`


def given_output_key(task: str, number: int = 0) -> str:
    """Return the key of an output that a replay gives to a task: it is not performed, and has this raw output.

    That applies to the first run of the task whose number among all task runs is at least `number`.
    """
    return f"{task}#{number}{GIVEN_OUTPUT}"


# A replay may give task x of a fork an output, and a replay of that one another to y, beside it:
#     ~x#8:output     given by the first replay, to the run of x whose number is 8
#     x#8.0:output    the entry when it was used: by the first run of x. In the second replay that may be the seventh
#                     run of all, since y has an output, so that its tasks don't run; of x it is the first all the same


def used_output_key(given: str, run: int) -> str:
    """Return the key of a given output that a run of the task uses.

    `run` says how many runs the task had before, since the last snapshot.
    """
    return given if _run_of(given) else f"{given.removesuffix(GIVEN_OUTPUT)}.{run}{GIVEN_OUTPUT}"


def is_due(given: str, number: int, run: int) -> bool:
    """Whether a given output is for a run of the task with this number among all task runs, and among its own."""
    its_run = _run_of(given)
    return int(its_run) == run if its_run else number_of(given) <= number


def number_of(given_output: str) -> int:
    return int(_counts(given_output)[0])


def unused_key(key: str) -> str:
    """Return the key under which a result was held before it was used."""
    if not key.endswith(GIVEN_OUTPUT):
        return key
    return f"{key.rpartition('#')[0]}#{_counts(key)[0]}{GIVEN_OUTPUT}"


def _run_of(given_output: str) -> str:
    return _counts(given_output)[2]


def _counts(given_output: str) -> tuple[str, str, str]:
    return given_output.removesuffix(GIVEN_OUTPUT).rpartition("#")[2].partition(".")


def hold(results: Iterable[JournalEntry]) -> tuple[JournalEntry, ...]:
    return tuple(replace(entry, key=PREFIX + entry.key) for entry in results)


def split_held(journal: Iterable[JournalEntry]) -> tuple[tuple[JournalEntry, ...], dict[str, JournalEntry]]:
    """Return the ordered entries of a journal, and by key the held results that the flow has not asked for since.

    A snapshot includes the results that were held before it.
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
            held.pop(unused_key(entry.key), None)
        ordered.append(entry)
    return tuple(ordered), held
