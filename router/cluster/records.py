"""Content of heartbeats: the state that a router announces to the others."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Annotated, Final

import orjson
from pydantic import Field, TypeAdapter, ValidationError

from flowhook.reporting.reachability import MAX_CAUSE

HEARTBEAT_SECONDS: Final = 0.5  # between two heartbeats of a router
MAX_TEXT: Final = 512
MAX_NUMBER: Final = 2**63 - 1
MAX_UNREACHABLE: Final = 8  # most processes that a heartbeat names, each with a router that it can't call: 3 KB


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


_Text = Annotated[str, Field(max_length=MAX_TEXT)]
_Cause = Annotated[str, Field(max_length=MAX_CAUSE)]
_Number = Annotated[int, Field(ge=0, le=MAX_NUMBER)]


@dataclass(frozen=True, slots=True)
class Unreachable:
    """A router that a process can't call."""

    router: _Cause
    process: _Cause  # name of the process: an edge, a runner, or another router
    cause: _Cause  # why, for operators


@dataclass(frozen=True, slots=True)
class RouterRecord:
    """A router, as it announces itself; those of an earlier version do not announce what has a default."""

    router: _Text
    address: _Text  # `host:port` for gRPC
    version: _Text  # of its Flowhook
    state: MemberState
    epoch: _Number  # number of its ownership, if it owns the shard; else of the last ownership that it knows of
    yielded: _Number  # number of the last ownership that it gave up in order; 0: none
    position: _Number  # of the log, that it has applied
    candidate: bool  # whether it could take over now: it follows without a gap, and is not about to stop
    instance: _Text = ""  # identifies its process; see `ShardService.Identify`
    reach: _Number = 0  # how many edges and runners can call it at its address, by the reports that it has
    cut_off: _Number = 0  # how many can't call the owner of `epoch`, by the reports that it has
    # routers that it, or an edge or a runner that reports to it, can't call
    unreachable: Annotated[tuple[Unreachable, ...], Field(max_length=MAX_UNREACHABLE)] = ()
    # the router to which it hands over, or has handed over with `yielded`; empty: whichever is first
    successor: _Text = ""
    asked_epoch: _Number = 0  # number of the ownership that an operator asks to end; 0: none
    asked_successor: _Text = ""  # the router that the operator wants to own the shard
    asked_by: _Text = ""  # name of the operator's token
    tokens: _Text = ""  # fingerprint of its tokens; empty: not known
    time_ms: _Number = 0  # its clock when it announced this, Unix time in ms; 0: not known
    stopping: bool = False  # whether it is about to end, in order
    claim: _Number = 0  # position of the first record of its ownership, if it owns the shard; 0: none yet
    warning: _Text = ""  # what is wrong with it although it works, for operators
    snapshots_failing: _Number = 0  # for how many seconds its snapshots have failed; 0: the last one succeeded

    def encode(self) -> bytes:
        """Return it as JSON, at most 16 KiB, and usually less than 1."""
        return orjson.dumps(asdict(self))

    @classmethod
    def decode(cls, content: bytes) -> RouterRecord | None:
        """Parse a heartbeat; None: it is none of this version, or a value is out of its range."""
        try:
            return _RECORDS.validate_json(content, strict=True)
        except ValidationError:
            return None


_RECORDS: Final = TypeAdapter(RouterRecord)
