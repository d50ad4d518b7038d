"""Private files and directories: modes 0600 and 0700, whatever the previous mode and the umask.

All functions block. Files of other programs are left alone: a data directory may contain them, too.
"""

from __future__ import annotations

import errno
import glob
import os
import stat
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

from flowhook.errors import UnavailableError

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
    "applied-flows.json",
    ".applied-flows.json.*",
    "nats.json",
    ".nats.json.*",
)
"""Patterns of Flowhook's files in a data directory; they include copies beside the originals."""

OUR_DIRECTORIES: Final = ("blobs", "run")  # subdirectories of a data directory that contain only files of Flowhook
# Patterns of subdirectories of a data directory in which other processes create and remove files all the time: their
# own mode protects those.
OPAQUE_DIRECTORIES: Final = (
    *("nats-[0-9]*", "router-[0-9]*", "view", "before-restore-*"),
    *(".*.backup", ".*.restore", ".*.migration"),
)
# Subdirectories of a data directory that contain files of Flowhook, or copies of them, and files of operators.
SHARED_DIRECTORIES: Final = ("logs", "backup", "backups")
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def check_descriptors(error: OSError) -> None:
    """Raise UnavailableError (`DESCRIPTORS_USED_UP`) if a file could not be opened because too many are open.

    Source: open(2).
    """
    if error.errno in (errno.EMFILE, errno.ENFILE):
        raise UnavailableError(
            f"all file descriptors are used up ({os.strerror(error.errno)}): raise `ulimit -n`, or LimitNOFILE of the"
            " systemd unit, and restart",
            reason="DESCRIPTORS_USED_UP",
        ) from None


def make_directory(path: Path) -> None:
    """Create a directory only for its owner, parents by the umask; leave an existing one. May raise OSError."""
    try:
        path.mkdir(mode=DIRECTORY_MODE, parents=True)
    except FileExistsError:
        if not path.is_dir():
            raise
    else:
        path.chmod(DIRECTORY_MODE)  # the umask may have removed permissions of the owner


def open_private(path: Path, flags: int) -> int:
    """Open a file (mode 0600, created if missing), return its descriptor; `O_CREAT` and `O_CLOEXEC` are added."""
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
    """Write a file of mode 0600 atomically; OSError: it could not be written, an existing file is unchanged.

    If `durable`, the content is on disk when this returns; else a crash may undo the write.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with os.fdopen(open_private(temporary, os.O_WRONLY | os.O_TRUNC), "wb") as file:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def restrict_permissions(data_dir: Path, database: Path | None = None) -> list[Path]:
    """Make a data directory and Flowhook's files in it accessible to their owner only.

    Removes permissions of group and others, never the owner's, and only from files of this user. A directory that also
    contains files of other programs, such as `/srv`, keeps its mode, because others may need access to those. The
    directory is created when missing. Of a `database` elsewhere the files are restricted, but not its directory.

    Return the paths that others can still access because they belong to another user, and the data directory if it also
    contains files of other programs and others can write to it. Raise OSError if it can't be created or read.
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
    """Return the paths of files and directories with these names (patterns), and whether there is anything else."""
    found: list[Path] = []
    others = False
    for path, is_directory in _entries(directory):
        if not is_directory:
            is_ours = _matches(path, files)
            found += [path] if is_ours else ()
        elif _matches(path, OPAQUE_DIRECTORIES):
            is_ours = True
            found.append(path)
        else:
            is_ours = path.name in directories
            if is_ours:
                found += _tree(path, files if path.name in SHARED_DIRECTORIES else ("*",))
        others |= not is_ours
    return found, others


def _tree(directory: Path, files: tuple[str, ...]) -> Iterator[Path]:
    """Yield a directory and what is in it: all directories, and the files with these names, or all of Flowhook's."""
    yield directory
    for path, is_directory in _entries(directory):
        if is_directory:
            yield from _tree(path, ("*",) if path.name in OUR_DIRECTORIES else files)
        elif _matches(path, files):
            yield path


def _entries(directory: Path) -> Iterator[tuple[Path, bool]]:
    with os.scandir(directory) as entries:
        for entry in entries:
            yield Path(entry.path), entry.is_dir(follow_symlinks=False)


def _matches(path: Path, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(path.name, pattern) for pattern in patterns)


def _tighten(path: Path) -> bool:
    """Remove others' permissions on a path; return false if they can still access it. Symbolic links are left alone."""
    try:
        # by descriptor, since the path may point to another file by the time of the chmod
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return not _is_exposed(path)
    try:
        found = os.fstat(descriptor)
        is_ordinary = stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)
        if not stat.S_IMODE(found.st_mode) & _OTHERS or not is_ordinary:
            return True
        # root could lock out another owner; a directory with a sticky bit, such as /tmp, is shared on purpose
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
