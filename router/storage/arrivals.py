"""Arrivals: events for executions that listen for them, as storage takes and gives them."""

from __future__ import annotations

from typing import NamedTuple


class NewArrival(NamedTuple):
    """An event for executions of a flow that listen for it, to append.

    Attributes:
        callback: whether it came to one of the flow's callbacks, which `type` then names.
        receive_time_ms: Unix time.
        payload: the event as JSON of CloudEvents 1.0; at most `limits.MAX_RESULT_BYTES`.
        expire_at_ms: Unix time until which it is kept. Its ID is remembered as long, and for a day at least.
        dedupe_key: empty for one that is never deduplicated; scoped to the flow, and in it to the callback.
        dedupe_until_ms: Unix time until which another arrival with this key is a duplicate of this one.
        execution_id: of the one execution it is for; empty: for whichever listen.
        token: what it may be stored for once, scoped to the flow; or empty.
        token_until_ms: Unix time until which that is remembered.
        to_all: whether it goes to all that wait for it; else, of a callback, to one. What is emitted goes to all.
        only_repeated: store nothing: only tell whether it was stored before.
    """

    event_id: str
    flow_id: str
    callback: bool
    type: str
    receive_time_ms: int
    payload: bytes
    expire_at_ms: int = 0
    dedupe_key: str = ""
    dedupe_until_ms: int = 0
    execution_id: str = ""
    token: str = ""
    token_until_ms: int = 0
    to_all: bool = False
    only_repeated: bool = False


class ArrivalAppended(NamedTuple):
    """Fate of one appended arrival.

    Attributes:
        number: its place among all arrivals, from 1, ascending; 0 when it is `gone`, or is new and `only_repeated`.
        duplicate_of: ID of the event that was stored before under the same event ID or dedupe key; empty when this
            one is new. `number` is then the earlier one's.
        gone: nothing was stored, because its token was used before, or the execution it is for has ended or is unknown.
    """

    number: int
    duplicate_of: str = ""
    gone: bool = False


class LoggedArrival(NamedTuple):
    """A durable arrival, as the shard's owner is told of it; `seq` of the execution it is for, 0: whichever listen."""

    number: int
    arrival: NewArrival
    seq: int = 0


class KeptArrival(NamedTuple):
    """An arrival that was not consumed, as found at start-up; `seq` as in `LoggedArrival`, `to_all` in `NewArrival`."""

    number: int
    flow_id: str
    callback: bool
    type: str
    expire_at_ms: int
    seq: int = 0
    to_all: bool = False
