"""`<data-dir>/run`: pid files, what runs where, and the lock that makes one supervisor the only one."""

from __future__ import annotations

import fcntl
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import orjson

from flowhook.errors import ConflictError, InvalidError
from flowhook.private_files import create, make_directory, write_private

CLUSTER_FILE: Final = "cluster.json"
LOCK_FILE: Final = "up.lock"


@dataclass(frozen=True, slots=True)
class ClusterFile:
    """Where a running cluster is reached.

    Attributes:
        pid: its supervisor's.
        http_cert_file: PEM file of the certificate that edges show; empty: they speak no TLS.
    """

    pid: int
    http_url: str
    admin_url: str
    grpc_address: str
    http_port: int
    admin_port: int
    grpc_port: int
    http_cert_file: str = ""


class RunDir:
    """The run directory, held by this process alone from construction to `close`."""

    def __init__(self, data_dir: Path) -> None:
        """Take the directory. Blocking.

        Raises:
            ConflictError: another supervisor has it (`DATA_DIR_IN_USE`).
            InvalidError: it can't be written (`DATA_DIR_UNUSABLE`).
        """
        self._path = data_dir / "run"
        try:
            # in two steps: parents are made as the umask says
            make_directory(data_dir)
            make_directory(self._path)
            self._lock = create(self._path / LOCK_FILE, os.O_RDWR)
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
        self._remove_all()  # what a supervisor left that was killed

    def write_pid(self, name: str, pid: int) -> None:
        """Tell the process ID of a process. Blocking.

        Raises:
            OSError: it can't be written.
        """
        write_private(self._path / f"{name}.pid", b"%d\n" % pid, durable=False)

    def remove_pid(self, name: str) -> None:
        """Tell that a process runs no more. Blocking.

        Raises:
            OSError: its file can't be removed.
        """
        (self._path / f"{name}.pid").unlink(missing_ok=True)

    def write_cluster(self, cluster: ClusterFile) -> None:
        """Tell where the cluster is reached. Blocking."""
        write_private(self._path / CLUSTER_FILE, orjson.dumps(asdict(cluster)) + b"\n", durable=False)

    def close(self) -> None:
        """Remove the files and release the directory. Blocking, idempotent."""
        if self._lock >= 0:
            self._remove_all()
            os.close(self._lock)
            self._lock = -1

    def _remove_all(self) -> None:
        for path in (*self._path.glob("*.pid"), self._path / CLUSTER_FILE):
            path.unlink(missing_ok=True)


def read_cluster(data_dir: Path) -> ClusterFile | None:
    """Return where the cluster on a data directory is reached, or None when none runs. Blocking."""
    try:
        cluster = ClusterFile(**orjson.loads((data_dir / "run" / CLUSTER_FILE).read_bytes()))
        os.kill(cluster.pid, 0)
    except PermissionError:
        return None
    except (OSError, ValueError, TypeError):
        return None
    return cluster
