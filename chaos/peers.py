"""Determines which process of the cluster holds the other end of a connection."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final
from weakref import WeakKeyDictionary

from chaos.cluster import BrokenCluster

UNKNOWN: Final = ""


class Peers:
    """Finds the processes of connections, each of which is looked up until it is found.

    Args:
        cluster: the processes are of it.
        names: of processes that may be found.
    """

    def __init__(self, cluster: BrokenCluster, names: Sequence[str]) -> None:
        self._cluster = cluster
        self._names = names
        self._known: WeakKeyDictionary[asyncio.BaseTransport, str] = WeakKeyDictionary()

    def name_of(self, connection: asyncio.BaseTransport | None) -> str:
        """Return the name of the process that opened a connection; `UNKNOWN`: it is gone, or is none of them."""
        if connection is None:
            return UNKNOWN
        known = self._known.get(connection, UNKNOWN)
        if known == UNKNOWN:
            ours, theirs = (connection.get_extra_info(name) for name in ("sockname", "peername"))
            known = self._known[connection] = self._find(theirs, ours)
        return known

    def _find(self, local: tuple[str, int], remote: tuple[str, int]) -> str:
        inode = _inode_of(local, remote)
        for name in self._names if inode else ():
            pid = self._cluster.pid(name)
            if pid is not None and any(_has_socket(process, inode) for process in _family(pid)):
                return name
        return UNKNOWN


def _inode_of(local: tuple[str, int], remote: tuple[str, int]) -> str:
    """Return the inode of the socket of a connection between two IPv4 addresses; empty: there is none.

    Found by its text: a busy machine has thousands of lines there, and a campaign must not stand still for them. Both
    addresses are needed: connections to other servers that ended a minute ago may have had the same local one.

    Source: Linux, Documentation/networking/proc_net_tcp.rst.
    """
    addresses = f": {_in_table(local)} {_in_table(remote)} "
    table = Path("/proc/net/tcp").read_text(encoding="ascii")
    start = table.find(addresses)
    return "" if start < 0 else table[start : table.find("\n", start)].split()[9]


def _in_table(address: tuple[str, int]) -> str:
    host, port = address
    return f"{int.from_bytes(socket.inet_aton(host), 'little'):08X}:{port:04X}"


def _family(pid: int) -> list[int]:
    """Return a process and its descendants, without a look at all processes of the machine.

    Source: Linux, Documentation/filesystems/proc.rst, 3.7.
    """
    family = [pid]
    for each in family:
        with suppress(OSError):  # it has ended
            for listed in Path(f"/proc/{each}/task").glob("*/children"):
                family += map(int, listed.read_text(encoding="ascii").split())
    return family


def _has_socket(pid: int, inode: str) -> bool:
    wanted = Path(f"socket:[{inode}]")
    with suppress(OSError), os.scandir(f"/proc/{pid}/fd") as entries:
        for entry in entries:
            with suppress(OSError):
                if Path(entry.path).readlink() == wanted:
                    return True
    return False
