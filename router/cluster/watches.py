"""Warnings to operators about a cluster: a second router of this name, differing routers, failing log servers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import attrs

from flowhook.errors import ConflictError, FlowhookError
from flowhook.model.cluster import describe_no_quorum, describe_server_lack
from flowhook.process import logs
from flowhook.process.process_state import ProcessState
from flowhook.reporting.process_reports import MAX_CLOCK_SKEW_SECONDS
from router.cluster.records import HEARTBEAT_SECONDS, RouterRecord
from router.cluster.shard_map import ShardSituation
from router.storage.commit_log.interface import Heartbeats, LogStatus

# a router that hears its name within this time after its start, and is not ready yet, is the one that ends
NEW_SECONDS: Final = 4 * HEARTBEAT_SECONDS
REPEAT_SECONDS: Final = 60.0  # between two warnings
PEERS_SECONDS: Final = 5.0  # between two looks at the other routers
RECENT_SECONDS: Final = 10.0  # age of the last heartbeat up to which a router is compared with
# kinds of warnings
TOKENS: Final = "router_tokens"
CLOCKS: Final = "router_clocks"
SERVERS: Final = "log_servers"
ADDRESS: Final = "address"
SERVERS_SECONDS: Final = 15.0  # between two looks at the servers of the log

log = logs.get_logger(__name__)


@contextlib.asynccontextmanager
async def refuse_namesake(name: str, heartbeats: Heartbeats, process_state: ProcessState) -> AsyncIterator[None]:
    """Stop the process while it is new and its name is in use; later, log an error for as long as that is so.

    Each of two routers of one name would take the other's heartbeats for its own, and never yield. If that stopped the
    process, the block ends with a ConflictError (`ROUTER_NAME_IN_USE`).
    """
    watching = asyncio.create_task(_watch(name, heartbeats, process_state), name="listen for the own name")
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.wait({watching})
    if not watching.cancelled():
        await watching


async def _watch(name: str, heartbeats: Heartbeats, process_state: ProcessState) -> None:
    started, warned = time.monotonic(), 0.0
    while True:
        heard, now = heartbeats.namesake(), time.monotonic()
        if heard and heard - started < NEW_SECONDS and not process_state.ready.is_set():
            process_state.stop.set()
            raise ConflictError(
                f"another router is named {name}: give each its own FLOWHOOK_PROCESS_NAME", reason="ROUTER_NAME_IN_USE"
            )
        if heard and now - heard < REPEAT_SECONDS and (not warned or now - warned >= REPEAT_SECONDS):
            warned = now
            log.error("another router has this one's name: give each its own FLOWHOOK_PROCESS_NAME", name=name)
        await asyncio.sleep(HEARTBEAT_SECONDS)


@attrs.define(eq=False, repr=False)
class PeerDifferences:
    """Compares `router`, whose clock is `now` (Unix time, s), with the others in `situation` now and then.

    Their tokens and clocks have to be the same. A token that only some routers know is refused once another owns the
    shard. Waits, timeouts and schedules are over by the owner's clock, so a takeover moves them by the difference.
    Neither keeps a router from serving. A difference is said if two looks show it: tokens are copied from one router to
    the next, and a heartbeat may have been on its way for long.
    """

    _router: str
    _process_state: ProcessState
    _situation: Callable[[], ShardSituation]
    _now: Callable[[], float] = attrs.field(default=time.time, kw_only=True)
    _seen: dict[str, str] = attrs.field(init=False, factory=dict)  # what the last look showed, by kind

    async def run(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(PEERS_SECONDS)

    def look(self) -> None:
        """Compare tokens, clocks and reachability with those of the other routers, and renew the warnings."""
        situation = self._situation()
        copies = situation.copies
        own = next((record for record, _ in copies if record.router == self._router), None)
        others = [(record, silence) for record, silence in copies if record.router != self._router]
        recent = [(record, silence) for record, silence in others if silence < RECENT_SECONDS]
        tokens = [record.router for record, _ in recent if own and own.tokens and record.tokens not in ("", own.tokens)]
        self._tell(TOKENS, f"tokens.json is not that of {', '.join(tokens)}: copy one to all" if tokens else "")
        clocks = [text for record, silence in recent if (text := self._clock(record, silence))]
        if 2 * len(clocks) <= len(recent):  # most agree with this router: the others say it of themselves
            clocks = []
        self._tell(CLOCKS, f"{', '.join(clocks)}: synchronise the clocks" if clocks else "")
        # not logged here: whoever can't call this router does. One that most can't call is not ready for that
        address = "" if own is None or situation.is_isolated(own) else situation.problem(own)
        self._process_state.warn(ADDRESS, address)

    def _clock(self, record: RouterRecord, silence: float) -> str:
        """Return by how much the clock differs from that of another router; empty: not, or by less than matters."""
        ahead = self._now() - record.time_ms / 1000 - silence
        if not record.time_ms or abs(ahead) <= MAX_CLOCK_SKEW_SECONDS:
            return ""
        return f"the clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} that of {record.router}"

    def _tell(self, kind: str, problem: str) -> None:
        """Log a difference once, and show it for as long as it lasts."""
        seen, self._seen[kind] = self._seen.get(kind, ""), problem
        shown = problem if seen else ""
        known = self._process_state.warn(kind, shown)
        if shown and not known:
            log.warning("routers differ", problem=shown)
        elif known and not shown:
            log.info("routers are alike again", kind=kind)


@attrs.define(eq=False, repr=False)
class LogServerWatch:
    """Logs when a server of the log is out, or back, and warns operators: the next loss would cost the quorum.

    A server counts as out when its monitoring says why, or when it is not current at two looks, one after the other: it
    may be elected or catching up at the first.
    """

    _status: Callable[[], Awaitable[LogStatus]]  # returns the state of the log
    _process_state: ProcessState  # gets the warning
    _lagging: set[str] = attrs.field(init=False, factory=set)
    _out: dict[str, str] = attrs.field(init=False, factory=dict)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(SERVERS_SECONDS)
            try:
                self.look(await self._status())
            except FlowhookError:  # it was replaced, or its objects can't be had: others report that
                continue

    def look(self, status: LogStatus) -> None:
        """Renew the warning of servers of the log that are away, and log a server that leaves or returns."""
        lagging = {server.name for server in status.servers if not server.current}
        out = {
            server.name: describe_server_lack(server)
            for server in status.servers
            if server.problem or server.name in lagging & self._lagging
        }
        for name in out.keys() - self._out.keys():
            log.warning("a server of the log is out", server=name, cause=out[name])
        for name in self._out.keys() - out.keys():
            log.info("a server of the log is back", server=name)
        self._lagging, self._out = lagging, out
        texts = "; ".join(f"the server {name} of the log is out: it {cause}" for name, cause in sorted(out.items()))
        has_quorum = 2 * len(out) < len(status.servers)
        self._process_state.warn(SERVERS, texts if has_quorum else describe_no_quorum(status.servers))
