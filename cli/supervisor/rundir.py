"""The run directory, `<data-dir>/run`: pid files, the addresses of the cluster, and the lock of its only supervisor."""

from __future__ import annotations

import fcntl
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import orjson

from flowhook.errors import ConflictError, InvalidError
from flowhook.security.private_files import make_directory, open_private, write_private

CLUSTER_FILE: Final = "cluster.json"
LOGIN_FILE: Final = "login.html"
LOCK_FILE: Final = "up.lock"
# data directory of `flowhook dev`, which no version control takes: it has keys and tokens
DEV_DATA_DIR: Final = Path(".flowhook")
_IGNORED: Final = "*\n"


@dataclass(frozen=True, slots=True)
class ClusterAddresses:
    """The addresses of a running cluster."""

    pid: int  # process ID of its supervisor
    http_url: str
    admin_url: str
    grpc_address: str
    http_port: int
    admin_port: int
    grpc_port: int
    http_cert_file: str = ""  # PEM file of the edges' certificate; empty: they do not use TLS
    public_url: str = ""  # scheme and host that senders use, which signatures may cover; empty: those of `http_url`
    # of the routers, and it may have a password; empty: the database in the data directory
    storage: str = field(default="", repr=False)


class RunDir:
    """The run directory, locked by this process from construction to `close`."""

    def __init__(self, data_dir: Path) -> None:
        """Create and lock the directory. Blocking."""
        self._path = data_dir / "run"
        try:
            # in two steps, because parents are created with the permissions of the umask
            make_directory(data_dir)
            make_directory(self._path)
            self._lock = open_private(self._path / LOCK_FILE, os.O_RDWR)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise ConflictError(
                f"a cluster is running on {data_dir} already; stop it first, or choose another --data-dir",
                reason="DATA_DIR_IN_USE",
            ) from None
        except OSError as error:
            raise InvalidError(
                f"can't use the data directory {data_dir}: {os.strerror(error.errno or 0)}", reason="DATA_DIR_UNUSABLE"
            ) from None
        self._remove_all()  # files of a supervisor that was killed

    def write_pid(self, name: str, pid: int) -> None:
        """Write the pid file of a process. Blocking. Raises `OSError`: the file can't be written."""
        write_private(self._path / f"{name}.pid", b"%d\n" % pid, durable=False)

    def remove_pid(self, name: str) -> None:
        (self._path / f"{name}.pid").unlink(missing_ok=True)

    def write_cluster(self, cluster: ClusterAddresses) -> None:
        write_private(self._path / CLUSTER_FILE, orjson.dumps(asdict(cluster)) + b"\n", durable=False)

    def write_login(self, link: str) -> Path:
        """Write a page that leads to a link, which then is in no process list; return its path. Blocking."""
        path = (self._path / LOGIN_FILE).absolute()
        page = f'<!DOCTYPE html><meta http-equiv="refresh" content="0; url={link}"><a href="{link}">Log in</a>\n'
        write_private(path, page.encode(), durable=False)
        return path

    def close(self) -> None:
        """Remove the files and release the directory. Blocking, idempotent."""
        if self._lock >= 0:
            self._remove_all()
            os.close(self._lock)
            self._lock = -1

    def _remove_all(self) -> None:
        for path in (*self._path.glob("*.pid"), self._path / CLUSTER_FILE, self._path / LOGIN_FILE):
            path.unlink(missing_ok=True)


def make_dev_directory() -> Path:
    """Create the data directory of `flowhook dev`, and return it. Blocking."""
    try:
        make_directory(DEV_DATA_DIR)
        (DEV_DATA_DIR / ".gitignore").write_text(_IGNORED)
    except OSError as error:
        raise InvalidError(f"can't use {DEV_DATA_DIR}: {error.strerror}", reason="DATA_DIR_UNUSABLE") from None
    return DEV_DATA_DIR


def read_cluster(data_dir: Path) -> ClusterAddresses | None:
    """Return the addresses of the cluster on a data directory, or None when none runs. Blocking."""
    try:
        cluster = ClusterAddresses(**orjson.loads((data_dir / "run" / CLUSTER_FILE).read_bytes()))
        os.kill(cluster.pid, 0)
    except (OSError, ValueError, TypeError):
        return None
    return cluster
