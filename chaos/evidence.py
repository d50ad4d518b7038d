"""Observations of a campaign from which its verdict is computed. Times are of `time.monotonic()`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from chaos.faults import InjectedFault
from chaos.senders import Sent
from chaos.service import Call
from flowhook.model import Status


class EndedExecution(NamedTuple):
    """An execution as it was stored at the end of the campaign; `ended`: when its end was, None: not yet."""

    flow_id: str
    status: Status
    ended: float | None = None


class LostLease(NamedTuple):
    """A stored attempt that was interrupted.

    Attributes:
        runner: that held the lease; empty: not known.
        assigned: when it got it; None: not known.
        ended: when the lease ended.
        reason: why, in words.
    """

    runner: str
    assigned: float | None
    ended: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that was seen and stored.

    Attributes:
        sent: what was sent, and how it was answered; nothing else was.
        executions: by ID, all that there are.
        calls: as the called service saw them.
        faults: that were made meanwhile.
        lost: interrupted attempts of those executions that `suspects` names.
        damaged: IDs of events whose stored body is not what was sent.
    """

    sent: Sent
    executions: Mapping[str, EndedExecution]
    calls: Sequence[Call]
    faults: Sequence[InjectedFault]
    lost: Mapping[str, Sequence[LostLease]] = field(default_factory=dict)
    damaged: Collection[str] = ()
