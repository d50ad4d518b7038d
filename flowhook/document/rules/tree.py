"""Helpers for reading a plain tree that may have any shape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flowhook.document.codes import Code
from flowhook.document.problems import Path, Problem


def mapping(value: object) -> dict[str, Any]:
    """Return a mapping as it is, and an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def sequence(value: object) -> list[Any]:
    """Return a list as it is, and an empty one for anything else."""
    return value if isinstance(value, list) else []


def named_items(items: object) -> list[tuple[int, str, Any]]:
    """Return index, name and content of the items of a list that are mappings with exactly one key."""
    return [(index, *next(iter(item.items()))) for index, item in enumerate(sequence(items)) if len(mapping(item)) == 1]


def null_keys(value: object, path: Path) -> Iterator[Problem]:
    """Yield the keys of a mapping that have no value."""
    for key, item in mapping(value).items():
        if item is None:
            yield Problem((*path, key), Code.VALUE_MISSING, "has no value: give it one, or remove the key")


def null_keys_within(value: object, path: Path) -> Iterator[Problem]:
    """Yield the keys of a mapping that have no value, and those of the mappings in it."""
    yield from null_keys(value, path)
    for key, item in mapping(value).items():
        yield from null_keys_within(item, (*path, key))
