"""Watches the servers of the log, and says which of them stay out: the next loss would cost the quorum."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import attrs

from flowhook.errors import FlowhookError
from flowhook.process import logs
from flowhook.process.process_state import ProcessState
from router.storage.commit_log.interface import LogStatus

LOOK_SECONDS: Final = 15.0  # between two looks
WARNING: Final = "servers of the log"  # kind of the warning
log = logs.get_logger(__name__)


@attrs.define(eq=False, repr=False)
class LogServerWatch:
    """Logs when a server of the log is out, or back, and warns operators meanwhile.

    A server counts as out when its monitoring says why, or when it is not current at two looks, one after the other: it
    may be elected or catching up at the first.
    """

    _status: Callable[[], Awaitable[LogStatus]]  # returns the state of the log
    _process_state: ProcessState  # gets the warning
    _seconds: float = attrs.field(default=LOOK_SECONDS, kw_only=True)  # between two looks
    _lagging: set[str] = attrs.field(init=False, factory=set)
    _out: dict[str, str] = attrs.field(init=False, factory=dict)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(self._seconds)
            try:
                self.look(await self._status())
            except FlowhookError:  # the log can't be reached at all: others report it
                continue

    def look(self, status: LogStatus) -> None:
        """Take in the state of the log."""
        lagging = {server.name for server in status.servers if not server.current}
        out = {
            server.name: server.problem or f"it does not answer, or is {server.lag} operations behind; see its log"
            for server in status.servers
            if server.problem or server.name in lagging & self._lagging
        }
        for name in out.keys() - self._out.keys():
            log.warning("a server of the log is out", server=name, cause=out[name])
        for name in self._out.keys() - out.keys():
            log.info("a server of the log is back", server=name)
        self._lagging, self._out = lagging, out
        texts = (f"the server {name} of the log is out: {cause}" for name, cause in sorted(out.items()))
        self._process_state.warn(WARNING, "; ".join(texts))
