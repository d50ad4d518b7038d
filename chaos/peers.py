"""Determines which process of the cluster holds the other end of a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final
from weakref import WeakKeyDictionary

import psutil

from chaos.cluster import BrokenCluster

UNKNOWN: Final = ""


class Peers:
    """Finds the processes of connections, each of which is looked up once.

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
        if connection not in self._known:
            self._known[connection] = self._find(connection.get_extra_info("peername"))
        return self._known[connection]

    def _find(self, address: tuple[str, int]) -> str:
        for name in self._names:
            pid = self._cluster.pid(name)
            with suppress(psutil.Error):
                if pid is not None and address in _addresses(pid):
                    return name
        return UNKNOWN


def _addresses(pid: int) -> set[tuple[str, int]]:
    """Return the local addresses of the connections of a process and its descendants."""
    parent = psutil.Process(pid)
    found: set[tuple[str, int]] = set()
    for process in (*parent.children(recursive=True), parent):
        with suppress(psutil.Error):
            found |= {(each.laddr.ip, each.laddr.port) for each in process.net_connections("tcp")}
    return found
