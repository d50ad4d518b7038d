"""Finds full disks, which errors of the file system and of SQLite do not always name."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

LEAST_BYTES: Final = 256 * 1024
"""With less room than this a disk counts as full: SQLite's shared memory and a few pages need as much."""
NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def describe_full(directories: Iterable[Path], *, least_bytes: int = LEAST_BYTES) -> str:
    """Return which of the directories are on a full disk, and what to do; empty: none of them is. Blocks briefly."""
    full = list(dict.fromkeys(str(each) for each in directories if _is_full(each, least_bytes)))
    return f"the disk of {', '.join(full)} is full: make room, and start it again" if full else ""


def _is_full(directory: Path, least_bytes: int) -> bool:
    """Whether the disk that a directory is on, or would be created on, is full."""
    for each in (directory, *directory.absolute().parents):
        try:
            found = os.statvfs(each)
        except OSError:
            continue
        return found.f_bavail * found.f_frsize < least_bytes
    return False
