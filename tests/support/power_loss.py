"""A file system that records what SQLite writes and syncs, and the images that a power loss may leave of it.

After a power loss a file holds all that was written before its last sync. Of what was written since then, each sector
may be there or not, whatever the order (https://www.sqlite.org/atomiccommit.html, section 2, "Hardware Assumptions").
So it is after a sync that failed, and a later one does not store what is missing (https://lwn.net/Articles/752063/).
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import apsw

SECTOR_BYTES = 512
NAME = "recording"


class Write(NamedTuple):
    file: str
    offset: int
    data: bytes


class Truncate(NamedTuple):
    file: str
    size: int


class Sync(NamedTuple):
    file: str


class FailedSync(NamedTuple):
    file: str


class Delete(NamedTuple):
    file: str


class Recording(apsw.VFS):
    """The default file system, and a log of its changes, in order. Tests add entries of their own to `log`."""

    def __init__(self):
        self.log = []
        self._base = apsw.vfs_names()[0]
        super().__init__(NAME, self._base, makedefault=True)

    def xOpen(self, name, flags):  # noqa: N802 - apsw's name
        return _RecordedFile(self.log, self._base, name, flags)

    def xDelete(self, filename, syncdir):  # noqa: N802
        super().xDelete(filename, syncdir)
        self.log.append(Delete(Path(filename).name))


class _RecordedFile(apsw.VFSFile):
    def __init__(self, log, base, name, flags):
        self._log = log
        self._name = Path(name.filename() if isinstance(name, apsw.URIFilename) else name or "").name
        super().__init__(base, name, flags)

    def xWrite(self, data, offset):  # noqa: N802
        super().xWrite(data, offset)
        self._log.append(Write(self._name, offset, bytes(data)))

    def xTruncate(self, size):  # noqa: N802
        super().xTruncate(size)
        self._log.append(Truncate(self._name, size))

    def xSync(self, flags):  # noqa: N802
        super().xSync(flags)
        self._log.append(Sync(self._name))


@contextmanager
def recording():
    """Let all connections that are opened meanwhile use a `Recording`.

    It offers no shared memory, so they lock their database exclusively: one connection for each.
    """
    vfs = Recording()
    apsw.connection_hooks.append(_lock_exclusively)
    try:
        yield vfs
    finally:
        apsw.connection_hooks.remove(_lock_exclusively)
        vfs.unregister()


def _lock_exclusively(connection):
    connection.pragma("locking_mode", "exclusive")


class Disk:
    """Files after a prefix of a log: what is durable, and what was written since."""

    def __init__(self, random):
        self._random = random
        self._durable = {}
        self._pending = {}

    def apply(self, entry):
        match entry:
            case Write() | Truncate():
                self._pending.setdefault(entry.file, []).append(entry)
            case Sync(file=file):
                self._durable[file] = _written(self._durable.get(file, b""), self._pending.pop(file, []))
            case FailedSync(file=file):
                self._durable[file] = self._image(file)
                self._pending.pop(file, None)
            case Delete(file=file):
                self._durable.pop(file, None)
                self._pending.pop(file, None)

    def lose_power(self, directory: Path):
        """Write an image into an empty directory: what is durable, and any sectors of the rest."""
        for file in self._durable.keys() | self._pending.keys():
            (directory / file).write_bytes(self._image(file))

    def _image(self, file):
        return _written(self._durable.get(file, b""), _survivors(self._pending.get(file, ()), self._random))


def _written(content, entries):
    content = bytearray(content)
    for entry in entries:
        if isinstance(entry, Truncate):
            del content[entry.size :]
        else:
            if len(content) < entry.offset:
                content.extend(bytes(entry.offset - len(content)))
            content[entry.offset : entry.offset + len(entry.data)] = entry.data
    return bytes(content)


def _survivors(entries, random):
    share = random.choice((0.0, 0.5, 1.0))  # none, some and all of them: the ends would be rare otherwise
    for entry in entries:
        if isinstance(entry, Truncate):
            if random.random() < share:
                yield entry
            continue
        end = entry.offset + len(entry.data)
        start = entry.offset
        while start < end:
            stop = min(end, (start // SECTOR_BYTES + 1) * SECTOR_BYTES)
            if random.random() < share:
                yield Write(entry.file, start, entry.data[start - entry.offset : stop - entry.offset])
            start = stop
