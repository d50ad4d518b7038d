"""Determines which process of the cluster holds the other end of a connection."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final
from weakref import WeakKeyDictionary

from chaos.cluster import BrokenCluster

UNKNOWN: Final = ""

_SOCK_DIAG: Final = 4
_BY_FAMILY: Final = 20
_REQUEST: Final = 1
_HEADER: Final = struct.Struct("=IHHII")
"""Length, type, flags, sequence and port of a message (netlink(7))."""
_ANSWER: Final = struct.Struct("=4x48xIIIII")
"""The state and the addresses, which are skipped, the timer, both queues, the user, and the inode."""
_HOST_BYTES: Final = 16
_ALL_STATES: Final = 0xFFFFFFFF
_ANY_INTERFACE: Final = bytes(4)
_NO_COOKIE: Final = b"\xff" * 8


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

    The kernel is asked for this one connection: listing all of them, as /proc/net/tcp does, would make a campaign on a
    busy machine stand still. Both addresses are needed: connections to other servers that ended a minute ago may have
    had the same local one.

    Source: Linux, sock_diag(7).
    """
    ports = struct.pack("!HH", local[1], remote[1])
    hosts = b"".join(socket.inet_aton(host).ljust(_HOST_BYTES, b"\0") for host, _ in (local, remote))
    wanted = ports + hosts + _ANY_INTERFACE + _NO_COOKIE
    request = struct.pack("=BBxxI", socket.AF_INET, socket.IPPROTO_TCP, _ALL_STATES) + wanted
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as asking:
        asking.send(_HEADER.pack(_HEADER.size + len(request), _BY_FAMILY, _REQUEST, 0, 0) + request)
        answer = asking.recv(4096)
    _, kind, _, _, _ = _HEADER.unpack_from(answer)
    return str(_ANSWER.unpack_from(answer, _HEADER.size)[-1]) if kind == _BY_FAMILY else ""


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
