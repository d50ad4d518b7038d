"""The file of a backup: a tar archive, compressed by zstd unless its name ends with `.tar`.

    backup.json       what is in it
    flowhook.db       the database
    blobs/<xx>/<…>    large payloads and bodies
    tokens.json       hashes of the tokens
    SHA256SUMS        digests of all files before, which are checked whenever a backup is read
    SHA256SUMS.hmac   HMAC of SHA256SUMS, by which a restore knows that no one else has written it

The tools of operators read it, too: `tar --zstd -xf FILE; sha256sum -c SHA256SUMS`. One that lacks `SHA256SUMS` was
truncated. The HMAC's key is derived from the key of secrets; where that is missing, so is the HMAC.

What is read may be an attacker's. It has regular files only, with headers of one block: GNU's format needs no others,
as names are short and it has room for all sizes. Their sizes are those that `backup.json` announces.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Self, cast

import attrs
import orjson
import zstandard

import flowhook
from flowhook.errors import ConflictError
from flowhook.security.private_files import make_directory, open_private
from router.storage.blobs import check_room
from router.storage.encryption import derive_key, key_fingerprint

FORMAT: Final = 2
MANIFEST: Final = "backup.json"
DATABASE: Final = "flowhook.db"
BLOBS: Final = "blobs"
TOKENS: Final = "tokens.json"
SUMS: Final = "SHA256SUMS"
SIGNATURE: Final = "SHA256SUMS.hmac"
PLAIN_SUFFIX: Final = ".tar"  # end of the names of files that are not compressed
SUFFIXES: Final = (".tar.zst", PLAIN_SUFFIX)
COMPRESSION_LEVEL: Final = 3
CHUNK_BYTES: Final = 1 << 20
WRITEBACK_BYTES: Final = 1 << 18  # between two writebacks: a large one at the end would delay commits on the same disk
MAX_MANIFEST_BYTES: Final = 1 << 16
MAX_SUM_BYTES: Final = 192  # of a line of SHA256SUMS: a digest, and a name of up to 100 characters
MAX_WINDOW_BYTES: Final = 8 << 20  # of zstd: memory that unpacking takes; the compression level needs 2 MiB
_OTHERS: Final = (DATABASE, TOKENS)  # parts that have sums beside the manifest and blobs
_NAMES: Final = re.compile(
    rf"{MANIFEST}|{DATABASE}|{TOKENS}|{SUMS}|{SIGNATURE}|{BLOBS}/[A-Za-z0-9_-]{{2}}/[A-Za-z0-9_-][A-Za-z0-9_.-]*"
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
    size: int  # bytes of its parts, but for itself and the digests
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
        """Return the manifest of a backup.

        Raises:
            ConflictError: the backup has another format (`BACKUP_FORMAT_UNSUPPORTED`).
            BackupDamagedError: this is not a manifest.
        """
        try:
            found = orjson.loads(content)
            if found["format"] != FORMAT:
                raise ConflictError(
                    f"the backup has format {found['format']}, and this Flowhook reads format {FORMAT}: use the one"
                    f" that made it ({found.get('version', 'unknown')})",
                    reason="BACKUP_FORMAT_UNSUPPORTED",
                )
            manifest = cls(**found)
        except (ValueError, KeyError, TypeError):
            raise BackupDamagedError(f"{MANIFEST} of the backup can't be read") from None
        if any(type(number) is not int or number < 0 for number in (manifest.size, manifest.blobs)):
            raise BackupDamagedError(f"{MANIFEST} of the backup has no sizes")
        return manifest


class ArchiveWriter:
    """Writes the file of a backup, in the order of its parts; `pause` is called after each MiB or so.

    With `key`, the key of secrets, it is authenticated.

    A context manager, which writes the digests and the end, and makes everything durable, unless the block raises.
    """

    def __init__(self, path: Path, *, compressed: bool, pause: Pause, key: bytes | None = None) -> None:
        """Create the file."""
        self._key = key
        self._file = os.fdopen(open_private(path, os.O_WRONLY | os.O_EXCL), "wb")
        packed: Any = _PacedFile(self._file, path, pause)  # tarfile and zstandard ask for no more than it has
        self._sink: _PacedFile = packed
        self._packer: zstandard.ZstdCompressionWriter | None = None
        if compressed:
            compressor = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL, write_checksum=True)
            packed = self._packer = compressor.stream_writer(packed, closefd=False)
        self._tar = tarfile.open(  # noqa: SIM115 - closed by `close`
            mode="w|", fileobj=packed, bufsize=CHUNK_BYTES, format=tarfile.GNU_FORMAT
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
            sums = "".join(self._sums).encode()
            self.add_content(SUMS, sums)
            if self._key is not None:
                self.add_content(SIGNATURE, _sign(sums, self._key))
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


def _sign(sums: bytes, key: bytes) -> bytes:
    return hmac.digest(derive_key(key, b"flowhook backup: sums"), sums, "sha256").hex().encode() + b"\n"


def read_archive(
    path: Path, directory: Path | None = None, *, key: bytes | None = None, pause: Pause = str
) -> Manifest:
    """Read a backup, compare the digests of all its parts, and return what is in it.

    With `key`, the key of secrets, it must have been made with the same key; without, anybody may have made it. Its
    parts, but for its digests, are written to `directory`, which must be empty, if that is given.

    Raises:
        BackupDamagedError: it is no backup, truncated, or a part is damaged; the message says which.
        ConflictError: a later version made it (`BACKUP_FORMAT_UNSUPPORTED`), with another key (`SECRETS_KEY_DIFFERS`),
            or it was made without the key, or changed (`BACKUP_NOT_AUTHENTIC`).
        StorageError: the disk has no room for it (`STORAGE_FULL`).
        OSError: it can't be read or written.
    """
    parts = _Parts(path, directory)
    parts.read(pause)
    if parts.manifest is None or SUMS not in parts.found:
        last = next(reversed(parts.found), "nothing")
        raise BackupDamagedError(f"{path} is truncated: it ends after {last}, without {SUMS}")
    sums = parts.texts[SUMS]
    if key is not None:
        fingerprint = key_fingerprint(key)
        if parts.manifest.secrets_key not in ("", fingerprint):
            raise ConflictError(
                f"the key of secrets is not that of the backup, whose fingerprint is {parts.manifest.secrets_key}:"
                " restore secrets.key, or FLOWHOOK_SECRETS_KEY, first",
                reason="SECRETS_KEY_DIFFERS",
            )
        if not hmac.compare_digest(parts.texts.get(SIGNATURE, b""), _sign(sums, key)):
            raise ConflictError(
                f"{path} was changed, or was not made with this key of secrets, whose fingerprint is {fingerprint}",
                reason="BACKUP_NOT_AUTHENTIC",
            )
    found = {name: digest for name, digest in parts.found.items() if name not in (SUMS, SIGNATURE)}
    lines = [line.partition("  ") for line in sums.decode("utf-8", "replace").splitlines()]
    expected = {name: digest for digest, _, name in lines}
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            raise BackupDamagedError(f"{path} is damaged: {name} is not what {SUMS} says")
    if DATABASE not in found or parts.room:
        raise BackupDamagedError(f"{path} is no backup: it has no {DATABASE}, or not the size that {MANIFEST} says")
    return parts.manifest


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    while len(data) < size:
        if not (more := stream.read(size - len(data))):
            raise EOFError
        data += more
    return data


@attrs.define(eq=False, repr=False)
class _Parts:
    """Reads the parts of an archive, and writes them to a directory, if there is one."""

    _path: Path
    _directory: Path | None
    found: dict[str, str] = attrs.field(init=False, factory=dict)
    """Digests of the parts, in their order."""
    texts: dict[str, bytes] = attrs.field(init=False, factory=dict)
    """Contents of the parts that are read into memory."""
    manifest: Manifest | None = attrs.field(init=False, default=None)
    room: int = attrs.field(init=False, default=0)
    """Bytes that the manifest announces, and that were not there yet."""

    def read(self, pause: Pause) -> None:
        """Read all parts. Raises as `read_archive` does."""
        where = "at its beginning"
        with self._path.open("rb") as file:
            compressed = file.read(len(_MAGIC)) == _MAGIC
            file.seek(0)
            unpacked: IO[bytes] = file
            if compressed:
                unpacker = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
                unpacked = cast("IO[bytes]", unpacker.stream_reader(file, closefd=False))
            try:
                # not by `tarfile`, which reads headers of any size into memory
                while (block := _exactly(unpacked, tarfile.BLOCKSIZE)) != bytes(tarfile.BLOCKSIZE):
                    entry = tarfile.TarInfo.frombuf(block, "ascii", "strict")
                    where = f"within {entry.name}"
                    self._take(entry, unpacked, pause)
                    where = f"behind {entry.name}"
                unpacked.read(CHUNK_BYTES)  # the rest of the last record; the checksum of zstd is behind it
                if unpacked.read(1):
                    raise self._refuse("it goes on behind its end")
            except (tarfile.TarError, zstandard.ZstdError, EOFError, ValueError) as error:
                raise BackupDamagedError(
                    f"{self._path} is truncated or damaged {where} ({type(error).__name__})"
                ) from None

    def _take(self, entry: tarfile.TarInfo, content: IO[bytes], pause: Pause) -> None:
        name = entry.name
        if entry.type != tarfile.REGTYPE or not _NAMES.fullmatch(name) or name in self.found:
            raise self._refuse(f"it has a part {name!r}, or has it twice")
        if (name == MANIFEST) is (self.manifest is not None):
            raise self._refuse(f"it does not begin with {MANIFEST}")
        if not 0 <= entry.size <= self._limit(name):
            raise self._refuse(f"{name} is larger than {MANIFEST} says")
        digest, text = hashlib.sha256(), io.BytesIO() if name in (MANIFEST, SUMS, SIGNATURE) else None
        left = entry.size
        with _part(self._directory, name, entry.size) as target:
            while left:
                chunk = _exactly(content, min(left, CHUNK_BYTES))
                left -= len(chunk)
                digest.update(chunk)
                for sink in filter(None, (target, text)):
                    sink.write(chunk)
                pause()
        _exactly(content, -entry.size % tarfile.BLOCKSIZE)
        self.found[name] = digest.hexdigest()
        if text is None:
            self.room -= entry.size
            return
        self.texts[name] = text.getvalue()
        if name == MANIFEST:
            self.manifest = Manifest.from_json(self.texts[name])
            self.room = self.manifest.size

    def _limit(self, name: str) -> int:
        """Return the largest size of the next part; -1: there may be none."""
        if self.manifest is None:
            return MAX_MANIFEST_BYTES
        parts = 1 + len(_OTHERS) + self.manifest.blobs
        if name in (SUMS, SIGNATURE):
            return MAX_SUM_BYTES * (parts if name == SUMS else 1)
        return self.room if len(self.found) < parts else -1

    def _refuse(self, why: str) -> BackupDamagedError:
        return BackupDamagedError(f"{self._path} is no backup: {why}")


@contextmanager
def _part(directory: Path | None, name: str, size: int) -> Iterator[IO[bytes] | None]:
    """Open the file of a part to be written; None: it is only read."""
    if directory is None or name in (SUMS, SIGNATURE):
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
