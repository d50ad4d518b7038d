"""Content of heartbeats: the state that a router announces to the others."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final, Self

import orjson

from flowhook.reporting.reachability import MAX_CAUSE
from router.cluster.reachability import Unreachable

HEARTBEAT_SECONDS: Final = 0.5  # between two heartbeats of a router
# most processes that a heartbeat names, each with a router that it can't call: 3 KB
MAX_TEXT: Final = 512
MAX_NUMBER: Final = 2**63 - 1
MAX_UNREACHABLE: Final = 8


class MemberState(StrEnum):
    """States of a router with regard to the shard."""

    FOLLOWING = "following"  # it applies the records of the owner
    CLAIMING = "claiming"  # it appends the record that makes it the owner, if no other router was faster
    RECOVERING = "recovering"  # it is the owner, and loads the unfinished executions
    SERVING = "serving"  # it is the owner, and answers calls
    HANDING_OVER = "handing_over"  # it is the owner, and finishes what is under way, because it is to stop
    LOST = "lost"  # it was the owner, and another router is or will be

    @property
    def owns(self) -> bool:
        """Whether a router in this state is the owner, as far as it knows."""
        return self in (MemberState.RECOVERING, MemberState.SERVING, MemberState.HANDING_OVER)


@dataclass(frozen=True, slots=True)
class RouterRecord:
    """A router, as it announces itself."""

    router: str
    address: str  # `host:port` for gRPC
    version: str  # of its Flowhook
    state: MemberState  # see there
    epoch: int  # number of its ownership, if it owns the shard; else of the last ownership that it knows of
    yielded: int  # number of the last ownership that it gave up in order; 0: none
    position: int  # of the log, that it has applied
    candidate: bool  # whether it could take over now: it follows without a gap, and is not about to stop
    instance: str = ""  # identifies its process; see `ShardService.Identify`
    reach: int = 0  # how many edges and runners can call it at its address, by the reports that it has
    cut_off: int = 0  # how many can't call the owner of `epoch`, by the reports that it has
    # routers that it, or an edge or a runner that reports to it, can't call; at most `MAX_UNREACHABLE`
    unreachable: tuple[Unreachable, ...] = ()
    # the router to which it hands over, or has handed over with `yielded`; empty: whichever is first
    successor: str = ""
    asked_epoch: int = 0  # number of the ownership that an operator asks to end; 0: none
    asked_successor: str = ""  # the router that the operator wants to own the shard
    asked_by: str = ""  # name of the operator's token
    tokens: str = ""  # fingerprint of its tokens; empty: not known
    time_ms: int = 0  # its clock when it announced this, Unix time in ms; 0: not known
    stopping: bool = False  # whether it is about to end, in order
    claim: int = 0  # position of the first record of its ownership, if it owns the shard; 0: none yet
    warning: str = ""  # what is wrong with it although it works, for operators

    def encode(self) -> bytes:
        """Return it as JSON, at most 16 KiB, and usually less than 1."""
        return orjson.dumps(asdict(self))

    @classmethod
    def decode(cls, content: bytes) -> Self | None:
        """Parse a heartbeat; None: it is none of this version, or a value is out of its range."""
        try:
            values = orjson.loads(content)
            record = cls(
                # those that a router of an earlier version does not announce have defaults
                **{name: values[name] for name in _TEXTS | _NUMBERS | _FLAGS if name in values},
                state=MemberState(values["state"]),
                unreachable=tuple(
                    Unreachable(each["router"], each["process"], each["cause"])
                    for each in values.get("unreachable", ())
                ),
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            return None
        texts: list[Any] = [getattr(record, name) for name in _TEXTS]
        numbers: list[Any] = [getattr(record, name) for name in _NUMBERS]
        valid = (
            all(isinstance(text, str) and len(text) <= MAX_TEXT for text in texts)
            and all(type(number) is int and 0 <= number <= MAX_NUMBER for number in numbers)
            and len(record.unreachable) <= MAX_UNREACHABLE
            and all(map(_is_valid, record.unreachable))
            and all(type(getattr(record, name)) is bool for name in _FLAGS)
        )
        return record if valid else None


def _is_valid(each: Unreachable) -> bool:
    texts: list[Any] = [each.router, each.process, each.cause]
    return all(isinstance(text, str) and len(text) <= MAX_CAUSE for text in texts)


_TEXTS: Final = {
    *("router", "address", "version", "instance", "successor", "asked_successor", "asked_by", "tokens", "warning"),
}
_NUMBERS: Final = {"epoch", "yielded", "position", "reach", "cut_off", "asked_epoch", "time_ms", "claim"}
_FLAGS: Final = {"candidate", "stopping"}
