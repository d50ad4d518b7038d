"""Says in what the routers of a log differ that have to be the same for all: their tokens, and their clocks.

A token that only some routers know is refused once another owns the shard. Waits, timeouts and schedules are over
by the owner's clock, so a takeover moves them by the difference. Neither keeps a router from serving. A difference is
said if two looks show it: tokens are copied from one router to the next, and a heartbeat may have been on its way for
long.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import attrs

from flowhook.process import logs
from flowhook.process.process_state import ProcessState
from flowhook.reporting.process_reports import MAX_CLOCK_SKEW_SECONDS
from router.cluster.records import RouterRecord
from router.cluster.shard_map import ShardSituation

LOOK_SECONDS: Final = 5.0  # between two looks
RECENT_SECONDS: Final = 10.0  # age of the last heartbeat up to which a router is compared with
# kinds of warnings
TOKENS: Final = "tokens of routers"
CLOCKS: Final = "clocks of routers"
log = logs.get_logger(__name__)


@attrs.define(eq=False, repr=False)
class PeerDifferences:
    """Compares `router`, whose clock is `now` (Unix time, s), with the others in `situation` every `seconds`."""

    _router: str
    _process_state: ProcessState
    _situation: Callable[[], ShardSituation]
    _now: Callable[[], float] = attrs.field(default=time.time, kw_only=True)
    _seconds: float = attrs.field(default=LOOK_SECONDS, kw_only=True)
    _seen: dict[str, str] = attrs.field(init=False, factory=dict)  # what the last look showed, by kind

    async def run(self) -> None:
        """Compare until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(self._seconds)

    def look(self) -> None:
        """Compare once."""
        copies = self._situation().copies
        own = next((record for record, _ in copies if record.router == self._router), None)
        others = [(record, silence) for record, silence in copies if record.router != self._router]
        recent = [(record, silence) for record, silence in others if silence < RECENT_SECONDS]
        tokens = [record.router for record, _ in recent if own and own.tokens and record.tokens not in ("", own.tokens)]
        self._tell(TOKENS, f"tokens.json is not that of {', '.join(tokens)}: copy one to all" if tokens else "")
        clocks = [text for record, silence in recent if (text := self._clock(record, silence))]
        self._tell(CLOCKS, f"{', '.join(clocks)}: synchronise the clocks" if clocks else "")

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
