"""Determines which runner made a call, by the process that holds the other end of its connection."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final
from weakref import WeakKeyDictionary

import psutil

from chaos.cluster import RUNNERS, BrokenCluster

UNKNOWN: Final = ""


class Callers:
    """Finds the runners of connections, each of which is looked up once."""

    def __init__(self, cluster: BrokenCluster) -> None:
        self._cluster = cluster
        self._known: WeakKeyDictionary[asyncio.BaseTransport, str] = WeakKeyDictionary()

    def runner_of(self, connection: asyncio.BaseTransport | None) -> str:
        """Return the name of the runner whose process opened a connection; `UNKNOWN`: it is gone, or none did."""
        if connection is None:
            return UNKNOWN
        if connection not in self._known:
            self._known[connection] = self._find(connection.get_extra_info("peername"))
        return self._known[connection]

    def _find(self, address: tuple[str, int]) -> str:
        for name in RUNNERS:
            pid = self._cluster.pid(name)
            with suppress(psutil.Error):
                if pid is not None and address in _addresses(pid):
                    return name
        return UNKNOWN


def _addresses(pid: int) -> set[tuple[str, int]]:
    """Return the local addresses of the connections of a process and its descendants."""
    runner = psutil.Process(pid)
    found: set[tuple[str, int]] = set()
    for process in (*runner.children(recursive=True), runner):
        with suppress(psutil.Error):
            found |= {(each.laddr.ip, each.laddr.port) for each in process.net_connections("tcp")}
    return found
