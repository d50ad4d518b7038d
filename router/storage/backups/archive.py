"""The file of a backup: a tar archive, compressed by zstd unless its name ends with `.tar`.

    backup.json       what is in it
    flowhook.db       the database
    blobs/<xx>/<…>    large payloads and bodies
    tokens.json       hashes of the tokens
    SHA256SUMS        digests of all files before, which are checked whenever a backup is read

The tools of operators read it, too: `tar --zstd -xf FILE; sha256sum -c SHA256SUMS`. `SHA256SUMS` is the last file, so
that one that lacks it was truncated.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Self, cast

import orjson
import zstandard

import flowhook
from flowhook.errors import ConflictError
from flowhook.security.private_files import make_directory, open_private
from router.storage.blobs import check_room

FORMAT: Final = 1
MANIFEST: Final = "backup.json"
DATABASE: Final = "flowhook.db"
BLOBS: Final = "blobs"
TOKENS: Final = "tokens.json"
SUMS: Final = "SHA256SUMS"
PLAIN_SUFFIX: Final = ".tar"  # end of the names of files that are not compressed
SUFFIXES: Final = (".tar.zst", PLAIN_SUFFIX)
COMPRESSION_LEVEL: Final = 3
CHUNK_BYTES: Final = 1 << 20
WRITEBACK_BYTES: Final = 1 << 18  # between two writebacks: a large one at the end would delay commits on the same disk
MAX_TEXT_BYTES: Final = 256 << 20  # largest size of a part that is read into memory: digests of two million blobs
_NAMES: Final = re.compile(
    rf"{MANIFEST}|{DATABASE}|{TOKENS}|{SUMS}|{BLOBS}/[A-Za-z0-9_-]{{2}}/[A-Za-z0-9_-][A-Za-z0-9_.-]*"
)
_MAGIC: Final = b"\x28\xb5\x2f\xfd"  # RFC 8878, section 3.1.1

Pause = Callable[[], object]


class BackupDamagedError(ConflictError):
    """A file is not a whole backup; the message names the part."""

    default_reason = "BACKUP_DAMAGED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What is in a backup."""

    time_ms: int  # when it was made: it has everything that was acknowledged before
    storage: str  # `sqlite`, or `nats` if it was made of a replicated log
    log: str = ""  # identity of the log; or empty
    position: int  # of the log; of the embedded storage: number of the last execution
    database_format: int  # version of the tables
    executions: dict[str, int]  # number of executions, by status
    blobs: int  # number of large payloads and bodies
    missing: int = (
        0  # number of those that the storage did not have: retention removed them meanwhile, or they are lost
    )
    secrets: int  # number of secrets, which only the key opens
    secrets_key: str = ""  # fingerprint of the key; empty: there was none yet
    version: str = flowhook.__version__  # of the Flowhook that made it
    format: int = field(default=FORMAT)

    def to_json(self) -> bytes:
        return orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2) + b"\n"

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        try:
            found = orjson.loads(content)
            if found["format"] != FORMAT:
                raise ConflictError(
                    f"the backup has format {found['format']}, and this Flowhook reads format {FORMAT}: use the one"
                    f" that made it ({found.get('version', 'unknown')})",
                    reason="BACKUP_FORMAT_UNSUPPORTED",
                )
            return cls(**found)
        except (ValueError, KeyError, TypeError):
            raise BackupDamagedError(f"{MANIFEST} of the backup can't be read") from None


class ArchiveWriter:
    """Writes the file of a backup, in the order of its parts; `pause` is called after each MiB or so.

    A context manager, which writes the digests and the end, and makes everything durable, unless the block raises.
    """

    def __init__(self, path: Path, *, compressed: bool, pause: Pause) -> None:
        """Create the file."""
        self._file = os.fdopen(open_private(path, os.O_WRONLY | os.O_EXCL), "wb")
        packed: Any = _PacedFile(self._file, path, pause)  # tarfile and zstandard ask for no more than it has
        self._sink: _PacedFile = packed
        self._packer: zstandard.ZstdCompressionWriter | None = None
        if compressed:
            compressor = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL, write_checksum=True)
            packed = self._packer = compressor.stream_writer(packed, closefd=False)
        self._tar = tarfile.open(  # noqa: SIM115 - closed by `close`
            mode="w|", fileobj=packed, bufsize=CHUNK_BYTES, format=tarfile.PAX_FORMAT
        )
        self._tar.copybufsize = CHUNK_BYTES  # type: ignore[attr-defined]  # documented nowhere; else 16 KiB
        self._sums: list[str] = []

    def add(self, name: str, path: Path) -> None:
        with path.open("rb") as file:
            self._add(name, file, os.fstat(file.fileno()).st_size)

    def add_content(self, name: str, content: bytes) -> None:
        self._add(name, io.BytesIO(content), len(content))

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._file.tell()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._file:
            if kind is not None:
                self._sink.failed = True
                return
            self.add_content(SUMS, "".join(self._sums).encode())
            self._tar.close()
            if self._packer is not None:
                self._packer.close()  # type: ignore[no-untyped-call]
            self._sink.sync()

    def _add(self, name: str, file: IO[bytes], size: int) -> None:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = size, 0o600
        source = _Hashed(file)
        self._tar.addfile(entry, cast("IO[bytes]", source))
        self._sums.append(f"{source.digest.hexdigest()}  {name}\n")


class Writeback:
    """Has the kernel write a file that grows to disk in pieces, without waiting for it.

    A sync of a file that grows would commit the journal of the file system, for which every other sync waits.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._begun = 0  # bytes whose writeback has begun

    def advance(self) -> None:
        """Begin to write what came since the last piece, if that is enough; StorageError if the disk has no room."""
        size = self._path.stat().st_size
        if size - self._begun < WRITEBACK_BYTES:
            return
        if hasattr(os, "posix_fadvise"):  # not on macOS
            with self._path.open("rb") as file:
                os.posix_fadvise(file.fileno(), self._begun, size - self._begun, os.POSIX_FADV_DONTNEED)
        check_room(self._path.parent, 0)  # what is served from the same disk goes first
        self._begun = size


class _PacedFile:
    """A file that is written to disk in pieces, and whose writer pauses."""

    def __init__(self, file: IO[bytes], path: Path, pause: Pause) -> None:
        self._file = file
        self._writeback = Writeback(path)
        self._pause = pause
        self.failed = False  # whether nothing is written any more

    def write(self, data: bytes) -> int:
        if not self.failed:  # tarfile writes the end of an archive that it could not write, too
            self.failed = True
            self._write(data)
            self.failed = False
        return len(data)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._writeback.advance()
        self._pause()

    def flush(self) -> None:
        """Do nothing: see `sync`."""

    def sync(self) -> None:
        self._file.flush()
        os.fdatasync(self._file.fileno())


class _Hashed:
    """Reads a file, and computes its digest."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data


def read_archive(path: Path, directory: Path | None = None, *, pause: Pause = str) -> Manifest:
    """Read a backup, compare the digests of all its parts, and return what is in it.

    Its parts, but for its digests, are written to `directory`, which must be empty, if that is given.

    Raises:
        BackupDamagedError: it is no backup, truncated, or a part is damaged; the message says which.
        ConflictError: a later version made it (`BACKUP_FORMAT_UNSUPPORTED`).
        StorageError: the disk has no room for it (`STORAGE_FULL`).
        OSError: it can't be read or written.
    """
    found, texts = _read_parts(path, directory, pause)
    if SUMS not in found:
        last = next(reversed(found), "nothing")
        raise BackupDamagedError(f"{path} is truncated: it ends after {last}, without {SUMS}")
    del found[SUMS]
    lines = [line.partition("  ") for line in texts[SUMS].decode("utf-8", "replace").splitlines()]
    expected = {name: digest for digest, _, name in lines}
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            raise BackupDamagedError(f"{path} is damaged: {name} is not what {SUMS} says")
    if not {MANIFEST, DATABASE} <= found.keys():
        raise BackupDamagedError(f"{path} is no backup: it has no {MANIFEST} or no {DATABASE}")
    return Manifest.from_json(texts[MANIFEST])


def _read_parts(path: Path, directory: Path | None, pause: Pause) -> tuple[dict[str, str], dict[str, bytes]]:
    """Return the digests of the parts of an archive, in their order, and the contents of those that are texts."""
    found: dict[str, str] = {}
    texts: dict[str, bytes] = {}
    where = "at its beginning"
    with path.open("rb") as file:
        compressed = file.read(len(_MAGIC)) == _MAGIC
        file.seek(0)
        unpacked: IO[bytes] = file
        if compressed:
            unpacked = cast("IO[bytes]", zstandard.ZstdDecompressor().stream_reader(file, closefd=False))
        try:
            with tarfile.open(mode="r|", fileobj=unpacked, bufsize=CHUNK_BYTES) as tar:
                for entry in tar:
                    name = entry.name
                    content = tar.extractfile(entry) if entry.isreg() and _NAMES.fullmatch(name) else None
                    if content is None:
                        raise BackupDamagedError(f"{path} is no backup: it has a part {name[:200]!r}")
                    where = f"within {name}"
                    digest, text = hashlib.sha256(), io.BytesIO() if name in (MANIFEST, SUMS) else None
                    if name in found or (text is not None and entry.size > MAX_TEXT_BYTES):
                        raise BackupDamagedError(f"{path} is no backup: {name} comes twice, or is too large")
                    with _part(directory, name, entry.size) as target:
                        while chunk := content.read(CHUNK_BYTES):
                            digest.update(chunk)
                            for sink in filter(None, (target, text)):
                                sink.write(chunk)
                            pause()
                    found[name], where = digest.hexdigest(), f"behind {name}"
                    if text is not None:
                        texts[name] = text.getvalue()
            while unpacked.read(CHUNK_BYTES):  # the checksum of zstd is at its end
                pass
        except (tarfile.TarError, zstandard.ZstdError, UnicodeDecodeError, ValueError) as error:
            raise BackupDamagedError(f"{path} is truncated or damaged {where} ({type(error).__name__})") from None
    return found, texts


@contextmanager
def _part(directory: Path | None, name: str, size: int) -> Iterator[IO[bytes] | None]:
    """Open the file of a part to be written; None: it is only read."""
    if directory is None or name == SUMS:
        yield None
        return
    path = directory / name
    if path.parent != directory:
        make_directory(path.parent.parent)
    make_directory(path.parent)
    check_room(path.parent, size)
    with os.fdopen(open_private(path, os.O_WRONLY | os.O_EXCL), "wb") as file:
        yield file
        file.flush()
        os.fdatasync(file.fileno())
