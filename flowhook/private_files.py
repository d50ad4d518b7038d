"""Files and directories for their owner alone: 0600 and 0700, whatever they were before and whatever the umask says.

Everything here blocks. What is not ours is left alone: a data directory may be one that holds other things, too.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

FILE_MODE: Final = 0o600
DIRECTORY_MODE: Final = 0o700

OURS: Final = (
    "flowhook.db*",
    "secrets.key*",
    ".secrets.key.*",
    "tokens*.json",
    ".tokens*.json.*",
    "*.token",
    ".*.token.*",
    "*.log*",
)
"""Files of a data directory; copies of them beside them are meant, too."""

OUR_DIRECTORIES: Final = ("blobs", "run")
"""Directories of a data directory, of which everything in them is ours."""

SHARED_DIRECTORIES: Final = ("logs", "backup", "backups")
"""Directories of a data directory that hold files of ours, or copies of them, and what operators put there."""

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def make_directory(path: Path) -> None:
    """Make a directory that is for its owner alone; one that is there is left as it is.

    Its parents are made as the umask says.

    Raises:
        OSError: it can't be made.
    """
    try:
        path.mkdir(mode=DIRECTORY_MODE, parents=True)
    except FileExistsError:
        if not path.is_dir():
            raise
    else:
        path.chmod(DIRECTORY_MODE)  # the umask may have taken from it what its owner needs


def create(path: Path, flags: int) -> int:
    """Open a file, made for its owner alone when it is not there, and return its descriptor.

    Args:
        path: of the file.
        flags: of `open(2)`; `O_CREAT` and `O_CLOEXEC` are added.

    Raises:
        OSError: it can't be opened.
    """
    descriptor = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    try:
        found = os.fstat(descriptor)
        if stat.S_IMODE(found.st_mode) != FILE_MODE and found.st_uid == os.geteuid():
            os.fchmod(descriptor, FILE_MODE)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def write_private(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write a file atomically, for its owner alone; when this returns it is `durable`, or a crash may undo it.

    Raises:
        OSError: it could not be written; an earlier file is unchanged.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with os.fdopen(create(temporary, os.O_WRONLY | os.O_TRUNC), "wb") as file:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def tighten(data_dir: Path, database: Path | None = None) -> list[Path]:
    """Make a data directory, and what we keep in it, readable by its owner only.

    Only rights of others are taken, never the owner's, and only from what is this user's. A directory that holds what
    is not ours, such as `/srv`, keeps its mode: others may have to get at that.

    Args:
        data_dir: made when missing.
        database: where it is, if elsewhere; what lies beside it is tightened, but not its directory.

    Returns:
        What others can still get at, since it is not this user's, and a directory of many that others can write to.

    Raises:
        OSError: the directory can't be made or read.
    """
    make_directory(data_dir)
    data_dir = data_dir.resolve()
    files = OURS if database is None else (*OURS, f"{glob.escape(database.name)}*")
    paths, others = _ours(data_dir, files, (*OUR_DIRECTORIES, *SHARED_DIRECTORIES))
    if database is not None and database.parent.is_dir() and not database.parent.samefile(data_dir):
        paths += _ours(database.parent, files[-1:], ("blobs",))[0]
    exposed = [data_dir] if others and stat.S_IMODE(data_dir.stat().st_mode) & _OTHERS_WRITE else []
    return exposed + [path for path in ([] if others else [data_dir]) + paths if not _tighten(path)]


def _ours(directory: Path, files: tuple[str, ...], directories: tuple[str, ...]) -> tuple[list[Path], bool]:
    """Return what is ours in a directory, by patterns of files' and names of directories, and whether more is in it."""
    found: list[Path] = []
    others = False
    with os.scandir(directory) as entries:
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                is_ours = any(fnmatch(entry.name, pattern) for pattern in files)
                found += [Path(entry.path)] if is_ours else ()
            else:
                is_ours = entry.name in directories
                if is_ours:
                    found += _copies(Path(entry.path), files) if entry.name in SHARED_DIRECTORIES else _all(entry.path)
            others |= not is_ours
    return found, others


def _copies(directory: Path, files: tuple[str, ...]) -> Iterator[Path]:
    yield directory
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _all(entry.path) if entry.name in OUR_DIRECTORIES else _copies(Path(entry.path), files)
            elif any(fnmatch(entry.name, pattern) for pattern in files):
                yield Path(entry.path)


def _all(directory: str) -> Iterator[Path]:
    yield Path(directory)
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _all(entry.path)
            else:
                yield Path(entry.path)


def _tighten(path: Path) -> bool:
    """Take a file or directory from others; false when they can still get at it. Links are left alone."""
    try:
        # not by its name: that may be another's by the next moment
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return not _is_exposed(path)
    try:
        found = os.fstat(descriptor)
        if not stat.S_IMODE(found.st_mode) & _OTHERS:
            return True
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
            return True
        # the superuser could take it from its owner; with a sticky bit, as /tmp, it was made for many
        if found.st_uid != os.geteuid() or found.st_mode & stat.S_ISVTX:
            return False
        os.fchmod(descriptor, stat.S_IMODE(found.st_mode) & ~_OTHERS)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _is_exposed(path: Path) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    return not stat.S_ISLNK(found.st_mode) and bool(stat.S_IMODE(found.st_mode) & _OTHERS)
