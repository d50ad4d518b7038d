"""Measures what the data takes on the disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final

from router.storage.activity import StorageUsage

MAX_FILES: Final = 100_000
"""Files beside the database that are looked at, which takes about half a second."""


def measure(path: Path, files: Path, *, max_files: int = MAX_FILES) -> StorageUsage:
    """Return the sizes of a database, of its write-ahead log, and of the files in the folders of `files`. Blocks.

    Raises:
        OSError: the database or its disk can't be read.
    """
    sizes = list(islice(_sizes(files), max_files + 1))
    disk = shutil.disk_usage(path.parent)
    return StorageUsage(
        database=path.stat().st_size,
        wal=sum(_size(path.with_name(f"{path.name}-wal"))),
        file_bytes=sum(sizes[:max_files]),
        files=min(len(sizes), max_files),
        files_partial=len(sizes) > max_files,
        free=disk.free,
        disk=disk.total,
    )


def _sizes(path: Path) -> Iterator[int]:
    """Yield the sizes of the files below a folder; what is removed meanwhile is left out."""
    for folder, _, names in os.walk(path):
        for name in names:
            yield from _size(Path(folder, name))


def _size(path: Path) -> Iterator[int]:
    """Yield the size of a file, if there is one."""
    with suppress(FileNotFoundError):
        yield path.stat().st_size
