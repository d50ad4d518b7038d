"""Directories and S3 buckets that hold backups, and the policy by which old backups are removed from them.

Only files with names of ours are listed and removed, so that others may be there, too.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from calendar import timegm
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from flowhook.errors import ConflictError, InvalidError, UnavailableError
from flowhook.security.private_files import make_directory
from router.storage.blobs import sync
from router.storage.errors import translate
from router.storage.replicated.snapshots import working_directory

if TYPE_CHECKING:
    from obstore.store import ObjectStore

S3_SCHEME: Final = "s3"
MAX_RETRIES: Final = 5  # of one request
PART_BYTES: Final = 5 << 20  # smallest size of one part of an upload
MAX_PARTS: Final = 9_000  # of one upload: S3 takes 10,000
_NAME: Final = re.compile(r"flowhook-(\d{8}T\d{6}Z)\.tar\.zst")
_TIME: Final = "%Y%m%dT%H%M%SZ"
_FIRST_LINE: Final = 300  # characters of a message of the S3 client: more follows, for its developers


def file_name(seconds: float) -> str:
    """Return the name of a backup that is made at a Unix time."""
    return f"flowhook-{time.strftime(_TIME, time.gmtime(seconds))}.tar.zst"


def time_of(name: str) -> int | None:
    """Return the Unix time at which a backup was made, by its name; None: it is no name of ours."""
    match = _NAME.fullmatch(name)
    try:
        return None if match is None else timegm(time.strptime(match[1], _TIME))
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class KeepPolicy:
    """Which backups are kept: each of these numbers is of the newest ones. The newest of all is kept in any case."""

    last: int  # backups
    daily: int  # days that have any, of each of which the last is kept (UTC)
    weekly: int  # weeks that have any, of each of which the last is kept (ISO 8601)

    def surplus(self, names: Iterable[str], made: str = "") -> list[str]:
        """Return the names of those that are to be removed, the oldest first; names that are not ours are not.

        `made`: name of the one that was just made, which stays: others may have names of the future, by a wrong clock.
        """
        times = sorted(((found, name) for name in names if (found := time_of(name)) is not None), reverse=True)
        kept = {made, *(name for _, name in times[: max(1, self.last)])}
        for number, period in ((self.daily, "%Y-%m-%d"), (self.weekly, "%G-%V")):
            newest: dict[str, str] = {}
            for seconds, name in times:
                newest.setdefault(datetime.fromtimestamp(seconds, UTC).strftime(period), name)
            kept.update(list(newest.values())[:number])
        return [name for _, name in reversed(times) if name not in kept]


@contextmanager
def locked_directory(path: Path) -> Iterator[bool]:
    """Keep other backups out of a directory, which is created when missing; yield whether its file system can.

    Raises ConflictError: another one is being made there (`BACKUP_RUNNING`).
    """
    try:
        make_directory(path)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise translate(error) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(f"another backup is being made in {path}", reason="BACKUP_RUNNING") from None
        except OSError:  # such as NFS
            is_locked = False
        else:
            is_locked = True
        yield is_locked
    finally:
        os.close(descriptor)


@attrs.define(eq=False, repr=False)
class DirectoryTarget:
    """A directory of backups, which is created when missing. Methods block, and raise UnavailableError."""

    _path: Path

    def store(self, name: str, make: Callable[[Path], object]) -> str:
        """Store a file that `make` writes to a path, and return where it is; it is there as a whole or not at all."""
        path = self._path / name
        make(path)
        return str(path)

    def names(self) -> Sequence[str]:
        try:
            return sorted(path.name for path in self._path.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise translate(error) from error

    def remove(self, name: str) -> None:
        try:
            (self._path / name).unlink(missing_ok=True)
            sync(self._path)
        except OSError as error:
            raise translate(error) from error


@attrs.define(eq=False, repr=False)
class S3Target:
    """A prefix of a bucket, with the methods of a directory.

    A file is written to a directory of this machine first, checked there, and uploaded.
    """

    _url: str
    _store: ObjectStore
    _directory: Path

    def store(self, name: str, make: Callable[[Path], object]) -> str:
        # what one that was killed left is removed by the next one
        with locked_directory(self._directory), working_directory(self._directory / "upload") as work:
            path = work / name
            make(path)
            size = path.stat().st_size
            part = max(PART_BYTES, size // MAX_PARTS)
            # what is aborted in the middle is no object: bucket rules remove its parts
            self._call(lambda: self._store.put(name, path, chunk_size=part))
            stored = self._call(lambda: self._store.head(name)["size"])
            if stored != size:
                raise UnavailableError(f"{self._url}/{name} has {stored} bytes, and not those that were sent")
        return f"{self._url}/{name}"

    def names(self) -> Sequence[str]:
        pages: list[Any] = self._call(lambda: list(self._store.list()))
        return sorted(found["path"] for page in pages for found in page)

    def remove(self, name: str) -> None:
        self._call(lambda: self._store.delete(name))

    @contextmanager
    def fetched(self, name: str) -> Iterator[Path]:
        """Download a file to the directory, and yield its path; it is removed afterwards."""

        def write(path: Path) -> None:
            with path.open("xb") as file:
                file.writelines(self._store.get(name).stream())

        with working_directory(self._directory / "download") as work:
            self._call(lambda: write(work / name))
            yield work / name

    def _call(self, function: Callable[[], Any]) -> Any:
        try:
            return function()
        except Exception as error:  # noqa: BLE001 - its classes have no base of their own
            text = str(error).partition("\n")[0][:_FIRST_LINE]
            raise UnavailableError(f"{self._url}: {text}", reason="BACKUP_TARGET_UNAVAILABLE") from None


BackupTarget = DirectoryTarget | S3Target


def is_s3(target: str) -> bool:
    return target.partition(":")[0] == S3_SCHEME


def open_s3(url: str, directory: Path) -> S3Target:
    """Open a prefix of a bucket, with the settings that `AWS_…` variables have. No I/O.

    Raises:
        InvalidError: the extra is not installed (`S3_NOT_INSTALLED`), or the URL or a setting is not valid.
    """
    try:
        from obstore.store import S3Store  # noqa: PLC0415 - an extra
    except ImportError:
        raise InvalidError("for S3, install the extra: pip install 'flowhook[s3]'", reason="S3_NOT_INSTALLED") from None
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    try:
        store = S3Store.from_url(
            url,
            config={"endpoint": endpoint} if endpoint else {},
            client_options={"allow_http": endpoint.startswith("http://")},
            retry_config={"max_retries": MAX_RETRIES},
        )
    except Exception as error:  # noqa: BLE001 - the same
        raise InvalidError(f"{url}: {str(error).partition(chr(10))[0][:_FIRST_LINE]}") from None
    return S3Target(url.rstrip("/"), store, directory)
