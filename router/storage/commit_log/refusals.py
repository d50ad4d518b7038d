"""The alarm of what came from the servers of the log and was made by nobody who has the key of secrets."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from typing import Final

import attrs

from flowhook.process import logs

LOG_SECONDS: Final = 10.0  # between two log lines about one kind: an attacker must not fill the log of a router either
MOST_KNOWN: Final = 1024  # most names that are remembered, so that each counts once
SHOWN_SECONDS: Final = 24 * 3600.0  # for how long operators are shown what was refused last

log = logs.get_logger(__name__)


class RefusedKind(StrEnum):
    """Kinds of what is refused."""

    RECORD = "record"
    OBJECT = "object"
    HEARTBEAT = "heartbeat"
    FACT = "fact"


@attrs.define(eq=False, repr=False)
class Refusals:
    """Counts what was refused, logs it, and describes the last of it. May be used by any thread.

    Each record, object and fact counts once, and each heartbeat.
    """

    _clock: Callable[[], float] = attrs.field(default=time.monotonic, kw_only=True)
    _counts: Counter[RefusedKind] = attrs.field(init=False, factory=Counter)
    _logged: dict[RefusedKind, tuple[float, int]] = attrs.field(init=False, factory=dict)
    _known: dict[str, None] = attrs.field(init=False, factory=dict)
    _last: str = attrs.field(init=False, default="")
    _last_at: float = attrs.field(init=False, default=0.0)
    _lock: threading.Lock = attrs.field(init=False, factory=threading.Lock)

    def add(self, kind: RefusedKind, name: str, cause: str) -> None:
        """Record that something was refused: its name or place, of which anybody may have chosen a part, and why."""
        name = "".join(each if each.isprintable() else "?" for each in name[:200])
        with self._lock:
            now = self._clock()
            if kind is not RefusedKind.HEARTBEAT and self._is_known(f"{kind} {name}"):
                return
            self._counts[kind] += 1
            self._last, self._last_at = f"the {kind} {name} was refused: {cause}", now
            logged_at, logged = self._logged.get(kind, (-LOG_SECONDS, 0))
            if now - logged_at < LOG_SECONDS:
                return
            self._logged[kind] = now, self._counts[kind]
            suppressed = self._counts[kind] - logged - 1
        log.error("refused what is not authentic", kind=kind.value, name=name, cause=cause, suppressed=suppressed)

    def _is_known(self, name: str) -> bool:
        """Whether it was refused before, as a record is whenever it is read."""
        known = name in self._known
        self._known[name] = None
        if len(self._known) > MOST_KNOWN:
            del self._known[next(iter(self._known))]
        return known

    def count(self, kind: RefusedKind) -> int:
        return self._counts[kind]

    @property
    def warning(self) -> str:
        """What operators are to know; empty: nothing was refused for a day."""
        with self._lock:
            total = sum(self._counts.values())
            if not total or self._clock() - self._last_at > SHOWN_SECONDS:
                return ""
            return f"{self._last} ({total} in all): somebody writes to the servers of the log who may not"
