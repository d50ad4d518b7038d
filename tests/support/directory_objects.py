"""An object store in a directory, for tests: implements `router.storage.commit_log.interface.ObjectStore`."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from flowhook.errors import UnavailableError
from flowhook.security.private_files import open_private
from router.storage.commit_log.interface import ObjectDamagedError, StoredObject

DIGEST_BYTES = 32


class DirectoryObjects:
    """Each object is a file that begins with the SHA-256 of its content.

    Attributes:
        away: whether every call fails, as without a quorum.
        calls: the calls so far: (method, name).
        before_call: called before each of them.
    """

    def __init__(self, directory: Path):
        self._directory = directory
        self.away = False
        self.calls: list[tuple[str, str]] = []
        self.before_call: Callable[[], None] | None = None

    def path(self, name: str) -> Path:
        return self._directory / name

    def put(self, name: str, path: Path) -> None:
        self._call("put", name)
        content = path.read_bytes()
        target = self.path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{secrets.token_hex(8)}")
        temporary.write_bytes(hashlib.sha256(content).digest() + content)
        temporary.replace(target)

    def get(self, name: str, path: Path) -> bool:
        self._call("get", name)
        try:
            stored = self.path(name).read_bytes()
        except FileNotFoundError:
            return False
        content = stored[DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != stored[:DIGEST_BYTES]:
            raise ObjectDamagedError(f"the object {name} is damaged")
        with os.fdopen(open_private(path, os.O_WRONLY | os.O_EXCL), "wb") as file:
            file.write(content)
        return True

    def delete(self, name: str) -> None:
        self._call("delete", name)
        self.path(name).unlink(missing_ok=True)

    def names(self, prefix: str) -> list[str]:
        self._call("names", prefix)
        files = (path for path in self._directory.rglob("*") if path.is_file() and not path.name.startswith("."))
        return sorted(name for path in files if (name := str(path.relative_to(self._directory))).startswith(prefix))

    def stored(self, prefix: str) -> list[StoredObject]:
        files = [(name, self.path(name).stat()) for name in self.names(prefix)]
        return [StoredObject(name, file.st_size - DIGEST_BYTES, file.st_mtime) for name, file in files]

    def remove_orphans(self, *, older_than: float) -> int:
        return 0  # an interrupted upload leaves no file

    def _call(self, method: str, name: str) -> None:
        self.calls.append((method, name))
        if self.before_call is not None:
            self.before_call()
        if self.away:
            raise UnavailableError("the object store has no quorum", reason="LOG_UNAVAILABLE")
